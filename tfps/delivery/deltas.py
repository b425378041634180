"""Deltas in an export folder, and the chunks in which they are sent."""

from collections.abc import Iterator
import dataclasses
import threading

import numpy as np
import tensorflow as tf

from tfps.delivery import delta_files
from tfps.delivery.errors import DeliveryError
from tfps.export import artifact, paths


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
    as_bytes = lambda array, dtype: np.ascontiguousarray(array, dtype).tobytes()  # noqa: E731
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
    for part in delta_files.parts(self.path, self.manifest):
      size = max(1, chunk_bytes // part.entry_bytes)
      while position < begin + part.length:
        first = position - begin
        fields = part.read(first, min(first + size, part.length))
        chunk = Chunk(**head, position=position, table=part.table, **fields)
        yield chunk
        position += chunk.entries
      begin += part.length
    yield Chunk(**head, position=position, last=True, weights=delta_files.weights(self.path))


class ExportFolder:
  """The deltas of an export folder; many threads may ask.

  Args:
    folder: the folder of an `Exporter`.

  Raises:
    DeliveryError: there is no base in it.
  """

  def __init__(self, folder):
    self._folder = str(folder).rstrip("/")
    self._checked = {}
    self._lock = threading.Lock()
    if not tf.io.gfile.isdir(paths.join(self._folder, "base")):
      raise DeliveryError(f"{folder} has no folder 'base': it is no folder of tfps's exports.")

  def next_delta(self, base, sequence):
    """The delta that follows number `sequence` of a base; None where there is none yet.

    Raises:
      DeliveryError: later ones are there and that one is not.
      ExportError: a file of it is damaged.
    """
    folder = paths.join(self._folder, "delta", str(base))
    path = paths.join(folder, str(sequence + 1))
    if tf.io.gfile.exists(paths.join(path, artifact.MANIFEST)):
      return self._open(path)
    if not tf.io.gfile.isdir(folder):
      return None
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    if later := [int(name) for name in names if name.isdecimal() and int(name) > sequence + 1]:
      raise DeliveryError(
        f"{folder} has delta {min(later)} but not {sequence + 1}, which is due: load a newer base."
      )
    return None

  def _open(self, path):
    with self._lock:
      if path not in self._checked:
        manifest = artifact.read(path)
        artifact.check_files(path, manifest)
        self._checked[path] = Delta(path, manifest)
      return self._checked[path]
