"""Reading a delta: the chunks in which its entries, rows and removed keys, are sent."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfps.export import artifact
from tfps.export.manifests import DeltaManifest
from tfps.storage import bundles, paths

CHUNK_BYTES = 64 * 1024
# Reading a part of a tensor reads all that one parameter server wrote of it: so read large parts.
_BLOCK = 1 << 20


def open_delta(path: str) -> Delta:
  """The delta at a path; its files are compared with their checksums.

  Raises:
    ExportError: there is no delta, or a file is missing or damaged.
  """
  manifest = artifact.read_as(path, DeltaManifest)
  artifact.check_files(path, manifest)
  return Delta(path, manifest)


def delta_chunks(
  path: str | os.PathLike[str], chunk_bytes: int = CHUNK_BYTES
) -> Iterator[dict[str, Any]]:
  """Yields the inputs of one apply_delta request after the other, each a list of one value.

  Args:
    path: the artifact.
    chunk_bytes: the most bytes of entries in a chunk; a chunk has at least one entry.

  Raises:
    ExportError: it has no manifest, or a file is missing or damaged.

  Examples:
    >>> exporter = tfps.export.Exporter(model, "export", raw=source.raw_inputs)
    >>> base, delta = exporter.base(), exporter.delta()
    >>> [int(chunk["sequence"][0]) for chunk in tfps.export.delta_chunks(delta)]
    [1]
  """
  for chunk in open_delta(str(path)).chunks(0, chunk_bytes):
    yield chunk.inputs()


def changed_feasigns(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The feasigns whose rows a delta changes or removes, such as to refresh an index of items.

  Args:
    path: the artifact.

  Returns:
    {table name: int64 [n]}, each feasign once, in order.

  Raises:
    ExportError: it has no manifest, or a file is missing or damaged.

  Examples:
    >>> exporter = tfps.export.Exporter(model, "export", raw=source.raw_inputs)
    >>> base, delta = exporter.base(), exporter.delta()
    >>> tfps.export.changed_feasigns(delta)["ctr"].size
    0
  """
  delta = open_delta(str(path))
  reader = tf.train.load_checkpoint(_prefix(delta.path))
  changed = {}
  for name, table in delta.manifest.tables.items():
    feasigns = reader.get_tensor(f"{name}/removed")
    if table.rows:
      feasigns = np.concatenate([feasigns, reader.get_tensor(f"{name}/keys")])
    changed[name] = np.unique(feasigns)
  return changed


def _empty() -> np.ndarray:
  return np.zeros(0)


@dataclasses.dataclass(frozen=True)
class Chunk:
  """What one call of the signature `apply_delta` takes.

  Attributes:
    lineage, base: what the delta goes on top of.
    sequence: the delta's number.
    position: how many entries (rows and removed keys) of the delta come before the chunk.
    last: whether it is the delta's last chunk.
    table: the table that its entries belong to.
    keys: int64 [n], feasigns.
    rows: float32 [n, row_width], their rows.
    removed: int64 [r], feasigns without a row from now on.
    weights: float32 [size], the packed dense weights; only with the last chunk.
  """

  lineage: str
  base: int
  sequence: int
  position: int
  last: bool = False
  table: str = ""
  keys: np.ndarray = dataclasses.field(default_factory=_empty)
  rows: np.ndarray = dataclasses.field(default_factory=_empty)
  removed: np.ndarray = dataclasses.field(default_factory=_empty)
  weights: np.ndarray = dataclasses.field(default_factory=_empty)

  @property
  def entries(self) -> int:
    """How many rows and removed keys it has."""
    return len(self.keys) + len(self.removed)

  def inputs(self) -> dict[str, Any]:
    """The inputs of the signature by name."""
    return {
      "lineage": [self.lineage],
      "base": np.array([self.base], np.int64),
      "sequence": np.array([self.sequence], np.int64),
      "position": np.array([self.position], np.int64),
      "last": np.array([self.last], np.int64),
      "table": [self.table],
      "keys": [_as_bytes(self.keys, "<i8")],
      "rows": [_as_bytes(self.rows, "<f4")],
      "removed": [_as_bytes(self.removed, "<i8")],
      "weights": [_as_bytes(self.weights, "<f4")],
    }


@dataclasses.dataclass(frozen=True)
class Delta:
  """A whole delta whose files have the checksums that its manifest names.

  Attributes:
    path: its folder.
    manifest: its manifest.
  """

  path: str
  manifest: DeltaManifest

  @property
  def sequence(self) -> int:
    """Its number, from 1."""
    return self.manifest.sequence

  @property
  def captured_at(self) -> float:
    """When its rows were copied at the trainer, in seconds since 1970."""
    return self.manifest.captured_at

  @property
  def events(self) -> Mapping[str, Any] | None:
    """The event times of a stream, as `DeltaManifest.events`."""
    return self.manifest.events

  @property
  def step(self) -> int:
    """The number of training steps at that moment; the delta's own number if that is unknown."""
    step = self.manifest.step
    return self.sequence if step is None else step

  @property
  def entries(self) -> int:
    """How many rows and removed keys it has."""
    return sum(table.rows + table.removed for table in self.manifest.tables.values())

  def chunks(self, position: int, chunk_bytes: int) -> Iterator[Chunk]:
    """Yields the chunks from an entry on: entries table by table, then the dense weights.

    Args:
      position: the first entry.
      chunk_bytes: the most bytes of entries in a chunk; a chunk has at least one entry.
    """
    manifest = self.manifest
    head = (manifest.lineage, manifest.base, manifest.sequence)
    begin = 0
    for part in _parts(self.path, manifest):
      size = max(1, chunk_bytes // part.entry_bytes)
      while position < begin + part.length:
        first = position - begin
        fields = part.read(first, min(first + size, part.length))
        chunk = Chunk(*head, position=position, table=part.table, **fields)
        yield chunk
        position += chunk.entries
      begin += part.length
    yield Chunk(*head, position=position, last=True, weights=weights(self.path))


@dataclasses.dataclass(frozen=True)
class _Part:
  """Entries of one kind, rows or removed keys, of one table.

  Attributes:
    table: the table's name.
    length: how many entries.
    entry_bytes: the bytes of an entry, as it is sent.
    read: a function of (begin, end) that returns the fields of a `Chunk`.
  """

  table: str
  length: int
  entry_bytes: int
  read: Callable[[int, int], dict[str, Any]]


def _parts(path: str, manifest: DeltaManifest) -> Iterator[_Part]:
  """Yields the parts of a delta in the order of its entries."""
  for name, table in manifest.tables.items():
    prefix, width = _prefix(path), table.row_width
    removed = _Column(prefix, f"{name}/removed", tf.int64, [table.removed])
    keys = _Column(prefix, f"{name}/keys", tf.int64, [table.rows])
    rows = _Column(prefix, f"{name}/rows", tf.float32, [table.rows, width])
    yield _Part(name, table.removed, 8, _reader(removed=removed))
    yield _Part(name, table.rows, 8 + 4 * width, _reader(keys=keys, rows=rows))


def _reader(**columns: _Column) -> Callable[[int, int], dict[str, Any]]:
  return lambda begin, end: {name: read(begin, end) for name, read in columns.items()}


def weights(path: str) -> np.ndarray:
  """float32 [size]: the packed dense weights of the delta at `path`."""
  return tf.train.load_checkpoint(_prefix(path)).get_tensor("weights")


class _Column:
  """A tensor of a bundle, whose entries are read in order and kept in blocks."""

  def __init__(self, prefix: str, name: str, dtype: tf.DType, shape: list[int]) -> None:
    self._prefix, self._name, self._dtype, self._shape = prefix, name, dtype, shape
    self._begin, self._block = 0, np.zeros(0)

  def __call__(self, begin: int, end: int) -> np.ndarray:
    if begin < self._begin or end > self._begin + len(self._block):
      size = max(_BLOCK, end - begin)
      self._begin = begin
      self._block = bundles.read_slice(
        self._prefix, self._name, self._dtype, self._shape, begin, size
      )
    return self._block[begin - self._begin : end - self._begin]


def _as_bytes(array: npt.ArrayLike, dtype: str) -> bytes:
  return np.ascontiguousarray(array, dtype).tobytes()


def _prefix(path: str) -> str:
  return paths.join(path, "rows")
