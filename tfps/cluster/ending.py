"""The end: however the chief's program ends, every worker and parameter server is told."""

from __future__ import annotations

import atexit
import signal
import sys
import threading
import time

from tfps.cluster import failures, tf_config

_TELL_SECONDS = 5.0

_lock = threading.Lock()
_cluster: tf_config.Cluster | None = None  # to be told; None before the start and after the end
_failed = False


def watch_program(cluster: tf_config.Cluster) -> None:
  """Makes the end of this process, the chief of `cluster`, the end of the cluster."""
  global _cluster
  _cluster = cluster
  previous_hook = sys.excepthook

  def excepthook(kind, error, trace):
    global _failed
    _failed = True
    previous_hook(kind, error, trace)
    if failures.is_tensorflow_error(error):
      print(f"tfps: {failures.explain(error, cluster)}", file=sys.stderr, flush=True)

  sys.excepthook = excepthook
  atexit.register(end)
  in_main_thread = threading.current_thread() is threading.main_thread()
  if in_main_thread and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
    signal.signal(signal.SIGTERM, _terminate)


def end(exit_code: int | None = None) -> None:
  """Tells every worker and parameter server to end with `exit_code`; does nothing twice.

  It runs by itself when the chief's program ends. Called on the chief, it ends the cluster now.
  A task that does not answer is given up after a few seconds.

  Args:
    exit_code: 0 to 255 (1 for any other); by default 1 where the program ends by an unhandled
      exception, else 0.
  """
  global _cluster
  with _lock:
    cluster, _cluster = _cluster, None
  if cluster is None:
    return
  code = int(_failed) if exit_code is None else exit_code
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


def _terminate(signum, frame):
  del frame
  global _failed
  _failed = True
  raise SystemExit(128 + signum)


def _tell(job: str, index: int, code: int) -> None:
  from tfps import native
  import tensorflow as tf

  try:
    with tf.device(f"/job:{job}/replica:0/task:{index}/device:CPU:0"):
      native.ops.tfps_end_process(exit_code=tf.constant(code, tf.int32))
  except tf.errors.OpError:
    pass  # It has ended already, or it will miss the chief.
