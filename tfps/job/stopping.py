"""SIGTERM ends a run on a stream as its own end would: what has begun is finished, a checkpoint saved, exit code 0."""

import contextlib
import signal
import sys
import threading


@contextlib.contextmanager
def on_sigterm(source):
  """While the context lasts, SIGTERM stops `source`, a `tfps.data.stream`; other sources are left to the signal."""
  if not source.is_endless or threading.current_thread() is not threading.main_thread():
    yield
    return

  def stop(signum, frame):
    del signum, frame
    source.stop()
    sys.stderr.write("tfps: SIGTERM; ending once what has begun is trained and saved.\n")

  before = signal.signal(signal.SIGTERM, stop)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)
