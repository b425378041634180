"""The lock of a folder of checkpoints or exports: one process at a time writes to it.

On this machine's file systems the lock is the kernel's, on the file `lock`: it ends with the
process that holds it, however that process ends. Elsewhere (gs://, hdfs://, a mount without such
locks) it is a lease: the holder rewrites the file `lock` every few seconds, and a process that
finds the file unchanged for half a minute takes the lease over.
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
from typing import Any, Protocol

import tensorflow as tf

from tfps.errors import LockError
from tfps.storage import files

_NAME = "lock"
_ENDING_SECONDS = 5.0  # A process that was just killed lets go within this time.
LEASE_SECONDS = 30.0  # A lease that is unchanged for this time has no holder.
_RENEWALS_PER_LEASE = 6
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class _Lock(Protocol):
  def check(self) -> None: ...

  def free(self) -> None: ...


class _Held:
  """A lock that this process has, and how many `Hold`s share it."""

  def __init__(self, lock: _Lock) -> None:
    self.lock = lock
    self.holds = 0


_held: dict[str, _Held] = {}  # By folder.
_registry = threading.RLock()


class Hold:
  """Holds a folder's lock; all `Hold`s of one folder in one process share the lock.

  Args:
    folder: the folder; it is made if it does not exist.

  Raises:
    LockError: another process has the lock; the message names it.
  """

  def __init__(self, folder: str | os.PathLike[str]) -> None:
    folder = str(folder).rstrip("/")
    self._key = folder if "://" in folder else os.path.realpath(folder)
    with _registry:
      held = _held.get(self._key)
      if held is None:
        tf.io.gfile.makedirs(self._key)
        held = _held[self._key] = _Held(_take(self._key))
      held.holds += 1
    self._held: _Held | None = held

  def check(self) -> None:
    """Raises LockError if the lock was lost: another process took this one for dead."""
    if self._held is None:
      raise RuntimeError(f"the lock of {self._key} was released")
    self._held.lock.check()

  def release(self) -> None:
    """Lets go; the last `Hold` of this process frees the lock. A second call does nothing."""
    with _registry:
      held, self._held = self._held, None
      if held is None:
        return
      held.holds -= 1
      if not held.holds:
        del _held[self._key]
        held.lock.free()

  def __enter__(self) -> Hold:
    return self

  def __exit__(self, *exc_info: object) -> None:
    self.release()


def _take(folder: str) -> _Lock:
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

  def __init__(self, path: str) -> None:
    self._path = path
    deadline = time.monotonic() + _ENDING_SECONDS
    while not self._try():
      if time.monotonic() > deadline:
        raise _in_use(path, _read(path))
      time.sleep(0.1)
    with contextlib.suppress(OSError):  # On a full disk the lock does not name its holder.
      os.write(self._file, json.dumps(_describe()).encode())

  def check(self) -> None:
    pass

  def free(self) -> None:
    with contextlib.suppress(FileNotFoundError):  # The folder may have been removed.
      os.unlink(self._path)
    os.close(self._file)

  def _try(self) -> bool:
    self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      os.ftruncate(self._file, 0)
      # The last holder may have removed the file: a lock on a removed file is worthless.
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
  """A file that its holder keeps rewriting; a holder that stops is taken for dead."""

  def __init__(self, path: str) -> None:
    self._path = path
    self._mine = {**_describe(), "lease": uuid.uuid4().hex}
    self._beat = 0
    self._mutex = threading.Lock()  # No thread here reads a file that is half written.
    self._wait_until_free()
    self._write()
    # Another process may have taken it at the same time: the last one to write has it.
    time.sleep(LEASE_SECONDS / _RENEWALS_PER_LEASE / 2)
    self.check()
    self._ended = threading.Event()
    threading.Thread(target=self._renew, daemon=True).start()

  def check(self) -> None:
    with self._mutex:
      content = _read(self._path)
    if _parse(content).get("lease") != self._mine["lease"]:
      raise _in_use(self._path, content)

  def free(self) -> None:
    self._ended.set()
    try:
      self.check()
      tf.io.gfile.remove(self._path)
    except (LockError, tf.errors.OpError):
      pass  # Another process has it, or none.

  def _wait_until_free(self) -> None:
    found = _read(self._path)
    begin = time.monotonic()
    while found is not None and time.monotonic() - begin < LEASE_SECONDS:
      time.sleep(LEASE_SECONDS / _RENEWALS_PER_LEASE / 2)
      now = _read(self._path)
      if now is None:
        return
      if now != found:
        raise _in_use(self._path, now)

  def _renew(self) -> None:
    while not self._ended.wait(LEASE_SECONDS / _RENEWALS_PER_LEASE):
      try:
        self.check()
        self._write()
      except LockError:
        return  # The next save will raise it.
      except tf.errors.OpError:
        continue  # Out of reach for now.

  def _write(self) -> None:
    self._beat += 1
    with self._mutex, tf.io.gfile.GFile(self._path, "w") as file:
      file.write(json.dumps({**self._mine, "beat": self._beat}))


def _read(path: str) -> bytes | None:
  """The file's content; None where there is no file."""
  try:
    with tf.io.gfile.GFile(path, "rb") as file:
      return file.read()
  except tf.errors.NotFoundError:
    return None


def _describe() -> dict[str, Any]:
  """Names this process, so that a person can find it."""
  return {
    "process": os.getpid(),
    "host": socket.gethostname(),
    "program": os.path.basename(sys.argv[0] or "python"),
    "since": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
  }


def _parse(content: bytes | None) -> dict[str, Any]:
  try:
    parsed = json.loads(content or b"{}")
  except ValueError:
    return {}
  return parsed if isinstance(parsed, dict) else {}


def _in_use(path: str, content: bytes | None) -> LockError:
  holder = _parse(content)
  who = "another process"
  if holder:
    who = "process {process} on {host} ({program}, since {since})".format_map(
      {"process": "?", "host": "?", "program": "?", "since": "?", **holder}
    )
  return LockError(
    f"{path.rsplit('/', 1)[0]} is in use by {who}: one process at a time writes to it, so end that "
    "one or give another folder."
  )
