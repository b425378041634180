"""Freshness: the age of a stream's samples when they are trained."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import tensorflow as tf

from tfps.data.ticket import Day, Ticket
from tfps.training.callback import Callback
from tfps.training.position import Position


@dataclasses.dataclass
class Ages:
  """The seconds from its event until each of some samples was trained.

  Attributes:
    samples: the number of samples.
    total: the sum of their seconds.
    largest: the largest; 0 without samples.
  """

  samples: int = 0
  total: float = 0.0
  largest: float = 0.0

  def add(self, times: Any, now: float) -> None:
    """Counts samples with these `EventTimes` that are trained at `now`."""
    self.samples += times.samples
    self.total += times.samples * (now - times.mean)
    self.largest = max(self.largest, now - times.oldest)

  @property
  def mean(self) -> float:
    """The mean in seconds; 0 where there are no samples."""
    return self.total / self.samples if self.samples else 0.0


class Freshness(Callback):
  """Measures how old a stream's samples are when they are trained, and reports on the stream.

  Every `every_seconds` it prints a line, and writes for TensorBoard, by training step:
  `stream/seconds_to_trained` and `stream/seconds_to_trained_max`, from a sample's event to the end
  of the ticket that holds it, over the samples since the last line; `stream/samples`, `stream/late`
  and `stream/early`, all so far.

  Args:
    source: the `tfps.data.stream` that `fit` reads.
    every_seconds: seconds between two lines; no line is printed or written without new samples.
    log_dir: folder for TensorBoard's files; None for none.

  Attributes:
    ages: the `Ages` of all samples that were trained.

  Examples:
    >>> samples = tfps.data.stream("samples", lambda records: parse(records))
    >>> freshness = tfps.callbacks.Freshness(samples, every_seconds=10.0, log_dir="logs")
  """

  def __init__(self, source: Any, *, every_seconds: float = 60.0, log_dir: str | None = None):
    super().__init__()
    self.ages = Ages()
    self._source = source
    self._every_seconds = every_seconds
    self._log_dir = log_dir
    self._writer: Any = None
    self._day = ""
    self._since, self._told_at = Ages(), time.monotonic()
    self._logs: dict[str, Any] = {}
    self._events: list[Any] = []  # `EventTimes` of what was trained since the last delta

  def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
    self._told_at = time.monotonic()
    if self._log_dir is not None:
      self._writer = tf.summary.create_file_writer(self._log_dir)

  def on_day_begin(self, day: Day) -> None:
    self._day = day.name

  def on_day_resume(self, day: Day, records: int) -> None:
    self._day = day.name

  def on_ticket_end(self, ticket: Ticket) -> None:
    times, now = self._source.reader.event_times(ticket), time.time()
    self.ages.add(times, now)
    self._since.add(times, now)
    self._events.append(times)

  def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
    self._logs = logs or {}
    if time.monotonic() - self._told_at >= self._every_seconds:
      self._tell()

  def on_moment(self, position: Position) -> None:
    if position.ended or time.monotonic() - self._told_at >= self._every_seconds:
      self._tell()

  def on_idle(self) -> None:
    if time.monotonic() - self._told_at >= self._every_seconds:
      self._tell()

  def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
    self._tell()
    if self._writer is not None:
      self._writer.close()

  def take_events(self) -> dict[str, Any]:
    """The entry of a delta's manifest on the samples trained since this was last called."""
    events, self._events = self._events, []
    if not events:
      return {}
    samples = sum(times.samples for times in events)
    return {
      "events": {
        "samples": samples,
        "oldest": min(times.oldest for times in events),
        "newest": max(times.newest for times in events),
        "mean": sum(times.samples * times.mean for times in events) / samples,
      }
    }

  def summary(self) -> dict[str, float]:
    """{name: number} of all samples trained, for the run's summary."""
    reader = self._source.reader
    return {
      "seconds_to_trained": self.ages.mean,
      "seconds_to_trained_max": self.ages.largest,
      "late": reader.late if reader else 0,
      "early": reader.early if reader else 0,
    }

  def _tell(self) -> None:
    since, seconds = self._since, time.monotonic() - self._told_at
    self._since, self._told_at = Ages(), time.monotonic()
    if not since.samples:
      return
    reader = self._source.reader
    metrics = "".join(f", {name} {float(value):.4f}" for name, value in self._logs.items())
    print(
      f"{time.strftime('%H:%M:%S')} {self._day}: {since.samples:,} samples, "
      f"{since.samples / seconds:,.0f}/s, {since.mean:.1f} s after their events "
      f"(at most {since.largest:.1f} s){metrics}; so far {self.ages.samples:,}, "
      f"{reader.late:,} of them late",
      flush=True,
    )
    if self._writer is not None:
      step = int(self.model.optimizer.iterations.numpy())
      with self._writer.as_default():
        for name, value in {
          "seconds_to_trained": since.mean,
          "seconds_to_trained_max": since.largest,
          "samples": self.ages.samples,
          "late": reader.late,
          "early": reader.early,
        }.items():
          tf.summary.scalar(f"stream/{name}", value, step=step)
      self._writer.flush()
