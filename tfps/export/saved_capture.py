"""The rows of an export, out of a checkpoint's files."""

import numpy as np
import tensorflow as tf

from tfps.export import base_artifact
from tfps.export.trained import BaseRows

_DEVICE = "/device:CPU:0"
_SLICE_BYTES = 32 << 20


class SavedCapture:
  """What one table of a checkpoint gives to a base export: as `TableCapture`, a slice at a time.

  The checkpoint is read twice: now to count, and when the rows are written. The predicate is that of
  the accessors that the checkpoint was saved with.

  Args:
    table: the `tfps.FeasignTable`, empty, whose model the export is of.
    saved: the `tfps.checkpoint.reader.SavedTable`.
    wanted: int64 array, feasigns whose rows are kept at hand.
    progress: a function of (iterator of shards, their number) that returns it with a progress bar.

  Attributes:
    table: the table.
    rows: number of rows.

  Raises:
    CheckpointError: what the files hold is damaged.
  """

  def __init__(self, table, saved, wanted, progress=lambda shards, total: shards):
    self.table = table
    self._saved = saved
    self._progress = progress
    self.rows = 0
    keys, rows = [np.zeros(0, np.int64)], [np.zeros([0, table.row_width], np.float32)]
    for shard_keys, shard_rows in self._shards():
      self.rows += len(shard_keys)
      at_hand = np.isin(shard_keys, wanted)
      keys.append(shard_keys[at_hand])
      rows.append(shard_rows[at_hand])
    keys = np.concatenate(keys)
    order = np.argsort(keys)
    self._keys, self._rows = keys[order], np.concatenate(rows)[order]

  @property
  def predicates(self):
    """Which rows a base holds, for the manifest."""
    layout, slots = self._saved.layout, self._saved.slots
    own = {slot: layout.slot(slots[slot]).accessor for slot in slots}
    common = layout.slot(None).accessor
    return base_artifact.predicates(
      common, {slot: accessor for slot, accessor in own.items() if accessor != common}
    )

  def streams(self):
    """One list of slices, each read when it is its turn."""
    return [self._slices()]

  def find(self, keys):
    """float32 [n, row_width] of wanted feasigns; zeros for those that a base does not hold."""
    found = np.zeros([len(keys), self.table.row_width], np.float32)
    if self._keys.size:
      at = np.minimum(np.searchsorted(self._keys, keys), self._keys.size - 1)
      there = self._keys[at] == keys
      found[there] = self._rows[at[there]]
    return found

  def _slices(self):
    first = 0
    keys, rows = [], []
    for shard_keys, shard_rows in self._shards():
      keys.append(shard_keys)
      rows.append(shard_rows)
      if sum(map(np.size, rows)) * 4 >= _SLICE_BYTES:
        yield _slice(first, keys, rows)
        first += sum(map(len, keys))
        keys, rows = [], []
    if sum(map(len, keys)):
      yield _slice(first, keys, rows)

  def _shards(self):
    """Yields (keys, rows) that a base holds, shard after shard."""
    layout = self._saved.layout
    for shard in self._progress(self._saved.shards(), self._saved.num_shards):
      held = shard.rows.take(layout.in_base(shard.rows))
      yield held.keys, layout.weights(held, self.table.row_width)


class WantedKeys(BaseRows):
  """Rows of a table of which nothing is known yet: zeros. It notes which feasigns are asked for."""

  def __init__(self, table):
    super().__init__(table)
    self._asked = [np.zeros(0, np.int64)]

  @property
  def keys(self):
    """int64 array of the feasigns so far."""
    return np.unique(np.concatenate(self._asked))

  def rows(self, keys):
    self._asked += [part.numpy() for part in keys]
    return tf.zeros([sum(len(part) for part in keys), self._table.row_width])


class CapturedRows(BaseRows):
  """The rows of a `SavedCapture`."""

  def __init__(self, capture):
    super().__init__(capture.table)
    self._capture = capture

  def rows(self, keys):
    return tf.constant(self._capture.find(tf.concat(keys, axis=0).numpy()))


def _slice(first, keys, rows):
  return _DEVICE, first, np.concatenate(keys), np.concatenate(rows)
