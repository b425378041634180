"""When the rows of a Parquet file happened."""

from __future__ import annotations

import datetime

import numpy as np

from tfps.data import bad_records
from tfps.data.columns import partitions
from tfps.data.streaming.samples import UNITS, Samples, is_usable, unusable


def read(path: str, time: str, unit: str, skips: bool = False) -> Samples:
  """Reads the event times of a Parquet file.

  Args:
    path: the file.
    time: a column of timestamps or whole numbers, or a text with keys of its folders in braces,
      such as "{dt}T{hour}:00", which is then an ISO 8601 time in UTC.
    unit: of whole numbers, one of `UNITS`.
    skips: whether a file that cannot be read is left out, and a row without an event time counts as
      of the time of the one before it.

  Returns:
    `Samples`, whose bounds are numbers of rows.

  Raises:
    ValueError: the file cannot be read, or has no such times; the sentence names the file.
  """
  from tfps.data.columns import reader

  try:
    file = reader.opened(path)
    rows = int(file.group_rows[-1])
    seconds = _of_keys(path, time, rows) if "{" in time else reader.seconds(file, time, UNITS[unit])
  except reader.NotReadError as error:
    if not skips:
      raise
    return Samples(
      np.zeros(1, np.int64), np.zeros(0), (bad_records.rest_of_file(path, str(error)),)
    )
  there = is_usable(seconds)
  if not there.all():
    if not skips:
      number = int(np.argmin(there))
      raise ValueError(f"{path} has row {number:,}, whose {unusable(time)}.")
    if not there.any():
      problem = f"no row of {path} has a usable {time!r}, its event time"
      reason = "a file without event times"
      bad = bad_records.SkippedInIndex(reason, rows, path, problem)
      return Samples(np.zeros(1, np.int64), np.zeros(0), (bad,))
    last = np.maximum.accumulate(np.where(there, np.arange(rows), np.argmax(there)))
    seconds = seconds[last]
  return Samples(np.arange(rows + 1, dtype=np.int64), seconds, (), file.stamp)


def _of_keys(path: str, time: str, rows: int) -> np.ndarray:
  """The time of all rows of a file, by its folders' keys."""
  keys = partitions.values_of(path)
  try:
    text = time.format(**keys)
    moment = datetime.datetime.fromisoformat(text)
  except (KeyError, ValueError, IndexError) as error:
    found = ", ".join(f"{key}={value}" for key, value in keys.items()) or "none"
    raise ValueError(
      f"{path} has no event time {time!r}: its folders' keys are {found}, and {error}; correct "
      "time."
    ) from None
  if moment.tzinfo is None:
    moment = moment.replace(tzinfo=datetime.timezone.utc)
  return np.full(rows, moment.timestamp())
