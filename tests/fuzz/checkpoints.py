"""Files of checkpoints that were changed: it is found before they are used, or while rows go in."""

import pathlib

import numpy as np

from tests import checkpoints
from tests.fuzz import mutate
from tfps.checkpoint import CheckpointError, CheckpointManager, reader

EXPECTED = CheckpointError


def make(folder, note):
  table = checkpoints.make_table(2)
  checkpoints.push(table, checkpoints.KEYS)
  manager = CheckpointManager(folder / "checkpoints", None, [table])
  full = pathlib.Path(manager.save({"at": 1}))
  checkpoints.push(table, checkpoints.KEYS[:50], seed=1)
  saved = pathlib.Path(manager.save({"at": 2}, incremental=True))
  paths = [path for folder in (full, saved) for path in folder.rglob("*") if path.is_file()]
  good = {path: path.read_bytes() for path in paths}
  expected = table.lookup(checkpoints.KEYS)
  restored = checkpoints.make_table(2)

  def one(rng):
    path = rng.choice(sorted(good))
    changed = mutate.data(rng, good[path])
    note(f"{path} {changed[:20000]!r}")
    path.write_bytes(changed)
    try:
      if rng.random() < 0.5:
        for table in reader.open_checkpoint(str(saved)).tables.values():
          list(table.shards())
      else:
        other = CheckpointManager(folder / "checkpoints", None, [restored], read_only=True)
        assert other.restore(str(saved)) == {"at": 2}
        found = restored.lookup(checkpoints.KEYS)
        for name, column in expected.items():
          np.testing.assert_array_equal(found[name], column)
      same = changed == good[path]
      assert same or _is_padding(path), f"what was changed in {path} was not found"
    finally:
      path.write_bytes(good[path])

  return one


def _is_padding(path):
  """Whether all of a file is looked at: spaces between what JSON has say nothing."""
  return path.name == "manifest.json"
