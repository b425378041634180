"""The rows of a table after a base and deltas, out of their files."""

import numpy as np
import tensorflow as tf

from tfps.export import delta_reader
from tfps.storage import bundles

_DEVICE = "/device:CPU:0"
_SLICE_BYTES = 32 << 20


class FoldedRows:
  """What one table holds after deltas, a slice at a time: `rows` and `streams()` as `TableCapture`.

  In memory are the feasigns of the deltas, their rows are not. A row is that of the newest delta
  that names its feasign, and there is none if that delta removes it.

  Args:
    name: the table's name.
    base: (path of the base's variables, names of the tensors of keys and rows).
    saved: what the base's manifest says of the table.
    deltas: paths of the deltas, in order.

  Attributes:
    rows: number of rows.
  """

  def __init__(self, name, base, saved, deltas):
    self._name = name
    self._base = base
    self._saved = saved
    self._newest = []  # (path of a delta, which of its rows no later one names), newest first
    named = np.zeros(0, np.int64)
    self.rows = 0
    for path in reversed(deltas):
      chunks = list(_chunks(path, name))
      keys = np.concatenate([np.zeros(0, np.int64), *(keys for keys, _, _ in chunks)])
      removed = [removed for _, _, removed in chunks]
      holds = ~_among(named, keys)
      self._newest.append((path, holds))
      self.rows += int(holds.sum())
      named = np.unique(np.concatenate([named, keys, *removed]))
    self._named = named
    for _, keys in self._base_slices():
      self.rows += int((~_among(named, keys)).sum())

  def streams(self):
    """One list of slices, each read when it is its turn."""
    return [self._slices()]

  def _slices(self):
    first = 0
    for keys, rows in self._parts():
      if keys.size:
        yield _DEVICE, first, keys, rows
        first += keys.size

  def _parts(self):
    prefix, (_, rows_name) = self._base
    for begin, keys in self._base_slices():
      stays = ~_among(self._named, keys)
      rows = self._read(prefix, rows_name, tf.float32, self._shape, begin, keys.size)
      yield keys[stays], rows[stays]
    for path, holds in reversed(self._newest):
      begin = 0
      for keys, rows, _ in _chunks(path, self._name):
        here = holds[begin : begin + keys.size]
        begin += keys.size
        if here.any():
          yield keys[here], rows[here]

  def _base_slices(self):
    """Yields (number of the first row, keys) of the base."""
    prefix, (keys_name, _) = self._base
    total, width = self._shape
    size = max(1, _SLICE_BYTES // (8 + 4 * width))
    for begin in range(0, total, size):
      yield begin, self._read(prefix, keys_name, tf.int64, [total], begin, size)

  @property
  def _shape(self):
    return [self._saved["rows"], self._saved["row_width"]]

  _read = staticmethod(bundles.read_slice)


def _chunks(path, name):
  """Yields (keys, rows, removed) of a table in a delta; a chunk has either rows or removed keys."""
  for chunk in delta_reader.open_delta(path).chunks(0, delta_reader.CHUNK_BYTES):
    if chunk.table == name:
      keys, removed = (np.asarray(part, np.int64) for part in (chunk.keys, chunk.removed))
      yield keys, chunk.rows, removed


def _among(ordered, keys):
  """Which of `keys` are in an array in order: bool [n]."""
  if not ordered.size:
    return np.zeros(keys.size, bool)
  at = np.minimum(np.searchsorted(ordered, keys), ordered.size - 1)
  return ordered[at] == keys
