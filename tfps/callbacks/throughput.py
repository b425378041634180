"""Throughput: examples trained per second."""

from __future__ import annotations

import time
from typing import Any

from tfps.data.ticket import Day
from tfps.training.callback import Callback
from tfps.training.position import Position


class Throughput(Callback):
  """Measures the examples trained per second; tests and exports between the days do not count.

  Attributes:
    examples: number of examples trained.
    seconds: time from each day's first ticket to its last.

  Examples:
    >>> throughput = tfps.callbacks.Throughput()
    >>> history = model.fit(source, callbacks=[throughput], verbose=0)
    >>> throughput.examples
    128
  """

  def __init__(self) -> None:
    super().__init__()
    self.examples = 0
    self.seconds = 0.0
    self._began: float | None = None
    self._before = self._within = 0

  def on_day_begin(self, day: Day) -> None:
    self.on_day_resume(day, 0)

  def on_day_resume(self, day: Day, records: int) -> None:
    self._began = time.monotonic()
    self._before = self._within = records

  def on_moment(self, position: Position) -> None:
    self._within = position.records

  def on_records_skipped(self, counts: dict[str, int]) -> None:
    self.examples -= sum(counts.values())

  def on_examples_left_out(self, count: int) -> None:
    self.examples -= count

  def on_day_trained(self, day: Day, logs: dict[str, Any] | None = None) -> None:
    self._within = day.records
    self._count()

  def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
    self._count()  # Of a day that has not ended.

  def _count(self) -> None:
    if self._began is not None:
      self.examples += self._within - self._before
      self.seconds += time.monotonic() - self._began
    self._began = None

  @property
  def examples_per_second(self) -> float:
    """Examples per second of training; 0 before the first."""
    return self.examples / self.seconds if self.seconds else 0.0
