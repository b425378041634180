"""The rows of a table after a base and deltas, read from their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from tfps.export import delta_reader
from tfps.export.manifests import BaseTable
from tfps.storage import bundles
from tfps.storage.bundles import Slice

_DEVICE = "/device:CPU:0"
_SLICE_BYTES = 32 << 20


class FoldedRows:
  """What one table holds after deltas, a slice at a time.

  The feasigns of the deltas are in memory, their rows are not. The newest delta that names a
  feasign decides: it has the feasign's row, or removes it.

  Args:
    name: the table's name.
    base: the path of the base's variables, and the names of the table's tensors there.
    saved: what the base's manifest says of the table.
    deltas: paths of the deltas, in order.

  Attributes:
    rows: number of rows.
  """

  def __init__(
    self, name: str, base: tuple[str, bundles.Names], saved: BaseTable, deltas: Sequence[str]
  ) -> None:
    self._name = name
    self._base = base
    self._saved = saved
    # For each delta, the newest first: its path, and which of its rows no later delta names.
    self._newest: list[tuple[str, np.ndarray]] = []
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

  def streams(self) -> list[Iterator[Slice]]:
    """One stream of slices, each of which is read when its turn comes."""
    return [self._slices()]

  def _slices(self) -> Iterator[Slice]:
    first = 0
    for keys, rows in self._parts():
      if keys.size:
        yield Slice(_DEVICE, first, keys, rows)
        first += keys.size

  def _parts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields keys and rows of the base, then of each delta in order."""
    prefix, (_, rows_name) = self._base
    for begin, keys in self._base_slices():
      stays = ~_among(self._named, keys)
      rows = bundles.read_slice(prefix, rows_name, tf.float32, self._shape, begin, keys.size)
      yield keys[stays], rows[stays]
    for path, holds in reversed(self._newest):
      begin = 0
      for keys, rows, _ in _chunks(path, self._name):
        here = holds[begin : begin + keys.size]
        begin += keys.size
        if here.any():
          yield keys[here], rows[here]

  def _base_slices(self) -> Iterator[tuple[int, np.ndarray]]:
    """Yields slices of the base's keys, each with the number of its first row."""
    prefix, (keys_name, _) = self._base
    total, width = self._shape
    size = max(1, _SLICE_BYTES // (8 + 4 * width))
    for begin in range(0, total, size):
      yield begin, bundles.read_slice(prefix, keys_name, tf.int64, [total], begin, size)

  @property
  def _shape(self) -> list[int]:
    return [self._saved.rows, self._saved.row_width]


def _chunks(path: str, name: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Yields keys, rows and removed keys of a table in a delta; a chunk has rows or removed keys."""
  for chunk in delta_reader.open_delta(path).chunks(0, delta_reader.CHUNK_BYTES):
    if chunk.table == name:
      keys, removed = (np.asarray(part, np.int64) for part in (chunk.keys, chunk.removed))
      yield keys, chunk.rows, removed


def _among(ordered: np.ndarray, keys: np.ndarray) -> np.ndarray:
  """bool [n]: which of `keys` are in a sorted array."""
  if not ordered.size:
    return np.zeros(keys.size, bool)
  at = np.minimum(np.searchsorted(ordered, keys), ordered.size - 1)
  return ordered[at] == keys
