"""A disk that is full, and a folder that cannot be written to: an error, the last good state, nothing left behind."""

import contextlib
import os
import subprocess

import pytest
import tensorflow as tf
from tfps.checkpoint import CheckpointManager, manifest
from tfps.export import artifact

from tests.checkpoints import KEYS, make_table, push


@contextlib.contextmanager
def mounted(folder, *options):
  """A small file system of its own at `folder`; skips the test where this process may not mount one."""
  folder.mkdir(exist_ok=True)
  done = subprocess.run(
    ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
  )  # fmt: skip
  if done.returncode:
    pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
  try:
    yield
  finally:
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder, leave):
  """Leaves only so many bytes of a small file system."""
  there = os.statvfs(folder)
  with open(folder / "filler", "wb") as file:
    file.write(bytes(there.f_bavail * there.f_frsize - leave))


@pytest.mark.parametrize("leave", [0, 4096, 20480])
def test_a_checkpoint_on_a_full_disk(tmp_path, leave):
  table, folder = make_table(2), tmp_path / "disk"
  push(table, KEYS)
  with mounted(folder, "-o", "size=1m"):
    manager = CheckpointManager(folder, None, [table])
    first = manager.save({"at": 1})
    push(table, KEYS, seed=1)
    fill(folder, leave)
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises((tf.errors.OpError, OSError)) as raised:
      manager.save({"at": 2})
    assert "space" in str(raised.value).lower()
    assert sorted(path.name for path in folder.iterdir()) == before
    assert manager.latest() == first and manifest.complete_chain(first, ["/device:CPU:0"])
    # What was not saved is saved once there is room.
    (folder / "filler").unlink()
    push(table, KEYS[:3], seed=2)
    manager.save({"at": 3}, incremental=True)
    other = make_table(2)
    assert CheckpointManager(folder, None, [other], read_only=True).restore() == {"at": 3}
    assert (other.lookup(KEYS)["lr_w"] == table.lookup(KEYS)["lr_w"]).all()


def test_an_artifact_on_a_full_disk(tmp_path):
  folder = tmp_path / "disk"
  with mounted(folder, "-o", "size=1m"):
    fill(folder, 0)
    with pytest.raises((tf.errors.OpError, OSError)) as raised:
      writing = artifact.begin(str(folder), 1)
      tf.io.write_file(writing + "/rows", b"x" * 5000)
      artifact.finish(writing, str(folder / "1"), {"kind": "base"}, ["/device:CPU:0"])
    assert "space" in str(raised.value).lower()
    assert artifact.numbers(str(folder)) == []
    (folder / "filler").unlink()
    artifact.begin(str(folder), 1)
    assert [path.name for path in folder.iterdir()] == ["writing-1"]


def test_a_folder_that_may_not_be_written_to(tmp_path):
  table, folder = make_table(1), tmp_path / "disk"
  push(table, KEYS)
  with mounted(folder):
    first = CheckpointManager(folder, None, [table]).save({"at": 1})
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    manager = CheckpointManager(folder, None, [table], read_only=True)
    with pytest.raises((tf.errors.OpError, OSError), match="(?i)read-only"):
      manager.save({"at": 2})
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["checkpoint-1"]
    assert manager.latest() == first and manager.restore() == {"at": 1}
