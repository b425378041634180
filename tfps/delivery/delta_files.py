"""Reading the entries of a delta, block by block."""

from collections.abc import Callable
import dataclasses

import tensorflow as tf

from tfps.export import paths

# A bundle gives a part of a tensor by reading all that one parameter server wrote of it.
_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Part:
  """Entries of one kind, rows or removed keys, of one table.

  Attributes:
    table: the table's name.
    length: how many.
    entry_bytes: of each, as it is sent.
    read: a function of (begin, end) that returns the fields of a `deltas.Chunk`.
  """

  table: str
  length: int
  entry_bytes: int
  read: Callable


def parts(path, manifest):
  """The `Part`s of a delta, in the order in which its entries count."""
  found = []
  for name, table in manifest["tables"].items():
    width = table["row_width"]
    removed = _Column(path, f"{name}/removed", tf.int64, [table["removed"]])
    keys = _Column(path, f"{name}/keys", tf.int64, [table["rows"]])
    rows = _Column(path, f"{name}/rows", tf.float32, [table["rows"], width])
    found.append(Part(name, table["removed"], 8, lambda b, e, r=removed: {"removed": r(b, e)}))
    found.append(
      Part(
        name, table["rows"], 8 + 4 * width,
        lambda b, e, k=keys, r=rows: {"keys": k(b, e), "rows": r(b, e)},
      )
    )  # fmt: skip
  return found


def weights(path):
  """float32 array: the packed dense weights."""
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
