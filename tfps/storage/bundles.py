"""Tensor bundles to which every parameter server writes its rows itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from tfps.storage import files


class Slice(NamedTuple):
  """Consecutive rows of a table.

  Attributes:
    device: where the rows are, and where they are written.
    first: the number of the first one.
    keys: int64 [n], their feasigns.
    rows: float32 [n, row_width].
  """

  device: str
  first: int
  keys: Any
  rows: Any


class Rows(Protocol):
  """The rows of a table, in slices that need not be in memory at once."""

  @property
  def rows(self) -> int:
    """How many rows there are."""

  def streams(self) -> Sequence[Iterable[Slice]]:
    """All slices, in streams that are written at the same time."""


Names = tuple[str, str]  # Of a table's two tensors: keys, rows.


def write(folder: str, tables: Mapping[str, Rows]) -> None:
  """Puts rows into the variables of a SavedModel whose tables are empty.

  Args:
    folder: the SavedModel's folder.
    tables: the rows of each table, by the prefix of its tensors' names (see `table_prefixes`).
  """
  prefix = files.join(folder, "variables/variables")
  empty = {name for begin, table in tables.items() if table.rows for name in row_tensors(begin)}
  others = other_tensors(prefix, empty)
  for path in tf.io.gfile.glob(prefix + ".*"):
    tf.io.gfile.remove(path)
  write_bundle(prefix, others, [(row_tensors(begin), table) for begin, table in tables.items()])


def write_bundle(
  prefix: str, tensors: Mapping[str, Any], tables: Iterable[tuple[Names, Rows]]
) -> None:
  """Writes a tensor bundle to which every parameter server adds its rows itself.

  Each server writes its rows as a slice of the tensors. Then files are moved and their indexes
  joined, as TensorFlow's own sharded saver does.

  Args:
    prefix: the bundle's path without the endings of its files.
    tensors: the tensors that this process adds, by name.
    tables: for each table the names of its tensors, and its rows.
  """
  parts = prefix + "-parts"
  tf.io.gfile.makedirs(parts)
  chief = files.join(parts, "chief")
  _save(None, chief, list(tensors), [""] * len(tensors), list(tensors.values()))
  streams = [(names, table.rows, stream) for names, table in tables for stream in table.streams()]

  def write_stream(number: int) -> list[str]:
    names, total, stream = streams[number]
    parts_of_stream: list[str] = []
    for device, first, keys, rows in stream:
      n, width = rows.shape
      part = files.join(parts, f"rows-{number}-{len(parts_of_stream)}")
      slices = [f"{total} {first},{n}", f"{total} {width} {first},{n}:-"]
      _save(device, part, list(names), slices, [keys, rows])
      parts_of_stream.append(part)
    return parts_of_stream

  with futures.ThreadPoolExecutor(max(len(streams), 1)) as pool:
    written = list(pool.map(write_stream, range(len(streams))))
  tf.raw_ops.MergeV2Checkpoints(
    checkpoint_prefixes=[chief, *(part for parts in written for part in parts)],
    destination_prefix=prefix,
    delete_old_dirs=True,
  )


def table_prefixes(folder: str) -> dict[str, str]:
  """The prefix of the names of each table's tensors, by the table's name, in a SavedModel."""
  names = [name for name, _ in tf.train.list_variables(files.join(folder, "variables/variables"))]
  begins = [name.removesuffix("-keys") for name in names if name.endswith("-keys")]
  return {begin.split("/")[1]: begin for begin in begins}


def read_slice(
  prefix: str, name: str, dtype: tf.DType, shape: Sequence[int], begin: int, size: int
) -> np.ndarray:
  """Reads some rows of a tensor in a bundle.

  Args:
    prefix: the bundle's path without the endings of its files.
    name: the tensor's name.
    dtype: the tensor's dtype.
    shape: the whole tensor's shape.
    begin: the first row wanted.
    size: how many rows are wanted at most.

  Returns:
    Array [at most size, ...].
  """
  size = min(size, shape[0] - begin)
  if size <= 0:
    return np.zeros([0, *shape[1:]], dtype.as_numpy_dtype)
  piece = ":".join([f"{begin},{size}", *["-"] * (len(shape) - 1)])
  (tensor,) = tf.raw_ops.RestoreV2(
    prefix=prefix,
    tensor_names=[name],
    shape_and_slices=[" ".join([*map(str, shape), piece])],
    dtypes=[dtype],
  )
  return tensor.numpy()


def row_tensors(begin: str) -> Names:
  """The names of a table's tensors, by their prefix."""
  return begin + "-keys", begin + "-rows"


def other_tensors(prefix: str, without: Iterable[str]) -> dict[str, tf.Tensor]:
  """The tensors of a bundle by name, without some."""
  reader = tf.train.load_checkpoint(prefix)
  names = sorted(set(reader.get_variable_to_shape_map()) - set(without))
  return {name: tf.constant(reader.get_tensor(name)) for name in names}


def _save(
  device: str | None,
  prefix: str,
  names: Sequence[str],
  slices: Sequence[str],
  tensors: Sequence[Any],
) -> None:
  with tf.device(device):
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=slices, tensors=tensors)
