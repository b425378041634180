"""The lock of a folder of checkpoints or exports: one process at a time writes to it.

On this machine's file systems it is a lock of the kernel on the file `lock`, which ends with the process that holds it,
however that ends. On others (gs://, hdfs://, a mount that has no such locks) it is a lease: its holder writes `lock`
anew every few seconds, and who finds it unchanged for half a minute takes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
import threading
import time
import uuid

import tensorflow as tf

from tfps.errors import LockError
from tfps.storage import files

_NAME = "lock"
_ENDING_SECONDS = 5.0  # what a process that was just killed may take to let go
LEASE_SECONDS = 30.0  # unchanged for so long, a lease is nobody's
_RENEWALS_PER_LEASE = 6
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

_held = {}  # folder: its lock, as long as something in this process holds it
_registry = threading.RLock()


class Hold:
  """Something of this process that holds a folder's lock; what else in the process does shares it.

  Args:
    folder: the folder; it is made where there is none.

  Raises:
    LockError: another process has the lock; the message names it.
  """

  def __init__(self, folder: str):
    folder = str(folder).rstrip("/")
    self._key = folder if "://" in folder else os.path.realpath(folder)
    with _registry:
      lock = _held.get(self._key)
      if lock is None:
        tf.io.gfile.makedirs(self._key)
        lock = _held[self._key] = _take(self._key)
        lock.holds = 0
      lock.holds += 1
    self._lock = lock

  def check(self) -> None:
    """Raises LockError if the lock was lost: another process thought that this one was dead."""
    self._lock.check()

  def release(self) -> None:
    """Lets go of it; the last one in this process frees it. A second call does nothing."""
    with _registry:
      lock, self._lock = self._lock, None
      if lock is None:
        return
      lock.holds -= 1
      if not lock.holds:
        del _held[self._key]
        lock.free()

  def __enter__(self):
    return self

  def __exit__(self, *exc_info):
    self.release()


def _take(folder):
  path = files.join(folder, _NAME)
  if "://" in folder:
    return _Lease(path)
  try:
    return _KernelLock(path)
  except OSError as error:
    if error.errno not in _NO_LOCKS:
      raise
    return _Lease(path)


class _KernelLock:
  """flock: the kernel frees it when the process ends."""

  def __init__(self, path):
    self._path = path
    deadline = time.monotonic() + _ENDING_SECONDS
    while not self._try():
      if time.monotonic() > deadline:
        raise _in_use(path, _read(path))
      time.sleep(0.1)
    with contextlib.suppress(OSError):  # On a full disk it is held without saying by whom.
      os.write(self._file, json.dumps(_describe()).encode())

  def check(self):
    pass

  def free(self):
    with contextlib.suppress(FileNotFoundError):  # With its folder, perhaps.
      os.unlink(self._path)
    os.close(self._file)

  def _try(self):
    self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      os.ftruncate(self._file, 0)
      # The lock of a file that its last holder has removed is none.
      if os.path.samestat(os.fstat(self._file), os.stat(self._path)):
        return True
    except (BlockingIOError, FileNotFoundError):
      pass
    except OSError:
      os.close(self._file)
      raise
    os.close(self._file)
    return False


class _Lease:
  """A file that its holder writes anew, and who does not is taken for dead."""

  def __init__(self, path):
    self._path = path
    self._mine = {**_describe(), "lease": uuid.uuid4().hex}
    self._beat = 0
    self._mutex = threading.Lock()  # Nobody here reads what is half written.
    self._wait_until_free()
    self._write()
    time.sleep(
      LEASE_SECONDS / _RENEWALS_PER_LEASE / 2
    )  # Whoever else took it at the same time wrote, too.
    self.check()
    self._ended = threading.Event()
    threading.Thread(target=self._renew, daemon=True).start()

  def check(self):
    with self._mutex:
      content = _read(self._path)
    if _parse(content).get("lease") != self._mine["lease"]:
      raise _in_use(self._path, content)

  def free(self):
    self._ended.set()
    try:
      self.check()
      tf.io.gfile.remove(self._path)
    except (LockError, tf.errors.OpError):
      pass  # It is another's, or nobody's.

  def _wait_until_free(self):
    found = _read(self._path)
    begin = time.monotonic()
    while found is not None and time.monotonic() - begin < LEASE_SECONDS:
      time.sleep(LEASE_SECONDS / _RENEWALS_PER_LEASE / 2)
      now = _read(self._path)
      if now is None:
        return
      if now != found:
        raise _in_use(self._path, now)

  def _renew(self):
    while not self._ended.wait(LEASE_SECONDS / _RENEWALS_PER_LEASE):
      try:
        self.check()
        self._write()
      except LockError:
        return  # The next save finds out.
      except tf.errors.OpError:
        continue  # Out of reach for now.

  def _write(self):
    self._beat += 1
    with self._mutex, tf.io.gfile.GFile(self._path, "w") as file:
      file.write(json.dumps({**self._mine, "beat": self._beat}))


def _read(path):
  """What is in the file, as bytes; None where there is none."""
  try:
    with tf.io.gfile.GFile(path, "rb") as file:
      return file.read()
  except tf.errors.NotFoundError:
    return None


def _describe():
  """Who this process is, for a person to find it."""
  return {
    "process": os.getpid(),
    "host": socket.gethostname(),
    "program": os.path.basename(sys.argv[0] or "python"),
    "since": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
  }


def _parse(content):
  try:
    parsed = json.loads(content or b"{}")
  except ValueError:
    return {}
  return parsed if isinstance(parsed, dict) else {}


def _in_use(path, content):
  holder = _parse(content)
  who = "another process"
  if holder:
    who = "process {process} on {host} ({program}, since {since})".format_map(
      {"process": "?", "host": "?", "program": "?", "since": "?", **holder}
    )
  return LockError(
    f"{path.rsplit('/', 1)[0]} is in use by {who}: one process at a time writes to it, so end that one or give "
    "another folder."
  )
