"""Two jobs on one folder: the second is refused, and nobody is locked out for ever."""

import contextlib
import fcntl
import gc
import os
import signal
import subprocess
import sys

import pytest
import tf_keras as keras

import tfps
from tests import exports
from tests.checkpoints import KEYS, make_table, push
from tests.commands import fails, run
from tests.patience import PATIENCE
from tests.test_checkpoint import ROOT, manager
from tfps.checkpoint import ended, reader
from tfps.errors import LockError
from tfps.export import artifact
from tfps.export.artifact import ARTIFACTS
from tfps.storage import lock

# The holders of leases here write them anew twice a second.
LEASE_SECONDS = 3.0

# Holds the lock of each folder that it reads, until it reads an empty line or is killed.
HOLDER = f"""
import sys
from tfps.storage import lock
lock.LEASE_SECONDS = {LEASE_SECONDS}
for folder in sys.stdin:
  hold = lock.Hold(folder.strip())
  print("held", flush=True)
  sys.stdin.readline()
  hold.check()
  hold.release()
  print("released", flush=True)
"""


class Holder:
  """Another process that holds one folder's lock after the other; killed, it is another process."""

  def __init__(self):
    self.process = None
    self._holds = False

  @contextlib.contextmanager
  def __call__(self, folder):
    if self.process is None or self.process.poll() is not None:
      self.process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
      )  # fmt: skip
    self._holds = True
    self.process.stdin.write(f"{folder}\n")
    assert self.process.stdout.readline() == "held\n"
    yield self.process
    if self._holds:
      assert self.let_go() == "released\n"

  def let_go(self):
    """Has it let go of the folder; returns what it says, "" where it ended instead."""
    self._holds = False
    self.process.stdin.write("\n")
    return self.process.stdout.readline()

  def kill(self):
    self._holds = False
    self.process.kill()
    self.process.wait()


@pytest.fixture(name="holder", scope="module")
def _holder():
  holder = Holder()
  yield holder
  if holder.process is not None:
    holder.kill()


@pytest.fixture(name="soon", autouse=True)
def _soon(monkeypatch):
  monkeypatch.setattr(lock, "_ENDING_SECONDS", 0.3)
  monkeypatch.setattr(lock, "LEASE_SECONDS", LEASE_SECONDS)


@pytest.fixture(name="patient")
def _patient(monkeypatch):
  """A holder that hardly gets any time is not taken for dead."""
  monkeypatch.setattr(lock, "LEASE_SECONDS", PATIENCE)
  monkeypatch.setattr(lock, "_RENEWALS_PER_LEASE", 2 * PATIENCE)


# The same folder by its path, and through TensorFlow's file systems as one without locks of a
# kernel.
SCHEMES = pytest.mark.parametrize("scheme", ["", "file://"])


@SCHEMES
def test_a_second_process_is_refused_until_the_first_lets_go(holder, patient, tmp_path, scheme):
  folder = f"{scheme}{tmp_path}/checkpoints"
  with holder(folder) as process:
    with pytest.raises(LockError) as raised:
      lock.Hold(folder)
    assert f"checkpoints is in use by process {process.pid} on " in str(raised.value)
    assert holder.let_go() == "released\n"
  assert os.listdir(tmp_path / "checkpoints") == []
  with lock.Hold(folder):
    assert os.listdir(tmp_path / "checkpoints") == ["lock"]
  assert os.listdir(tmp_path / "checkpoints") == []


@SCHEMES
def test_a_killed_process_locks_nobody_out(holder, tmp_path, scheme):
  folder = f"{scheme}{tmp_path}"
  with holder(folder):
    holder.kill()
  with lock.Hold(folder) as hold:
    hold.check()


def test_who_lost_its_lease_is_told(holder, tmp_path):
  """As one that was frozen for longer than a lease lasts."""
  folder = f"file://{tmp_path}"
  with holder(folder) as process:
    process.send_signal(signal.SIGSTOP)
    with lock.Hold(folder):
      process.send_signal(signal.SIGCONT)
      assert holder.let_go() == ""
  assert process.wait() == 1


def test_managers_of_one_process_share_the_lock(tmp_path):
  table = make_table()
  first, second = manager(tmp_path, table), manager(tmp_path, table)
  first.close()
  assert (tmp_path / "lock").exists()
  second.close()
  assert not (tmp_path / "lock").exists()
  push(table, KEYS)
  first.save({"day": 0})
  assert (tmp_path / "lock").exists()
  del first
  assert not (tmp_path / "lock").exists()


def test_a_job_that_is_refused_leaves_the_folder_as_it_is(holder, tmp_path):
  ended.mark(str(tmp_path))
  (tmp_path / "writing-checkpoint-3").mkdir()
  callback = tfps.callbacks.Checkpoint(str(tmp_path), tables=[make_table()])
  callback.set_model(keras.Sequential())
  with holder(tmp_path), pytest.raises(LockError, match="is in use by process"):
    callback.on_train_begin()
  assert ended.is_marked(str(tmp_path)) and (tmp_path / "writing-checkpoint-3").exists()
  callback.on_train_begin()
  assert not ended.is_marked(str(tmp_path)) and not (tmp_path / "writing-checkpoint-3").exists()


def test_no_command_changes_a_folder_in_use(holder, tmp_path, capsys):
  table = make_table(2)
  table.slot_id("user")
  push(table, KEYS)
  saver = manager(tmp_path, table)
  saver.save({"day": 0})
  saver.close()
  names = sorted(os.listdir(tmp_path))
  manifest = (tmp_path / "checkpoint-1" / "manifest.json").read_bytes()
  with holder(tmp_path) as process:
    for command in (["evict"], ["rebalance", "--servers=3", "--apply"]):
      error = fails(capsys, command[0], tmp_path, *command[1:])
      assert f"{tmp_path} is in use by process {process.pid}" in error
    # Looking at it is free.
    assert run(capsys, "rebalance", tmp_path, "--servers=3")[0] == 0
    assert run(capsys, "evict", tmp_path, "--dry-run")[0] == 0
    assert reader.open_checkpoint(str(tmp_path)).path.endswith("checkpoint-1")
  assert sorted(set(os.listdir(tmp_path)) - {"lock"}) == names
  assert (tmp_path / "checkpoint-1" / "manifest.json").read_bytes() == manifest
  assert run(capsys, "rebalance", tmp_path, "--servers=3", "--apply")[0] == 0


def test_nobody_else_exports_to_a_folder_in_use(holder, tmp_path, capsys):
  model, _ = exports.make_small_model()
  make = lambda: tfps.export.Exporter(model, tmp_path, exports.SMALL_RAW)

  def export():
    exporter = make()
    base = exporter.base()
    exports.train_small_model(model, seed=1)
    delta = exporter.delta()
    other, _ = exports.make_small_model()  # This process may have several, of different tables.
    second = tfps.export.Exporter(other, tmp_path, exports.SMALL_RAW)
    assert second.base().endswith("/base/2")
    with open(tmp_path / "lock") as file, pytest.raises(BlockingIOError):
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return base, delta

  # A frame that AutoGraph looked at keeps its variables until it ends.
  base, delta = export()
  gc.collect()
  assert not (tmp_path / "lock").exists()
  with holder(tmp_path) as process:
    with pytest.raises(LockError, match=f"{tmp_path} is in use by process {process.pid} on "):
      make()
    assert f"{tmp_path} is in use by process" in fails(capsys, "fold", base, delta)
    # Looking at it is free, and so is another folder.
    artifact.check_files(delta, ARTIFACTS.read(delta))
    assert run(capsys, "fold", base, delta, f"--output={tmp_path}/other")[0] == 0
    assert ARTIFACTS.numbers(f"{tmp_path}/base") == [1, 2]
  assert run(capsys, "fold", base, delta)[0] == 0
  assert ARTIFACTS.numbers(f"{tmp_path}/base") == [1, 2, 3]


def test_an_exporter_that_lost_its_lease_writes_nothing(tmp_path):
  model, _ = exports.make_small_model()
  exporter = tfps.export.Exporter(model, f"file://{tmp_path}", exports.SMALL_RAW)
  exporter.base()
  (tmp_path / "lock").write_text('{"lease": "of another"}')
  for export in (exporter.delta, exporter.base):
    with pytest.raises(LockError, match="is in use by process"):
      export()
  assert ARTIFACTS.numbers(f"{tmp_path}/base") == [1] and not (tmp_path / "delta").exists()
