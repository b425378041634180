"""Delta artifacts: what changed since the last export of a lineage."""

import tensorflow as tf

from tfps.export import artifact
from tfps.storage import bundles, files

_BUNDLE = "rows"
_WEIGHTS = "weights"


def write(folder, number, captures, weights, content, devices):
  """Writes artifact `number` of `folder`, complete or not there at all.

  Args:
    folder: `<exports>/delta/<base>`.
    number: the delta's sequence number.
    captures: [`TableCapture` of a delta].
    weights: the packed dense weights.
    content: for the manifest.
    devices: where checksums are made.

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
  bundles.write_bundle(files.join(writing, _BUNDLE), tensors, rows)
  path = files.join(folder, str(number))
  content = {**content, "kind": "delta", "tables": tables}
  artifact.finish(writing, path, content, devices)
  return path
