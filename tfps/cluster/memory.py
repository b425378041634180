"""Warns before memory runs out: a process that the kernel kills for it cannot say why."""

from __future__ import annotations

import os
import pathlib
import sys
import time
from collections.abc import Callable

POLL_SECONDS = 5.0
MOST = 0.9  # of what a process has and could have
AGAIN_BELOW = 0.8

_CGROUP = pathlib.Path("/sys/fs/cgroup")


class MemoryWatch:
  """Tells when this process holds more than 90 % of the memory that it could have.

  That is what it holds and what is left, of the machine or of the container's limit (cgroup v1 or
  v2), whichever is less.

  Args:
    who: the sentence's subject, such as "The ps 0".
    read: returns (bytes held, bytes left), or None if the system does not say.
    tell: called with the share after each look.
  """

  def __init__(
    self,
    who: str = "This process",
    read: Callable[[], tuple[int, int] | None] | None = None,
    tell: Callable[[float], object] | None = None,
  ) -> None:
    self._who = who
    self._tell = tell
    self._read = held_and_left if read is None else read
    self._last_poll = -POLL_SECONDS
    self._has_told = False

  def poll(self) -> str | None:
    """Looks, if it is time to.

    Returns a sentence once the share passes 90 %, and again only after it was below 80 %.
    """
    now = time.monotonic()
    if now - self._last_poll < POLL_SECONDS:
      return None
    self._last_poll = now
    found = self._read()
    if found is None:
      return None
    held, left = found
    share = held / max(held + left, 1)
    if self._tell is not None:
      self._tell(share)
    if share < AGAIN_BELOW:
      self._has_told = False
    if share < MOST or self._has_told:
      return None
    self._has_told = True
    return (
      f"{self._who} is running out of memory: it holds {held / 2**30:.2f} GiB, and "
      f"{left / 2**30:.2f} GiB are left. Give its tables max_bytes or max_rows, raise "
      "delete_threshold, or add parameter servers."
    )

  def warn(self) -> None:
    """Polls, and says on stderr what that returns."""
    sentence = self.poll()
    if sentence:
      print(f"tfps: warning: {sentence}", file=sys.stderr, flush=True)


def held_and_left(
  proc: pathlib.Path = pathlib.Path("/proc"), cgroup: pathlib.Path = _CGROUP
) -> tuple[int, int] | None:
  """Returns this process's resident bytes and the bytes it could still get; None off Linux."""
  try:
    pages = int((proc / "self" / "statm").read_text().split()[1])
    left = _kib(proc / "meminfo", "MemAvailable:")
  except (OSError, ValueError, IndexError):
    return None
  limited = _left_of_container(cgroup)
  return pages * os.sysconf("SC_PAGE_SIZE"), left if limited is None else min(left, limited)


def _left_of_container(cgroup: pathlib.Path) -> int | None:
  """Returns the bytes left of the container's limit; None without a limit.

  Cached files that can be dropped count as free.
  """
  for most, used, cached in (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
  ):
    try:
      limit = int((cgroup / most).read_text())
      usage = int((cgroup / used).read_text())
      stat = (cgroup / most).with_name("memory.stat").read_text()
      files = dict(line.split() for line in stat.splitlines())
    except (OSError, ValueError):
      continue  # Another version, or no limit ("max").
    return max(limit - usage + int(files.get(cached, 0)), 0)
  return None


def _kib(path: pathlib.Path, name: str) -> int:
  for line in path.read_text().splitlines():
    if line.startswith(name):
      return int(line.split()[1]) * 1024
  raise ValueError(f"{path} has no {name}")
