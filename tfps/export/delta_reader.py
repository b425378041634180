"""Reading a delta: the chunks in which its entries, rows and removed keys, are sent."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from tfps.export import artifact
from tfps.storage import paths

CHUNK_BYTES = 64 * 1024
# A bundle gives a part of a tensor by reading all that one parameter server wrote of it.
_BLOCK = 1 << 20


def open_delta(path):
  """The `Delta` at a path, its files compared with their checksums.

  Raises:
    ExportError: it has no manifest, or a file is missing or damaged.
  """
  manifest = artifact.read(path)
  artifact.check_files(path, manifest)
  return Delta(path, manifest)


def delta_chunks(path, chunk_bytes=CHUNK_BYTES):
  """Yields the inputs of one apply_delta request after the other, {name: list of one value}.

  Args:
    path: the artifact.
    chunk_bytes: how many bytes of entries a chunk has at most, but one entry at least.

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


@dataclasses.dataclass(frozen=True)
class Chunk:
  """What one call of the signature `apply_delta` takes.

  Attributes:
    lineage, base, sequence: whose delta it is, and its number.
    position: how many entries, rows and removed keys, of the delta come before it.
    entries: how many are in it.
    last: whether it is the delta's last.
    table: name of the table that its entries are of.
    keys: int64 [n]; rows: float32 [n, row_width]; removed: int64 [r].
    weights: float32 [size], the packed dense weights, with the last chunk.
  """

  lineage: str
  base: int
  sequence: int
  position: int
  last: bool = False
  table: str = ""
  keys: np.ndarray = ()
  rows: np.ndarray = ()
  removed: np.ndarray = ()
  weights: np.ndarray = ()

  @property
  def entries(self):
    return len(self.keys) + len(self.removed)

  def inputs(self):
    """{input of the signature: tensor}."""
    as_bytes = lambda array, dtype: np.ascontiguousarray(array, dtype).tobytes()
    return {
      "lineage": [self.lineage],
      "base": np.array([self.base], np.int64),
      "sequence": np.array([self.sequence], np.int64),
      "position": np.array([self.position], np.int64),
      "last": np.array([self.last], np.int64),
      "table": [self.table],
      "keys": [as_bytes(self.keys, "<i8")],
      "rows": [as_bytes(self.rows, "<f4")],
      "removed": [as_bytes(self.removed, "<i8")],
      "weights": [as_bytes(self.weights, "<f4")],
    }


@dataclasses.dataclass(frozen=True)
class Delta:
  """A whole delta whose files have the checksums that its manifest names.

  Attributes:
    path: its folder.
    manifest: its manifest.
  """

  path: str
  manifest: dict

  @property
  def sequence(self):
    return self.manifest["sequence"]

  @property
  def captured_at(self):
    """When its rows were copied at the trainer, seconds since 1970."""
    return self.manifest["captured_at"]

  @property
  def events(self):
    """Of a stream: {samples, oldest, newest, mean}, the event times of what was trained since the delta before; or None."""
    return self.manifest.get("events")

  @property
  def step(self):
    """Number of training steps at that moment, or its own number where that is not known."""
    step = self.manifest["step"]
    return self.sequence if step is None else step

  @property
  def entries(self):
    """How many rows and removed keys it has."""
    return sum(table["rows"] + table["removed"] for table in self.manifest["tables"].values())

  def chunks(self, position, chunk_bytes) -> Iterator[Chunk]:
    """The chunks from an entry on: all entries, table after table, then the dense weights.

    Args:
      position: the first entry.
      chunk_bytes: how many bytes of entries a chunk has at most, but one entry at least.
    """
    head = {name: self.manifest[name] for name in ("lineage", "base", "sequence")}
    begin = 0
    for part in _parts(self.path, self.manifest):
      size = max(1, chunk_bytes // part.entry_bytes)
      while position < begin + part.length:
        first = position - begin
        fields = part.read(first, min(first + size, part.length))
        chunk = Chunk(**head, position=position, table=part.table, **fields)
        yield chunk
        position += chunk.entries
      begin += part.length
    yield Chunk(**head, position=position, last=True, weights=weights(self.path))


@dataclasses.dataclass(frozen=True)
class _Part:
  """Entries of one kind, rows or removed keys, of one table.

  Attributes:
    table: the table's name.
    length: how many.
    entry_bytes: of each, as it is sent.
    read: a function of (begin, end) that returns the fields of a `Chunk`.
  """

  table: str
  length: int
  entry_bytes: int
  read: Callable


def _parts(path, manifest):
  """The `_Part`s of a delta, in the order in which its entries count."""
  found = []
  for name, table in manifest["tables"].items():
    width = table["row_width"]
    removed = _Column(path, f"{name}/removed", tf.int64, [table["removed"]])
    keys = _Column(path, f"{name}/keys", tf.int64, [table["rows"]])
    rows = _Column(path, f"{name}/rows", tf.float32, [table["rows"], width])
    found.append(_Part(name, table["removed"], 8, lambda b, e, r=removed: {"removed": r(b, e)}))
    found.append(
      _Part(
        name, table["rows"], 8 + 4 * width,
        lambda b, e, k=keys, r=rows: {"keys": k(b, e), "rows": r(b, e)},
      )
    )  # fmt: skip
  return found


def weights(path):
  """float32 array: the packed dense weights of the delta at `path`."""
  return tf.train.load_checkpoint(_prefix(path)).get_tensor("weights")


class _Column:
  """A tensor of a bundle, whose entries are read in blocks and in order."""

  def __init__(self, path, name, dtype, shape):
    self._path, self._name, self._dtype, self._shape = path, name, dtype, shape
    self._begin, self._block = 0, []

  def __call__(self, begin, end):
    if begin < self._begin or end > self._begin + len(self._block):
      size = min(max(_BLOCK, end - begin), self._shape[0] - begin)
      piece = ":".join([f"{begin},{size}", *["-"] * (len(self._shape) - 1)])
      (tensor,) = tf.raw_ops.RestoreV2(
        prefix=_prefix(self._path),
        tensor_names=[self._name],
        shape_and_slices=[" ".join([*map(str, self._shape), piece])],
        dtypes=[self._dtype],
      )
      self._begin, self._block = begin, tensor.numpy()
    return self._block[begin - self._begin : end - self._begin]


def _prefix(path):
  return paths.join(path, "rows")
