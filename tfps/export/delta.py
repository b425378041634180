"""Writing a delta: what changed since the last export of a lineage."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfps.export.artifact import ARTIFACTS
from tfps.export.capture import SlotRows
from tfps.export.manifests import DeltaManifest, DeltaTable
from tfps.storage import bundles, files
from tfps.storage.complete_folder import Prepared

_BUNDLE = "rows"
_WEIGHTS = "weights"


def prepare(
  folder: str,
  captures: Sequence[SlotRows],
  weights: np.ndarray,
  manifest: DeltaManifest,
  devices: Sequence[str],
) -> Prepared:
  """Writes a delta, which has not its name yet.

  Args:
    folder: `<exports>/delta/<base>`.
    captures: what each table gives.
    weights: the packed dense weights.
    manifest: the manifest without tables.
    devices: where checksums are made.

  Returns:
    What gives it its name.
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
        rows=capture.rows, row_width=capture.row_width, removed=len(removed)
      )
    bundles.write_bundle(files.join(path, _BUNDLE), tensors, rows)
    return dataclasses.replace(manifest, tables=tables)

  return ARTIFACTS.prepare(folder, manifest.sequence, write_to, devices)
