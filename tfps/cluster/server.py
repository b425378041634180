"""The life of a worker or parameter server process: it serves until the chief ends it."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
from typing import Any, NoReturn

from tfps.cluster import exit_codes, liveness, memory, resources, tf_config

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5.0

_servers: list[Any] = []  # keeps the server alive until the process ends


def serve(task: tf_config.Task) -> NoReturn:
  """Serves as `task` (a worker or ps), and leaves by SystemExit.

  The exit code is the one the chief sends with its end, or `exit_codes.RESTART` with a sentence on
  stderr when the chief is lost.

  Raises:
    SystemExit: always.
  """
  resources.allow_answers()
  resources.keep_memory()
  import tensorflow as tf

  from tfps import native
  from tfps.graph import python_ops

  python_ops.register()
  watch = liveness.ChiefWatch(task.cluster.chief[0])
  try:
    _servers.append(
      tf.distribute.Server(
        task.cluster.spec(),
        job_name=task.type,
        task_index=task.index,
        protocol="grpc",
        start=True,
      )
    )
  except tf.errors.OpError as error:
    raise SystemExit(
      f"The {task} cannot serve at {task.address}: {error.message}; is its port free?"
    ) from error
  print(f"Serving at {task.address} (pid {os.getpid()}).", file=sys.stderr, flush=True)
  memory_watch = memory.MemoryWatch(f"The {task}", tell=native.tell_memory_share)
  while True:
    code = native.end_signal()
    if code >= 0:
      print(f"The chief is done; ending with exit code {code}.", file=sys.stderr)
      _let_chief_leave(task.cluster.chief[0])
      break
    lost = watch.poll()
    if lost:
      print(lost, file=sys.stderr)
      code = exit_codes.RESTART
      break
    memory_watch.warn()
    time.sleep(_POLL_SECONDS)
  # TensorFlow cannot take a server down in order while calls are running, so the process ends
  # without asking it to, after the exit handlers of the user's program.
  atexit.register(_end_process, code)
  raise SystemExit(code)


def _let_chief_leave(address: str) -> None:
  """Waits briefly for the chief to close its connections, so that it sees no broken ones."""
  deadline = time.monotonic() + _GRACE_SECONDS
  time.sleep(_POLL_SECONDS)
  while time.monotonic() < deadline and liveness.accepts_connections(address):
    time.sleep(_POLL_SECONDS)


def _end_process(code: int) -> NoReturn:
  logging.shutdown()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)
