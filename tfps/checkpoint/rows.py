"""Rows of a checkpoint in memory, as NumPy columns."""

from typing import NamedTuple

import numpy as np

ADMITTED, SERVED = 1, 2  # bits of flags


class SavedRows(NamedTuple):
  """n rows.

  Attributes:
    keys: int64 [n], the feasigns, each once.
    slots: int32 [n], the numbers of the slots that created them.
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
  def admitted(self):
    """bool [n]: which own an mf vector."""
    return (self.flags & ADMITTED) != 0

  @property
  def served(self):
    """bool [n]: which are in what serving holds."""
    return (self.flags & SERVED) != 0

  @property
  def nbytes(self):
    """Bytes of all columns."""
    return sum(column.nbytes for column in self)

  def row_floats(self, i):
    """The floats of row i."""
    return self.floats[self.offsets[i] : self.offsets[i + 1]]

  def take(self, which):
    """Some of the rows: `which` is bool [n], or their positions in the order wanted."""
    which = np.asarray(which)
    if which.dtype == bool:
      which = np.flatnonzero(which)
    widths = np.diff(self.offsets)[which]
    offsets = _offsets(widths)
    # Float j of the result is as far from its row's first as it is here.
    floats = np.arange(offsets[-1]) + np.repeat(self.offsets[which] - offsets[:-1], widths)
    columns = [column[which] for column in self[:5]]
    return SavedRows(*columns, self.floats[floats], offsets)


def make_rows(keys, slots, statistics, unseen_days, flags, floats, layout):
  """`SavedRows` whose offsets follow from the `TableLayout`.

  Raises:
    ValueError: there are more or fewer floats than such rows have, or the columns differ in length.
  """
  if any(len(column) != len(keys) for column in (slots, statistics, unseen_days, flags)):
    raise ValueError("its columns are not of one length")
  offsets = _offsets(layout.widths(slots, (flags & ADMITTED) != 0))
  if offsets[-1] != len(floats):
    raise ValueError(
      f"it has {len(floats)} floats, but by the table's options its rows have {offsets[-1]}"
    )
  return SavedRows(keys, slots, statistics, unseen_days, flags, floats, offsets)


def concat(parts):
  """The rows of all parts, of which there is at least one."""
  if len(parts) == 1:
    return parts[0]
  columns = [np.concatenate(column) for column in zip(*(part[:6] for part in parts))]
  return SavedRows(*columns, _offsets(np.concatenate([np.diff(part.offsets) for part in parts])))


class SavedShard(NamedTuple):
  """One virtual shard.

  Attributes:
    number: which.
    rows: its `SavedRows`.
    finished_day: int, ordinal of the last day that it has ended.
    removals: int64 [r], keys that serving holds and that left since the last delta.
  """

  number: int
  rows: SavedRows
  finished_day: int
  removals: np.ndarray


def _offsets(widths):
  return np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
