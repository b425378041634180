"""The Keras callback that saves checkpoints, and goes on from the last one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfps.checkpoint import ended
from tfps.checkpoint.manager import CheckpointManager
from tfps.layers.embedding import tables_of
from tfps.training.callback import Callback
from tfps.training.position import Position

if TYPE_CHECKING:
  from tfps.export.exporter import Exporter
  from tfps.table.feasign_table import FeasignTable


class Checkpoint(Callback):
  """Saves checkpoints of model and tables while `fit` runs on a source, and resumes from the last.

  When its first `fit` begins, the newest checkpoint in `folder` is restored, and `fit` goes on
  after the tickets and days that were finished in it. Checkpoints are saved when no ticket is
  running: at days' ends, once `on_day_end` of all callbacks has run, and when `fit` ends. Those at
  days' ends are full ones.

  Args:
    folder: where the checkpoints are; every parameter server must reach it.
    tables: the `tfps.FeasignTable`s; those of the model's `tfps.Embedding` layers by default.
    every_days: save when that many days of the calendar have ended.
    every_tickets: save within a day, too, after every Nth of its tickets; not at all by default.
    every_minutes: save within a day, too, when this many minutes have passed since the last time
      and something was trained; not at all by default.
    keep: the number of checkpoints that are kept, beside those on which these depend.
    incremental: within a day write only the rows that were touched since the last checkpoint.
    exporter: the `tfps.export.Exporter` whose lineage is to go on; list callbacks that
      export before this one.
    may_differ: the slots, dense weights and layers in which the model may differ from the one of
      the newest checkpoint; see `CheckpointManager`.

  Attributes:
    manager: the `CheckpointManager`, once `fit` has begun.

  Raises:
    ValueError: a number is below 1, or no positive number of minutes.
    LockError: when `fit` begins, and another process writes to the folder.

  Examples:
    >>> saver = tfps.callbacks.Checkpoint("checkpoints", every_tickets=100)
    >>> history = model.fit(source, callbacks=[tfps.callbacks.EndOfDay(table), saver], verbose=0)
    >>> saver.manager.latest()
    'checkpoints/checkpoint-2'
  """

  def __init__(
    self,
    folder: str,
    *,
    tables: Sequence[FeasignTable] | None = None,
    every_days: int = 1,
    every_tickets: int | None = None,
    every_minutes: float | None = None,
    keep: int = 3,
    incremental: bool = True,
    exporter: Exporter | None = None,
    may_differ: Sequence[str] = (),
  ):
    super().__init__()
    for name, value in (
      ("every_days", every_days),
      ("every_tickets", every_tickets),
      ("keep", keep),
    ):
      if value is not None and value < 1:
        raise ValueError(f"{name} is {value}; it must be a whole number, at least 1.")
    if every_minutes is not None and not every_minutes > 0:
      raise ValueError(f"every_minutes is {every_minutes}; it must be positive.")
    self.moment_every_tickets = every_tickets
    self._every_seconds = 60 * (every_minutes or float("inf"))
    self._saved_at = time.monotonic()
    self.manager: CheckpointManager | None = None
    self._beginning: CheckpointManager | None = None
    self._folder = str(folder)
    self._tables = tables
    self._every_days = every_days
    self._keep = keep
    self._incremental = incremental
    self._exporter = exporter
    self._may_differ = may_differ
    self._position: Position | None = None
    self._saved: Position | None = None

  def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
    if self.manager is None:
      tables = tables_of(self.model) if self._tables is None else self._tables
      self._beginning = CheckpointManager(
        self._folder,
        self.model,
        tables,
        keep=self._keep,
        exporter=self._exporter,
        may_differ=self._may_differ,
      )
    ended.clear(self._folder)

  def resume(self) -> Position | None:
    manager, self._beginning = self._beginning, None
    if manager is None:
      return None
    path = manager.latest()
    calendar = manager.restore(path) if path else None
    self.manager = manager
    if calendar is None:
      return None
    self._position = self._saved = Position(**calendar)
    self._saved_at = time.monotonic()
    print(f"Going on from {path}: {self._saved}.", flush=True)
    return self._saved

  def wants_moment(self, position: Position) -> bool:
    return self._waited_enough() and not self._is_saved(position)

  def on_moment(self, position: Position) -> None:
    self._position = position
    if position.ended:
      due = (position.day + 1) % self._every_days == 0
    else:
      every = self.moment_every_tickets
      due = (every is not None and position.tickets % every == 0) or self._waited_enough()
    if due and not self._is_saved(position):
      self._save()

  def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
    if self._position != self._saved:
      self._save()
    if self.manager is not None:
      ended.mark(self._folder)
      self.manager.close()

  def _waited_enough(self) -> bool:
    return time.monotonic() - self._saved_at >= self._every_seconds

  def _is_saved(self, position: Position) -> bool:
    """Whether nothing was trained, and no day has ended, since the last checkpoint."""
    return self._saved is not None and _place(position) == _place(self._saved)

  def _save(self) -> None:
    assert self.manager is not None and self._position is not None  # `fit` has begun.
    self.manager.save(
      self._position.as_dict(), incremental=self._incremental and not self._position.ended
    )
    self._saved, self._saved_at = self._position, time.monotonic()


def _place(position: Position) -> tuple:
  return position.epoch, position.day, position.tickets, position.ended
