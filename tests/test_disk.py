"""A full disk, a read-only folder: an error, the last good state, and nothing left behind."""

import contextlib
import os
import pathlib
import subprocess
import tempfile

import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tests.checkpoints import KEYS, make_table, push
from tests.test_fit import make_model, small_stream
from tfps.checkpoint import CheckpointManager, chain
from tfps.export.artifact import ARTIFACTS
from tfps.export.manifests import BaseManifest


@contextlib.contextmanager
def mounted(folder, *options):
  """A small file system of its own at `folder`.

  Skips the test where this process may not mount one.
  """
  folder.mkdir(exist_ok=True)
  done = subprocess.run(
    ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True, text=True,
    check=False
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
    assert manager.latest() == first and chain.read_complete(first, ["/device:CPU:0"])
    # What was not saved is saved once there is room.
    (folder / "filler").unlink()
    push(table, KEYS[:3], seed=2)
    manager.save({"at": 3}, incremental=True)
    other = make_table(2)
    assert CheckpointManager(folder, None, [other], read_only=True).restore() == {"at": 3}
    assert (other.lookup(KEYS)["lr_w"] == table.lookup(KEYS)["lr_w"]).all()


def test_an_artifact_on_a_full_disk(tmp_path):
  folder = tmp_path / "disk"

  def write(path):
    tf.io.write_file(path + "/rows", b"x" * 5000)
    return BaseManifest(version=1, lineage="x", day=None, step=None)

  with mounted(folder, "-o", "size=1m"):
    fill(folder, 0)
    with pytest.raises((tf.errors.OpError, OSError)) as raised:
      ARTIFACTS.publish(str(folder), 1, write, ["/device:CPU:0"])
    assert "space" in str(raised.value).lower()
    assert [path.name for path in folder.iterdir()] == ["filler"]
    (folder / "filler").unlink()
    ARTIFACTS.publish(str(folder), 1, write, ["/device:CPU:0"])
    assert [path.name for path in folder.iterdir()] == ["1"]


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


@contextlib.contextmanager
def another_user():
  """This process as one who owns nothing; where it is not root's, it stays who it is."""
  if os.geteuid() != 0:
    yield
    return
  os.seteuid(65534)
  try:
    yield
  finally:
    os.seteuid(0)


@pytest.fixture(name="open_path")
def _open_path():
  """A folder that every user reaches, but only its owner writes to."""
  with tempfile.TemporaryDirectory() as name:
    os.chmod(name, 0o755)
    yield pathlib.Path(name)


def test_another_user_may_not_write_checkpoints(open_path):
  table, folder = make_table(2), open_path / "checkpoints"
  push(table, KEYS)
  manager = CheckpointManager(folder, None, [table])
  first = manager.save({"at": 1})
  os.chmod(folder, 0o555)
  push(table, KEYS, seed=1)
  before = sorted(path.name for path in folder.iterdir())
  with another_user(), pytest.raises((tf.errors.OpError, OSError), match="(?i)permission denied"):
    manager.save({"at": 2})
  os.chmod(folder, 0o755)
  assert sorted(path.name for path in folder.iterdir()) == before
  assert manager.latest() == first
  manager.save({"at": 3}, incremental=True)
  other = make_table(2)
  assert CheckpointManager(folder, None, [other], read_only=True).restore() == {"at": 3}
  assert (other.lookup(KEYS)["lr_w"] == table.lookup(KEYS)["lr_w"]).all()


def test_a_checkpoint_that_may_not_be_read_is_no_missing_one(open_path):
  table, folder = make_table(1), open_path / "checkpoints"
  push(table, KEYS)
  manager = CheckpointManager(folder, None, [table])
  for at in (1, 2):
    newest = manager.save({"at": at})
  for path in pathlib.Path(newest).rglob("*"):
    if path.is_file():
      os.chmod(path, 0)
  other = make_table(1)
  with another_user():
    reader = CheckpointManager(folder, None, [other], read_only=True)
    with pytest.raises((tf.errors.OpError, OSError, ValueError), match="(?i)permission denied"):
      reader.restore()
  assert other.statistics()["rows"] == 0


class FillAtSecondDaysBegin(keras.callbacks.Callback):
  def __init__(self, folder):
    super().__init__()
    self._folder = folder

  def on_day_begin(self, day):
    if day.ordinal == 1:
      fill(self._folder, 0)


@pytest.mark.parametrize("at_once", [True, False])
def test_summaries_on_a_full_disk_end_the_run_and_leave_its_checkpoint(tmp_path, at_once):
  table, model = make_model()
  full, checkpoints = tmp_path / "disk", str(tmp_path / "checkpoints")
  with mounted(full, "-o", "size=64k"):
    if at_once:
      fill(full, 0)
    callbacks = [tfps.callbacks.Checkpoint(checkpoints, every_days=1), FillAtSecondDaysBegin(full)]
    callbacks.append(tfps.callbacks.TableSummaries(table, str(full / "log"), every_tickets=1))
    with pytest.raises(tf.errors.OpError, match="(?s)disk/log/events.*No space left on device"):
      model.fit(small_stream(), callbacks=callbacks, verbose=0)
  assert CheckpointManager(checkpoints, None, [table], read_only=True).latest() or at_once
