"""EndOfDay: the day of the tables ends with the day of the source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tfps.data.ticket import Day
from tfps.table import eviction
from tfps.training.callback import Callback

if TYPE_CHECKING:
  from tfps.table.feasign_table import FeasignTable

EvictionHook = Callable[[eviction.EvictedRows], Any]


class EndOfDay(Callback):
  """Ends the day of the tables when the source's day ends: base export, eviction, ageing, decay.

  A hook that raises stops the training; the day's end can be run again, and goes on with what has
  not ended yet.

  Args:
    *tables: the `tfps.FeasignTable`s.
    base_export: functions of the `tfps.data` day, such as a `BaseExport`, called in order before
      any table's day ends. A `BaseExport` may as well stand among the callbacks of `fit`.
    before_eviction: functions of one `tfps.eviction.EvictedRows`, called with chunks of the
      feasigns that will leave.
    after_eviction: the same for those that have left.
    chunk_rows: the most rows of a chunk.

  Attributes:
    evicted: number of feasigns evicted so far.

  Raises:
    ValueError: if the hooks are no lists of functions.

  Examples:
    >>> def archive(rows):
    ...   np.savez(f"left-{rows.day}-{rows.keys[0]}.npz", keys=rows.keys)
    >>> end_of_day = tfps.callbacks.EndOfDay(table, after_eviction=[archive])
    >>> history = model.fit(source, callbacks=[end_of_day], verbose=0)
    >>> end_of_day.evicted > 0
    True
  """

  def __init__(
    self,
    *tables: FeasignTable,
    base_export: Sequence[Callable[[Day], Any]] = (),
    before_eviction: Sequence[EvictionHook] = (),
    after_eviction: Sequence[EvictionHook] = (),
    chunk_rows: int = eviction.CHUNK_ROWS,
  ):
    super().__init__()
    self._tables = tables
    self._base_export = eviction.check_hooks("base_export", base_export)
    self._hooks: dict[str, Any] = {
      "before_eviction": eviction.check_hooks("before_eviction", before_eviction),
      "after_eviction": eviction.check_hooks("after_eviction", after_eviction),
      "chunk_rows": chunk_rows,
    }
    self.evicted = 0

  def on_day_end(self, day: Day, logs: dict[str, Any] | None = None) -> None:
    for export in self._base_export:
      export(day)
    for table in self._tables:
      self.evicted += table.end_of_day(day.ordinal, **self._hooks)
