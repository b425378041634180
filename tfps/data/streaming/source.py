"""Streams as sources: samples that keep arriving, trained as they come."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from tfps.data.columns.source import ParquetSource
from tfps.data.file_source import FileSource
from tfps.data.streaming import rows, samples
from tfps.data.streaming.days import DayRule
from tfps.data.streaming.folder import Folder
from tfps.data.streaming.reader import StreamReader

if TYPE_CHECKING:
  from typing_extensions import Self

  from tfps.data.bad_records import SkippedInIndex
  from tfps.data.parsing import Parse
  from tfps.data.streaming.kafka import Topic
  from tfps.data.ticket import Day, Ticket


def stream(
  arrivals: str | os.PathLike | Folder | Topic,
  parse: Parse,
  *,
  format: str = "tfrecord",
  time: str = "time",
  time_unit: str = "ms",
  day_seconds: float = 86400.0,
  offset_seconds: float = 0.0,
  grace_seconds: float = 0.0,
  past_samples: int = 10,
  poll_seconds: float = 1.0,
  stop_after_idle: float = 0.0,
  batch_size: int = 512,
  batches_per_ticket: int = 10,
  **reading: Any,
) -> StreamSource:
  """Makes an endless source of samples that keep arriving; `fit` trains on them as they come.

  Args:
    arrivals: a folder in which TFRecord files of tf.Examples keep arriving, or a `tfps.data.Folder`
      or `tfps.data.Topic`.
    parse: maps n serialized tf.Examples, a string tensor [n], or the columns of n rows, to (x, y)
      or (x, y, weight), as in `tfps.data.source`.
    format: of the files: "tfrecord" or "parquet".
    time: the feature that holds a sample's event time, one int64. Of Parquet a column of timestamps
      or whole numbers, or a text with keys of the folders: "{dt}T{hour}:00" is the hour of
      dt=2026-01-01/hour=03.
    time_unit: of it, since 1970: "s", "ms", "us" or "ns".
    day_seconds: the length of a day.
    offset_seconds: when a day begins, after midnight UTC.
    grace_seconds: a day ends before the `past_samples`th sample whose event time lies this far
      beyond it.
    past_samples: see `grace_seconds`; one wrong clock ends no day.
    poll_seconds: how often to look for new files while there are none.
    stop_after_idle: end when nothing has come for this many seconds; 0: never.
    batch_size: examples per batch.
    batches_per_ticket: a ticket holds at most this many batches of one file.
    **reading: more arguments of `tfps.data.file_source.FileSource`; of Parquet also `nulls`, and
      `schema_of`, a list of files that say which columns there are, by default the first that is in
      the folder.

  Returns:
    A `StreamSource`.

  Raises:
    ValueError: an argument does not fit, or there is no Parquet file yet that says which columns
      there are.

  Examples:
    >>> sample = tf.train.Example()
    >>> sample.features.feature["user_id"].bytes_list.value.append(b"u7")
    >>> sample.features.feature["click"].float_list.value.append(1.0)
    >>> sample.features.feature["time"].int64_list.value.append(1_780_000_000_000)
    >>> os.mkdir("samples")
    >>> with tf.io.TFRecordWriter("samples/1.tfrecord") as file:
    ...   file.write(sample.SerializeToString())
    >>> def parse(samples):
    ...   spec = {
    ...     "user_id": tf.io.FixedLenFeature([], tf.string),
    ...     "click": tf.io.FixedLenFeature([1], tf.float32),
    ...   }
    ...   features = tf.io.parse_example(samples, spec)
    ...   return {"user_id": tfps.feasign("user_id", features["user_id"])}, features["click"]
    >>> samples = tfps.data.stream("samples", parse, stop_after_idle=0.1)
    >>> inputs = {"user_id": keras.Input([], dtype=tf.int64, name="user_id")}
    >>> embedded = tfps.Embedding(table, ["user_id"])(inputs)
    >>> users = tfps.Model(inputs, tf.sigmoid(embedded.lr_logit))
    >>> users.compile("adam", "binary_crossentropy")
    >>> history = users.fit(samples, callbacks=[tfps.callbacks.EndOfDay(table)], verbose=0)
  """
  if isinstance(arrivals, (str, os.PathLike)):
    arrivals = Folder(arrivals)
  if format not in _FORMATS:
    raise ValueError(f"format is {format!r}; it must be one of {', '.join(_FORMATS)}.")
  rule = DayRule(day_seconds, offset_seconds, grace_seconds, past_samples)
  return _FORMATS[format](
    arrivals, parse, rule, time=time, time_unit=time_unit, poll_seconds=poll_seconds,
    stop_after_idle=stop_after_idle, batch_size=batch_size, batches_per_ticket=batches_per_ticket,
    **reading,
  )  # fmt: skip


class StreamSource(FileSource):
  """The source behind `tfps.data.stream`, of TFRecord files.

  Args:
    arrivals: the `Folder` or `Topic` that samples come from.
    parse: as in `tfps.data.source`.
    day_rule: the `DayRule`.
    time, time_unit, poll_seconds, stop_after_idle: as in `tfps.data.stream`.
    **reading: arguments of `FileSource`.

  Attributes:
    arrivals, day_rule, time, time_unit, poll_seconds, stop_after_idle: as given.
    records_per_ticket: the most records in a ticket.
    reader: the `StreamReader` of the `fit` that reads it; None before.
    stopped: whether `stop` was called.
  """

  is_endless = True
  _format: Mapping[str, Any] = {"tfrecord": True}

  def __init__(
    self,
    arrivals: Folder | Topic,
    parse: Parse,
    day_rule: DayRule,
    *,
    time: str,
    time_unit: str,
    poll_seconds: float,
    stop_after_idle: float,
    **reading: Any,
  ) -> None:
    # The files are not known before they arrive.
    super().__init__({}, self._timed(parse, time, time_unit, **reading), **self._format, **reading)
    if time_unit not in samples.UNITS:
      raise ValueError(f"time_unit is {time_unit!r}; it must be one of {', '.join(samples.UNITS)}.")
    if not poll_seconds > 0:
      raise ValueError(f"poll_seconds is {poll_seconds!r}; it must be positive.")
    if stop_after_idle < 0:
      raise ValueError(f"stop_after_idle is {stop_after_idle!r}; it must be 0 or more seconds.")
    self.arrivals = arrivals
    self.day_rule = day_rule
    self.time, self.time_unit = time, time_unit
    self.poll_seconds, self.stop_after_idle = poll_seconds, stop_after_idle
    self.records_per_ticket = self._records_per_ticket
    self.reader: StreamReader | None = None
    self.stopped = False

  @staticmethod
  def _timed(parse: Parse, time: str, unit: str, **reading: Any) -> Parse:
    """The parse function, which refuses samples without a usable event time where they come."""
    skips = reading.get("on_bad_record") == "skip"
    return samples.with_time_checked(parse, time, unit) if skips else parse

  def samples_of(self, path: str) -> samples.Samples:
    """The `Samples` of a file that has arrived."""
    return samples.read(path, self.time, self.time_unit, self.skips)

  def read(self, cursor: Mapping[str, Any] | None = None) -> StreamReader:
    """A `StreamReader` from the beginning or from a cursor on, which is then `reader`."""
    reader = StreamReader(self, cursor)
    self.reader = reader
    return reader

  def stop(self) -> None:
    """Ends the stream: `fit` returns when the tickets that have begun are finished.

    A signal handler may call it.
    """
    self.stopped = True

  def days(self) -> NoReturn:
    """Refused: the days of a stream are not known beforehand."""
    raise ValueError(
      "a stream has no list of days, and no end: evaluate on files that are there, with "
      "tfps.data.source."
    )

  def tickets(self, day: Day | int | str | None = None) -> NoReturn:
    """Refused, as `days`."""
    del day
    self.days()

  @property
  def skips(self) -> bool:
    """Whether samples that cannot be used are left out."""
    return self._skips

  def skipped_in_index(self, day: Day | int | str) -> list[SkippedInIndex]:
    del day
    return []

  def skipped_with(self, ticket: Ticket) -> list[SkippedInIndex]:
    return self.reader.skipped_with(ticket) if self.reader else []

  def with_epoch(self, epoch: int) -> Self:
    del epoch
    return copy.copy(self)


class ParquetStreamSource(StreamSource, ParquetSource):
  """The source behind `tfps.data.stream`, of Parquet files; arguments as of `StreamSource`."""

  _format: Mapping[str, Any] = {}

  def __init__(self, arrivals: Folder | Topic, parse: Any, day_rule: DayRule, **reading: Any):
    if not isinstance(arrivals, Folder):
      raise ValueError("format is 'parquet', and a topic's messages are tf.Examples: leave it out.")
    if not reading.get("schema_of"):
      first = arrivals.first_path()
      if first is None:
        raise ValueError(
          f"{arrivals} has no file yet that says which columns there are: name one in schema_of, a "
          "list, or wait for the first."
        )
      reading["schema_of"] = [first]
    super().__init__(arrivals, parse, day_rule, **reading)

  @staticmethod
  def _timed(parse: Parse, time: str, unit: str, **reading: Any) -> Parse:
    return parse

  def samples_of(self, path: str) -> samples.Samples:
    return rows.read(path, self.time, self.time_unit, self.skips)


_FORMATS = {"tfrecord": StreamSource, "parquet": ParquetStreamSource}
