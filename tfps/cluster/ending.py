"""The end of a cluster: when the chief's program ends, in whatever way, so do all servers."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import NoReturn

from tfps.cluster import exit_codes, failures, liveness, tf_config
from tfps.cluster.members import Members
from tfps.errors import LostError

_TELL_SECONDS = 5.0
_RAISE_SECONDS = 20.0  # a program usually notices within them that a parameter server is lost

_lock = threading.Lock()
_cluster: tf_config.Cluster | None = None  # to be ended; None before the start and after the end
_members: Members | None = None
_exit_code = 0  # of the program, as far as it is known


def watch_program(cluster: tf_config.Cluster, members: Members) -> None:
  """Makes the end of this process, the chief of `cluster`, the end of the cluster.

  Args:
    cluster: of which this process is the chief.
    members: its servers. Where a parameter server is lost and the program does not notice, it is
      ended.
  """
  global _cluster, _members
  _cluster, _members = cluster, members
  previous_hook = sys.excepthook

  def excepthook(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
  ) -> None:
    global _exit_code
    _exit_code = code_after(error)
    previous_hook(kind, error, trace)
    if failures.is_tensorflow_error(error):
      print(f"tfps: {failures.explain(error, cluster)}", file=sys.stderr, flush=True)

  sys.excepthook = excepthook
  atexit.register(_end_at_exit)
  in_main_thread = threading.current_thread() is threading.main_thread()
  if in_main_thread and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
    signal.signal(signal.SIGTERM, _terminate)
  threading.Thread(target=_watch_servers, args=(cluster,), daemon=True).start()


def code_after(error: BaseException) -> int:
  """Returns the exit code for `error`: `RESTART` if a lost task is the cause, else `FAILED`."""
  if isinstance(error, LostError):
    return exit_codes.RESTART
  if _members is None:
    return exit_codes.FAILED
  if failures.is_connection_error(error):
    return exit_codes.RESTART
  # What TensorFlow raises when a process goes away depends on what it was about to do.
  lost = _members.lost()
  if not lost:
    return exit_codes.FAILED
  verb = "is" if len(lost) == 1 else "are"
  print(f"tfps: {', '.join(lost)} {verb} lost.", file=sys.stderr, flush=True)
  return exit_codes.RESTART


def end(exit_code: int | None = None) -> None:
  """Tells every worker and parameter server to end with `exit_code`; does nothing twice.

  It runs by itself when the chief's program ends. Called on the chief, it ends the cluster now.
  A task that does not answer is given up after a few seconds.

  Args:
    exit_code: 0 to 255 (1 for any other); by default that with which the program ends: 0, or after
      an unhandled exception `exit_codes.RESTART` where a lost task is the cause and else 1.
  """
  global _cluster
  with _lock:
    cluster, _cluster = _cluster, None
  if cluster is None:
    return
  code = _exit_code if exit_code is None else exit_code
  code = code if 0 <= code <= 255 else 1
  threads = [
    threading.Thread(target=_tell, args=(job, index, code), daemon=True)
    for job, index, _ in cluster.servers()
  ]
  for thread in threads:
    thread.start()
  deadline = time.monotonic() + _TELL_SECONDS
  for thread in threads:
    thread.join(max(0.0, deadline - time.monotonic()))


def _end_at_exit() -> None:
  end()
  if _exit_code == exit_codes.RESTART:  # Python itself would end with 1.
    _leave(_exit_code)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
  del frame
  global _exit_code
  _exit_code = 1
  raise SystemExit(128 + signum)


def _tell(job: str, index: int, code: int) -> None:
  import tensorflow as tf

  from tfps import native

  try:
    with tf.device(f"/job:{job}/replica:0/task:{index}/device:CPU:0"):
      native.ops.tfps_end_process(exit_code=tf.constant(code, tf.int32))
  except tf.errors.OpError:
    pass  # It has ended already, or it will miss the chief.


def _watch_servers(cluster: tf_config.Cluster) -> None:
  """Ends this process if a parameter server is lost and the program, for whatever reason, stays."""
  watches = [liveness.ServerWatch(index, address) for index, address in enumerate(cluster.ps)]
  while True:
    time.sleep(liveness.PROBE_SECONDS)
    for watch in watches:
      if (lost := watch.poll()) is None:
        continue
      time.sleep(_RAISE_SECONDS)
      if _cluster is None:  # The end has begun.
        return
      print(f"tfps: error: {lost}", file=sys.stderr, flush=True)
      end(exit_codes.RESTART)
      _leave(exit_codes.RESTART)


def _leave(code: int) -> NoReturn:
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)
