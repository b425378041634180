"""Writing a delta: what changed since the last export of a lineage."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfps.export.artifact import ARTIFACTS
from tfps.export.capture import TableCapture
from tfps.export.manifests import DeltaManifest, DeltaTable
from tfps.storage import bundles, files

_BUNDLE = "rows"
_WEIGHTS = "weights"


def write(
  folder: str,
  captures: Sequence[TableCapture],
  weights: np.ndarray,
  manifest: DeltaManifest,
  devices: Sequence[str],
) -> str:
  """Writes a delta, complete or not there at all.

  Args:
    folder: `<exports>/delta/<base>`.
    captures: what each table gives.
    weights: the packed dense weights.
    manifest: the manifest without tables.
    devices: where checksums are made.

  Returns:
    The artifact's path.
  """

  def write_to(path: str) -> DeltaManifest:
    tensors = {_WEIGHTS: tf.constant(weights)}
    tables, rows = {}, []
    for capture in captures:
      name = capture.table.name
      removed = capture.removed()
      tensors[f"{name}/removed"] = tf.constant(removed)
      rows.append(((f"{name}/keys", f"{name}/rows"), capture))
      tables[name] = DeltaTable(
        rows=capture.rows, row_width=capture.table.row_width, removed=len(removed)
      )
    bundles.write_bundle(files.join(path, _BUNDLE), tensors, rows)
    return dataclasses.replace(manifest, tables=tables)

  return ARTIFACTS.publish(folder, manifest.sequence, write_to, devices)
