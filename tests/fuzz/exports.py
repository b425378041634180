"""Files of exports that were changed: it is found before they are used."""

import pathlib

import numpy as np
import tensorflow as tf

from tests.fuzz import mutate
from tfps.errors import ExportError
from tfps.export.artifact import ARTIFACTS
from tfps.export.delta_reader import open_delta
from tfps.export.manifests import DeltaManifest, DeltaTable

EXPECTED = ExportError


def make(folder, note):
  tensors = {
    "ctr/keys": np.arange(1, 8),
    "ctr/rows": np.ones([7, 4], np.float32),
    "ctr/removed": np.arange(90, 95),
    "weights": np.zeros(20, np.float32),
  }

  def write(path):
    tf.raw_ops.SaveV2(
      prefix=path + "/rows",
      tensor_names=list(tensors),
      shape_and_slices=[""] * len(tensors),
      tensors=[tf.constant(tensor) for tensor in tensors.values()],
    )
    return DeltaManifest(
      lineage="x",
      base=1,
      sequence=1,
      captured_at=1.5,
      step=3,
      day=None,
      tables={"ctr": DeltaTable(rows=7, row_width=4, removed=5)},
    )

  path = pathlib.Path(ARTIFACTS.publish(str(folder / "delta"), 1, write, ["/device:CPU:0"]))
  good = {file: file.read_bytes() for file in pathlib.Path(path).iterdir()}
  chunks = [chunk.inputs() for chunk in open_delta(str(path)).chunks(0, 64)]
  assert len(chunks) > 2

  def one(rng):
    file = rng.choice(sorted(good))
    changed = mutate.data(rng, good[file])
    note(f"{file} {changed[:20000]!r}")
    file.write_bytes(changed)
    try:
      found = [chunk.inputs() for chunk in open_delta(str(path)).chunks(0, 64)]
      assert str(found) == str(chunks)
      assert changed == good[file] or file.name == "manifest.json", f"{file} was changed"
    finally:
      file.write_bytes(good[file])

  return one
