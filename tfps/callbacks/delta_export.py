"""DeltaExport: deltas at their times, while training goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

from tfps.data.ticket import Day
from tfps.export.exporter import Exporter, in_words
from tfps.training.callback import Callback
from tfps.training.position import Position


class DeltaExport(Callback):
  """Exports a delta after a number of examples, or of minutes.

  `fit` schedules no ticket while rows are copied on their servers, and goes on while they are
  written. Where there is no base yet that a delta could follow, a base is exported. A delta that
  cannot be written is reported and left out; the next one has what it would have held.

  Args:
    exporter: the `tfps.export.Exporter`.
    every_examples: the number of examples trained between two deltas.
    every_minutes: the minutes between two deltas; 1/6 is every ten seconds. None is exported for a
      time in which nothing was trained.
    describe: a function that returns a dict of JSON values for the delta's manifest; it is called
      when rows are copied.

  Attributes:
    paths: of the deltas so far; of several models, dicts of paths.

  Raises:
    ValueError: a number is not positive, or there is none.

  Examples:
    >>> base = tfps.callbacks.BaseExport(model, "export", source.raw_inputs, every_days=2)
    >>> delta = tfps.callbacks.DeltaExport(base.exporter, every_minutes=5)
    >>> end_of_day = tfps.callbacks.EndOfDay(table)
    >>> history = model.fit(source, callbacks=[base, end_of_day, delta], verbose=0)
    Exported export/base/1.
  """

  def __init__(
    self,
    exporter: Exporter,
    *,
    every_examples: int | None = None,
    every_minutes: float | None = None,
    describe: Callable[[], dict[str, Any]] | None = None,
  ):
    super().__init__()
    for name, value in (("every_examples", every_examples), ("every_minutes", every_minutes)):
      if value is not None and value <= 0:
        raise ValueError(f"{name} is {value}; it must be positive.")
    if every_examples is None and every_minutes is None:
      raise ValueError("every_examples or every_minutes must be given: when deltas are exported.")
    self.paths: list[Any] = []
    self._exporter = exporter
    self._describe = describe or dict
    self._every_examples = every_examples or float("inf")
    self._every_seconds = 60 * (every_minutes or float("inf"))
    self._written: futures.Future | None = None  # the one that is being written
    self._records = 0  # of the day, that are counted
    self._begin_anew()  # Examples and time count from the last export on.

  def on_day_begin(self, day: Day) -> None:
    self._records = 0

  def on_day_resume(self, day: Day, records: int) -> None:
    self._records = records

  def on_examples_left_out(self, count: int) -> None:
    self._examples -= count

  def wants_moment(self, position: Position) -> bool:
    self._count(position)
    return self._is_due() and not self._exporter.is_writing

  def on_moment(self, position: Position) -> None:
    self._count(position)
    self._tell()
    if self._exporter.bases != self._bases:  # At the day's end.
      self._begin_anew()
    if not self._is_due() or self._exporter.is_writing:
      return
    step = int(self.model.optimizer.iterations.numpy())
    if self._exporter.has_base:
      self._written = self._exporter.start_delta(day=position.day, step=step, more=self._describe())
    else:
      path = self._exporter.base(day=position.day, step=step)
      print(f"Exported {in_words(path)}.", flush=True)
    self._begin_anew()

  def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
    self._exporter.wait()
    self._tell()

  def _begin_anew(self) -> None:
    self._examples, self._last, self._bases = 0, time.monotonic(), self._exporter.bases

  def _is_due(self) -> bool:
    waited = time.monotonic() - self._last
    return self._examples >= self._every_examples or (
      waited >= self._every_seconds and self._examples > 0
    )

  def _count(self, position: Position) -> None:
    self._examples += position.records - self._records
    self._records = position.records

  def _tell(self) -> None:
    if self._written is None or not self._written.done():
      return
    error = self._written.exception()
    if error is None:
      self.paths.append(self._written.result())
    else:
      reason = " ".join(str(error).split())
      print(
        f"tfps: a delta could not be written, and the next has its rows: {reason}", file=sys.stderr
      )
    self._written = None
