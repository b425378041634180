"""Where the samples of a TFRecord file begin, and when they happened."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf import message

from tfps.cluster import failures
from tfps.data import bad_records, index, ranges

if TYPE_CHECKING:
  from tfps.data.parsing import Parse

_READ_AT_ONCE = 4096
_MOST_QUOTED = 300  # of an error, which may quote all of a sample
_FRAME_BYTES = 16  # length, checksum of the length, checksum of the data
_NOT_WHOLE = (
  "is not a whole TFRecord file: files must be whole when they appear, so write them under another "
  "name and rename them"
)
_YEAR_9999 = 253_370_764_800.0  # in seconds since 1970
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


class Samples(NamedTuple):
  """The samples of a file."""

  bounds: np.ndarray  # int64 [n + 1]: sample i is in bytes [bounds[i], bounds[i+1]), or in rows
  times: np.ndarray  # float64 [n]: when each happened, in seconds since 1970
  bad: tuple[
    bad_records.SkippedInIndex, ...
  ] = ()  # the `SkippedInIndex` of what is in none of these bytes
  stamp: int = 0  # of the file, see `Ticket`


def read(path: str, time: str, unit: str, skips: bool = False) -> Samples:
  """Reads a file of tf.Examples through once.

  Args:
    path: a TFRecord file.
    time: the feature with the event time, one int64, since 1970.
    unit: of that time, one of `UNITS`.
    skips: whether a sample that is damaged or has no event time counts as of the time of the one
      before it (those at the file's beginning: of the first that has one), and what is behind a
      place that cannot be read is left out.

  Returns:
    `Samples`.

  Raises:
    ValueError: the file is not whole, or a sample has no such feature or none between 1970 and
      9999; the sentence names the file.
  """
  lengths, times, problem = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], ""
  try:
    for records in tf.data.TFRecordDataset(path, buffer_size=1 << 20).batch(_READ_AT_ONCE):
      length, when = _look_at(time)(records)
      lengths.append(length.numpy())
      times.append(when.numpy())
  except tf.errors.DataLossError as error:
    problem = f"{_NOT_WHOLE} ({error.message.splitlines()[0]})"
  except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
    what = f"holds what is no tf.Example with one int64 {time!r}, its event time"
    problem = f"{what} ({failures.explain(failures.readable(error))[:_MOST_QUOTED]})"
  bounds = np.concatenate([[0], np.cumsum(np.concatenate(lengths) + _FRAME_BYTES)])
  # To TensorFlow a file ends before a length of which a part is missing.
  if not problem and bounds[-1] != tf.io.gfile.stat(path).length:
    problem = f"{_NOT_WHOLE} (truncated record at {bounds[-1]})"
  seconds = np.concatenate(times) / UNITS[unit]
  if not problem and not is_usable(seconds).all():
    problem = f"has a sample whose {unusable(time)}"
  if problem and not skips:
    raise ValueError(f"{path} {problem}.")
  if problem:
    return _read_damaged(path, time, unit)
  return Samples(bounds.astype(np.int64), seconds)


def _read_damaged(path: str, time: str, unit: str) -> Samples:
  """As `read`, sample by sample."""
  with tf.io.gfile.GFile(path, "rb") as file:
    cuts = index.cut_tfrecord(file, path, step=1, skip_damage=True)
  times = [_time_of(record, time, UNITS[unit]) for record in _records(path, cuts.bounds)]
  there = np.array([when is not None for when in times], bool)
  bad: list[bad_records.SkippedInIndex] = []
  if cuts.damage:
    bad.append(bad_records.rest_of_file(path, cuts.damage))
  if not there.any():
    if times:
      problem = f"no sample of {path} has one int64 {time!r}, its event time"
      reason = "a file without event times"
      bad.append(bad_records.SkippedInIndex(reason, len(times), path, problem))
    return Samples(np.zeros(1, np.int64), np.zeros(0), tuple(bad))
  last = np.maximum.accumulate(np.where(there, np.arange(len(times)), np.argmax(there)))
  known = np.array([when or 0.0 for when in times])[last]
  return Samples(cuts.bounds, known, tuple(bad))


def _records(path: str, bounds: np.ndarray) -> Iterator[bytes | None]:
  """Yields the records of a file, None for one whose checksum does not hold."""
  begin, most = 0, _READ_AT_ONCE
  while begin < len(bounds) - 1:
    count = min(most, len(bounds) - 1 - begin)
    try:
      yield from ranges.tfrecords(path, int(bounds[begin]), count).numpy()
    except tf.errors.DataLossError:
      if count > 1:
        most = count // 2
        continue
      yield None
    begin, most = begin + count, min(2 * most, _READ_AT_ONCE)


def _time_of(record: bytes | None, time: str, per_second: float) -> float | None:
  """The event time of a serialized tf.Example, in seconds.

  None where there is none that can be used.
  """
  if record is None:
    return None
  try:
    values = tf.train.Example.FromString(record).features.feature[time].int64_list.value
  except message.DecodeError:
    return None
  if len(values) != 1 or not is_usable(values[0] / per_second):
    return None
  return values[0] / per_second


def is_usable(seconds: Any) -> Any:
  """Whether a day can have an event time."""
  return (seconds >= 0) & (seconds < _YEAR_9999)


def unusable(time: str) -> str:
  """What is wrong with an event time that is not."""
  return f"event time {time!r} is not between 1970 and 9999"


def with_time_checked(parse: Parse, time: str, unit: str) -> Parse:
  """Makes a parse function that also refuses samples without a usable event time.

  `read` with `skips` lets them pass.
  """

  def parse_with_time(records: tf.Tensor) -> tuple:
    when = tf.io.parse_example(records, {time: tf.io.FixedLenFeature([], tf.int64)})[time]
    seconds = tf.cast(when, tf.float64) / UNITS[unit]
    bad_records.reject(~is_usable(seconds), f"the {unusable(time)}")
    return parse(records)

  return parse_with_time


@functools.cache
def _look_at(time: str) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
  @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
  def look(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    parsed = tf.io.parse_example(records, {time: tf.io.FixedLenFeature([], tf.int64)})
    return tf.strings.length(records), parsed[time]

  return look
