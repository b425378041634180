"""Manifests with the right checksum and any content: of use, or refused in a sentence."""

import json
import pathlib
import zlib

from tests import checkpoints
from tests.fuzz import mutate
from tfps.checkpoint import CheckpointError, CheckpointManager, reader
from tfps.errors import ExportError
from tfps.export import artifact
from tfps.export.artifact import ARTIFACTS
from tfps.export.delta_reader import Delta
from tfps.export.manifests import DeltaManifest

EXPECTED = (CheckpointError, ExportError)


def make(folder, note):
  table = checkpoints.make_table(2)
  checkpoints.push(table, checkpoints.KEYS)
  manager = CheckpointManager(folder / "checkpoints", None, [table])
  saved = pathlib.Path(manager.save({"at": 1}))
  restored = checkpoints.make_table(2)
  delta = folder / "delta" / "1"
  delta.mkdir(parents=True)
  good = json.loads((saved / "manifest.json").read_text())
  of_delta = {
    "format": ARTIFACTS.format, "kind": "delta", "lineage": "x", "base": 1, "sequence": 1,
    "captured_at": 1.5, "step": 3,
    "tables": {"ctr": {"rows": 3, "row_width": 4, "removed": 2}},
    "weights": {"layout": "", "size": 0},
    "files": {"rows.index": {"bytes": 0, "crc32c": 0}},
  }  # fmt: skip

  def one(rng):
    is_delta = rng.random() < 0.4
    content = mutate.tree(rng, of_delta if is_delta else good)
    if isinstance(content, dict):
      content.pop("checksum", None)
      checksum = zlib.crc32(json.dumps(content, sort_keys=True).encode())
      content = {**content, "checksum": checksum}
    text = json.dumps(content)
    if rng.random() < 0.1:
      text = mutate.data(rng, text.encode()).decode("utf-8", "replace")
    note(text[:20000])
    path = delta if is_delta else saved
    (path / "manifest.json").write_text(text)
    if is_delta:
      found = Delta(str(path), artifact.read_as(str(path), DeltaManifest))
      assert found.entries >= 0 and found.captured_at is not None
      artifact.check_files(str(path), found.manifest)
      return
    checkpoint = reader.open_checkpoint(str(saved))
    for table in checkpoint.tables.values():
      list(table.shards())
    manager_of = CheckpointManager(folder / "checkpoints", None, [restored], read_only=True)
    manager_of.restore(str(saved))

  return one
