"""Child processes that do not outlive this one, and whose output is one stream and one log each."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pathlib
import selectors
import signal
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Mapping, Sequence
from typing import TextIO

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def describe_exit(code: int) -> str:
  """Says "exit code 3", or "signal SIGKILL" for subprocess's negative codes."""
  return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


class Child:
  """A process of its own session that ends when this one does.

  Args:
    name: what its lines are prefixed with.
    command: program and arguments.
    env: its whole environment.
    log: the file that gets all of its output, after what is there.
    foreground: its output goes to this process's stdout and stderr as it is, and it sees terminals
      where these are terminals; otherwise its lines go to stderr with "[name] " before each.
  """

  def __init__(
    self,
    name: str,
    command: Sequence[str],
    env: Mapping[str, str],
    log: pathlib.Path,
    foreground: bool,
  ) -> None:
    self.name = name
    self.log = log
    self.foreground = foreground
    self.log_file = open(log, "ab", buffering=0)
    self.started_at = time.monotonic()
    out_read, out_write = _channel(sys.stdout if foreground else None)
    err_read, err_write = _channel(sys.stderr) if foreground else (out_read, out_write)
    launcher = os.getpid()

    def die_with_launcher() -> None:
      _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
      if os.getppid() != launcher:  # It died before the line above.
        os._exit(1)

    self.process = subprocess.Popen(
      command,
      env=env,
      stdin=subprocess.DEVNULL,
      stdout=out_write,
      stderr=err_write,
      start_new_session=True,
      preexec_fn=die_with_launcher,  # noqa: PLW1509
    )
    for fd in {out_write, err_write}:
      os.close(fd)
    self.outputs = {out_read: sys.stdout if foreground else sys.stderr}
    if foreground:
      self.outputs[err_read] = sys.stderr

  def exit_code(self) -> int | None:
    """Returns the exit code, negative for a signal, and None while the process runs."""
    return self.process.poll()

  def send(self, signum: int) -> None:
    """Sends a signal to the process and to all that it has started."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.process.pid, signum)

  def last_lines(self, count: int = 5) -> list[str]:
    """Returns the last lines of the log that say something."""
    lines = self.log.read_text(errors="replace").splitlines()
    return [line for line in lines if line.strip()][-count:]


class Stream:
  """Merges the output of several children into this process's stdout and stderr."""

  def __init__(self) -> None:
    self._selector = selectors.DefaultSelector()
    self._partial: dict[int, bytes] = {}  # the unfinished line of every background output
    self._line_begins = True  # on the terminal

  def add(self, child: Child) -> None:
    """Passes on the output of `child`, too."""
    for fd in child.outputs:
      self._selector.register(fd, selectors.EVENT_READ, child)
      self._partial[fd] = b""

  def remove(self, child: Child) -> None:
    """Leaves `child`, which has ended, out."""
    for key in list(self._selector.get_map().values()):
      if key.data is child:
        self._selector.unregister(key.fd)
        os.close(key.fd)

  def pump(self, timeout: float) -> bool:
    """Passes on what there is, waiting `timeout` seconds for it; returns whether there was any."""
    events = self._selector.select(timeout)
    for key, _ in events:
      self._pass_on(key.fd, key.data)
    return bool(events)

  def drain(self) -> None:
    """Passes on what the children have left behind."""
    while self.pump(0):
      pass

  def say(self, text: str) -> None:
    """Prints a line of this process's own."""
    self._write(sys.stderr, f"{text}\n".encode(), own_line=True)

  def _pass_on(self, fd: int, child: Child) -> None:
    try:
      data = os.read(fd, 65536)
    except OSError:  # how a terminal says that its other end is closed
      data = b""
    child.log_file.write(data)
    if child.foreground:
      self._write(child.outputs[fd], data)
    else:
      *lines, rest = (self._partial[fd] + data).split(b"\n")
      if not data:
        lines, rest = [rest] if rest else [], b""
      self._partial[fd] = rest
      for line in lines:
        line = line.rstrip(b"\r").rsplit(b"\r", 1)[-1]
        self._write(sys.stderr, b"[%s] %s\n" % (child.name.encode(), line), own_line=True)
    if not data:
      self._selector.unregister(fd)
      os.close(fd)

  def _write(self, target: TextIO, data: bytes, own_line: bool = False) -> None:
    if own_line and not self._line_begins and sys.stdout.isatty():
      data = b"\n" + data
    if data:
      self._line_begins = data.endswith(b"\n")
      target.buffer.write(data)
      target.buffer.flush()


def _channel(like: TextIO | None) -> tuple[int, int]:
  """Returns (read end, write end): a terminal where the stream `like` is one, else a pipe."""
  if like is None or not like.isatty():
    return os.pipe()
  reader, writer = os.openpty()
  tty.setraw(writer)
  size = fcntl.ioctl(like.fileno(), termios.TIOCGWINSZ, bytes(8))
  fcntl.ioctl(writer, termios.TIOCSWINSZ, size)
  return reader, writer
