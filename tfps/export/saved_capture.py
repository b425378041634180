"""The rows of an export, read from a checkpoint's files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfps.checkpoint.reader import Progress, SavedTable, no_progress
from tfps.export.predicates import Predicates
from tfps.export.trained import BaseRows
from tfps.storage.bundles import Slice

if TYPE_CHECKING:
  from tfps.table.feasign_table import FeasignTable

_DEVICE = "/device:CPU:0"
_SLICE_BYTES = 32 << 20


class SavedCapture:
  """What one table of a checkpoint gives to a base: like a `TableCapture`, a slice at a time.

  The checkpoint is read twice: now to count rows, and again when the rows are written. The
  accessors that the checkpoint was saved with decide which rows the base holds.

  Args:
    table: the empty table of the model that is exported.
    saved: the table in the checkpoint.
    slots: the names of the slots whose rows the base holds.
    row_width: floats of a row: `table.row_width`, or 2 more for show and click.
    wanted: int64 [n], feasigns whose rows are kept in memory for `find`.
    progress: shows how far the reading is.

  Attributes:
    table, row_width: the arguments.
    slots: {name: number in the table} of these slots.
    rows: number of rows.

  Raises:
    CheckpointError: a file is damaged.
  """

  def __init__(
    self,
    table: FeasignTable,
    saved: SavedTable,
    slots: Collection[str],
    row_width: int,
    wanted: np.ndarray,
    progress: Progress = no_progress,
  ) -> None:
    self.table, self.row_width = table, row_width
    self.slots = {slot: table.slots[slot] for slot in sorted(slots)}
    self._saved = saved
    self._progress = progress
    self.rows = 0
    all_keys, all_rows = [np.zeros(0, np.int64)], [np.zeros([0, row_width], np.float32)]
    for shard_keys, shard_rows in self._shards():
      self.rows += len(shard_keys)
      kept = np.isin(shard_keys, wanted)
      all_keys.append(shard_keys[kept])
      all_rows.append(shard_rows[kept])
    keys = np.concatenate(all_keys)
    order = np.argsort(keys)
    self._keys, self._rows = keys[order], np.concatenate(all_rows)[order]

  @property
  def predicates(self) -> Predicates:
    """Which rows a base holds, for the manifest."""
    layout, saved = self._saved.layout, self._saved.slots
    own = {slot: layout.slot(saved[slot]).accessor for slot in self.slots if slot in saved}
    common = layout.slot(None).accessor
    return Predicates.of(
      common, {slot: accessor for slot, accessor in own.items() if accessor != common}
    )

  def streams(self) -> list[Iterator[Slice]]:
    """One stream of slices, each of which is read when its turn comes."""
    return [self._slices()]

  def find(self, keys: np.ndarray) -> np.ndarray:
    """float32 [n, row_width]: rows of wanted feasigns; zeros where the base has no such row."""
    found = np.zeros([len(keys), self.row_width], np.float32)
    if self._keys.size:
      at = np.minimum(np.searchsorted(self._keys, keys), self._keys.size - 1)
      there = self._keys[at] == keys
      found[there] = self._rows[at[there]]
    return found

  def _slices(self) -> Iterator[Slice]:
    first = 0
    keys: list[np.ndarray] = []
    rows: list[np.ndarray] = []
    for shard_keys, shard_rows in self._shards():
      keys.append(shard_keys)
      rows.append(shard_rows)
      if sum(map(np.size, rows)) * 4 >= _SLICE_BYTES:
        yield _slice(first, keys, rows)
        first += sum(map(len, keys))
        keys, rows = [], []
    if sum(map(len, keys)):
      yield _slice(first, keys, rows)

  def _shards(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the keys and rows that the base holds, shard after shard."""
    layout = self._saved.layout
    numbers = [number for slot, number in self._saved.slots.items() if slot in self.slots]
    for shard in self._progress(self._saved.shards(), self._saved.num_shards):
      of_slots = np.isin(shard.rows.slots, numbers)
      held = shard.rows.take(layout.in_base(shard.rows) & of_slots)
      rows = layout.weights(held, self.table.row_width)
      if self.row_width > self.table.row_width:
        rows = np.concatenate([rows, held.statistics[:, :2].astype(np.float32)], axis=1)
      yield held.keys, rows


class WantedKeys(BaseRows):
  """Stands for a table whose rows are not read yet: all rows are zeros.

  It records which feasigns are looked up.
  """

  def __init__(self, table: FeasignTable) -> None:
    super().__init__(table, ())
    self._asked = [np.zeros(0, np.int64)]

  @property
  def keys(self) -> np.ndarray:
    """int64 [n]: the feasigns that were looked up so far."""
    return np.unique(np.concatenate(self._asked))

  def rows(self, keys: Sequence[tf.Tensor], statistics: bool) -> tf.Tensor:
    self._asked += [part.numpy() for part in keys]
    return tf.zeros([sum(len(part) for part in keys), self._table.row_width + 2 * statistics])


class CapturedRows(BaseRows):
  """The rows of a `SavedCapture`."""

  def __init__(self, capture: SavedCapture) -> None:
    super().__init__(capture.table, capture.slots)
    self._capture = capture

  def rows(self, keys: Sequence[tf.Tensor], statistics: bool) -> tf.Tensor:
    del statistics  # The capture has them if the model reads them.
    return tf.constant(self._capture.find(tf.concat(keys, axis=0).numpy()))


def _slice(first: int, keys: Sequence[np.ndarray], rows: Sequence[np.ndarray]) -> Slice:
  return Slice(_DEVICE, first, np.concatenate(keys), np.concatenate(rows))
