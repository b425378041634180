"""Rows of a checkpoint in memory, as NumPy columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
  from tfps.table.layout import TableLayout

ADMITTED, SERVED = 1, 2  # Bits of `flags`.
UNKNOWN_SLOT = -1


class SavedRows(NamedTuple):
  """n rows.

  Attributes:
    keys: int64 [n], distinct feasigns.
    slots: int32 [n], the number of the slot that created each row.
    statistics: float64 [n, 3]: show, click, delta_score.
    unseen_days: uint16 [n], whole days since the last push.
    flags: uint16 [n]: 1 admitted, 2 served.
    floats: float32 [m], row after row: lr_w, lr state and, if admitted, mf_w, mf state.
    offsets: int64 [n + 1]: row i has floats[offsets[i] : offsets[i + 1]].
  """

  keys: np.ndarray
  slots: np.ndarray
  statistics: np.ndarray
  unseen_days: np.ndarray
  flags: np.ndarray
  floats: np.ndarray
  offsets: np.ndarray

  @property
  def admitted(self) -> np.ndarray:
    """bool [n]: which rows have an mf vector."""
    return (self.flags & ADMITTED) != 0

  @property
  def served(self) -> np.ndarray:
    """bool [n]: which rows serving holds."""
    return (self.flags & SERVED) != 0

  @property
  def nbytes(self) -> int:
    """Bytes of all columns."""
    return sum(column.nbytes for column in self)

  def row_floats(self, i: int) -> np.ndarray:
    """The floats of row i."""
    return self.floats[self.offsets[i] : self.offsets[i + 1]]

  def take(self, which: np.ndarray) -> SavedRows:
    """Some of the rows: `which` is bool [n], or the positions of the rows in the order wanted."""
    which = np.asarray(which)
    if which.dtype == bool:
      which = np.flatnonzero(which)
    widths = np.diff(self.offsets)[which]
    offsets = _offsets(widths)
    # For each float of the result its position here: both are as far from their row's first float.
    floats = np.arange(offsets[-1]) + np.repeat(self.offsets[which] - offsets[:-1], widths)
    return SavedRows(
      keys=self.keys[which],
      slots=self.slots[which],
      statistics=self.statistics[which],
      unseen_days=self.unseen_days[which],
      flags=self.flags[which],
      floats=self.floats[floats],
      offsets=offsets,
    )


def make_rows(
  keys: np.ndarray,
  slots: np.ndarray,
  statistics: np.ndarray,
  unseen_days: np.ndarray,
  flags: np.ndarray,
  floats: np.ndarray,
  layout: TableLayout,
) -> SavedRows:
  """`SavedRows` with the offsets that a table's layout gives them.

  Raises:
    ValueError: such rows have more or fewer floats, or the columns differ in length.
  """
  if any(len(column) != len(keys) for column in (slots, statistics, unseen_days, flags)):
    raise ValueError("its columns are not of one length")
  offsets = _offsets(layout.widths(slots, (flags & ADMITTED) != 0))
  if offsets[-1] != len(floats):
    raise ValueError(
      f"it has {len(floats)} floats, but by the table's options its rows have {offsets[-1]}"
    )
  return SavedRows(keys, slots, statistics, unseen_days, flags, floats, offsets)


def concat(parts: Sequence[SavedRows]) -> SavedRows:
  """The rows of all parts; there is at least one part."""
  if len(parts) == 1:
    return parts[0]
  columns = {
    name: np.concatenate([getattr(part, name) for part in parts])
    for name in SavedRows._fields
    if name != "offsets"
  }
  widths = np.concatenate([np.diff(part.offsets) for part in parts])
  return SavedRows(**columns, offsets=_offsets(widths))


class SavedShard(NamedTuple):
  """One virtual shard.

  Attributes:
    number: its number in the table.
    rows: its rows.
    finished_day: the ordinal of the last day that ended for it.
    removals: int64 [r], feasigns that serving holds and that were evicted since the last delta.
    removal_slots: int32 [r], the slots of their rows; -1 where the checkpoint does not say.
  """

  number: int
  rows: SavedRows
  finished_day: int
  removals: np.ndarray
  removal_slots: np.ndarray


def _offsets(widths: np.ndarray) -> np.ndarray:
  return np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
