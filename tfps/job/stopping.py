"""SIGTERM ends a run on a stream as its own end would: with a checkpoint and exit code 0."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def on_sigterm(source: Any) -> Iterator[None]:
  """While the context lasts, SIGTERM stops `source` if it is a `tfps.data.stream`.

  On other sources the signal acts as ever. Tickets that have begun are finished.
  """
  if not source.is_endless or threading.current_thread() is not threading.main_thread():
    yield
    return

  def stop(signum: int, frame: Any) -> None:
    del signum, frame
    source.stop()
    sys.stderr.write("tfps: SIGTERM; ending once what has begun is trained and saved.\n")

  before = signal.signal(signal.SIGTERM, stop)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)
