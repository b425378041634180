"""Delta artifacts: what changed since the last export of a lineage, in chunks for apply_delta."""

import numpy as np
import tensorflow as tf

from tfps.checkpoint import files
from tfps.export import artifact, variables

_BUNDLE = "rows"
_WEIGHTS = "weights"


def write(folder, number, captures, weights, content, devices, chunk_rows):
  """Writes artifact `number` of `folder`, complete or not there at all.

  Args:
    folder: `<exports>/delta/<base>`.
    number: the delta's sequence number.
    captures: [`TableCapture` of a delta].
    weights: the packed dense weights.
    content: for the manifest.
    devices: where checksums are made.
    chunk_rows: the most rows, or removed keys, that a server is sent at a time.

  Returns:
    The artifact's path.
  """
  writing = artifact.begin(folder, number)
  tensors, rows, tables = {_WEIGHTS: tf.constant(weights)}, {}, {}
  for capture in captures:
    name = capture.table.name
    removed = capture.removed()
    tensors[f"{name}/removed"] = tf.constant(removed)
    rows[name] = ((f"{name}/keys", f"{name}/rows"), capture)
    tables[name] = {
      "rows": capture.rows,
      "removed": len(removed),
      "row_width": capture.table.row_width,
    }
  variables.write_bundle(files.join(writing, _BUNDLE), tensors, rows)
  path = files.join(folder, str(number))
  content = {**content, "kind": "delta", "chunk_rows": chunk_rows, "tables": tables}
  artifact.finish(writing, path, content, devices)
  return path


def delta_chunks(path):
  """Yields the inputs of one apply_delta request after the other, {name: list of one value}.

  Rows come first, table by table, and the dense weights with the last chunk. No more than a chunk
  is in memory.

  Args:
    path: the artifact.

  Raises:
    ExportError: it has no manifest, or a damaged one.
  """
  content = artifact.read(path)
  prefix = files.join(path, _BUNDLE)
  parts = [
    (name, begin, min(content["chunk_rows"], max(table["rows"], table["removed"]) - begin))
    for name, table in content["tables"].items()
    for begin in range(0, max(table["rows"], table["removed"]), content["chunk_rows"])
  ]
  for position, (name, begin, size) in enumerate([*parts, ("", 0, 0)]):
    table = content["tables"].get(name)
    keys = rows = removed = np.zeros([0])
    if table:
      keys = _read(prefix, f"{name}/keys", tf.int64, [table["rows"]], begin, size)
      rows = _read(
        prefix, f"{name}/rows", tf.float32, [table["rows"], table["row_width"]], begin, size
      )
      removed = _read(prefix, f"{name}/removed", tf.int64, [table["removed"]], begin, size)
    last = position == len(parts)
    weights = tf.train.load_checkpoint(prefix).get_tensor(_WEIGHTS) if last else np.zeros([0])
    inputs = {
      "lineage": content["lineage"], "base": content["base"], "sequence": content["sequence"],
      "position": position, "last": int(last), "table": name, "keys": keys.tobytes(),
      "rows": rows.tobytes(), "removed": removed.tobytes(), "weights": weights.tobytes(),
    }  # fmt: skip
    yield {name: [value] for name, value in inputs.items()}


def _read(prefix, name, dtype, shape, begin, size):
  """Up to `size` rows of a tensor in a bundle, from row `begin` on."""
  size = min(size, shape[0] - begin)
  if size <= 0:
    return np.zeros([0])
  piece = ":".join([f"{begin},{size}", *["-"] * (len(shape) - 1)])
  (tensor,) = tf.raw_ops.RestoreV2(
    prefix=prefix,
    tensor_names=[name],
    shape_and_slices=[" ".join([*map(str, shape), piece])],
    dtypes=[dtype],
  )
  return tensor.numpy()
