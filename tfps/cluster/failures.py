"""Errors in one sentence: TensorFlow's without their graph and gRPC traces."""

from __future__ import annotations

import logging
import re

from tfps.cluster import tf_config
from tfps.errors import ConfigError
from tfps.graph import compat

_TARGET = re.compile(r"remote target /job:(\w+)/replica:\d+/task:(\d+)")
_NODE = re.compile(r"\{\{node ([^}]+)\}\}")
_FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+)', re.MULTILINE)
_NOISE = re.compile(
  r"^(Graph execution error:|Additional GRPC error information|:\{\"created\"|\[\[|"
  r"\d+ root error\(s\) found|\d+ successful operations|\d+ derived errors ignored|"
  r"\(\d+\)\s*CANCELLED:)"
)
_ROOT_ERROR = re.compile(r"^\(\d+\)\s*[A-Z_]+:\s*")
_CALLED_OP = re.compile(r"\s*\[Op:[^\]]*\]\s*(name: .*)?$")
_JOB_NAMES = {"worker": "Worker", "ps": "Parameter server", "chief": "The chief"}


def is_tensorflow_error(error: BaseException) -> bool:
  """Whether `error` is a `tf.errors.OpError`, or the coordinator's wrapping of one."""
  error = compat.original_error(error)
  return isinstance(getattr(error, "message", None), str) and hasattr(error, "node_def")


def readable(error: BaseException) -> BaseException:
  """Returns the TensorFlow error behind a UnicodeDecodeError, or `error` itself.

  TensorFlow's message may quote bytes of the data, which Python cannot decode.
  """
  if not isinstance(error, UnicodeDecodeError):
    return error
  from tensorflow import errors

  return errors.InvalidArgumentError(None, None, error.object.decode(errors="replace"))


def is_connection_error(error: BaseException) -> bool:
  """Whether TensorFlow says that a process cannot be reached, or has gone away."""
  kinds = ("UnavailableError", "PSUnavailableError", "AbortedError", "DeadlineExceededError")
  return is_tensorflow_error(error) and type(compat.original_error(error)).__name__ in kinds


def explain(error: BaseException, cluster: tf_config.Cluster | None = None) -> str:
  """Says in one sentence what went wrong, the underlying cause first.

  Args:
    error: an exception; a `tf.errors.OpError` loses its traces and names the task it comes from.
    cluster: gives the tasks' addresses; by default the cluster of TF_CONFIG.

  Examples:
    >>> tfps.cluster.explain(ValueError("mf_dim must be 1 or more, not 0."))
    'mf_dim must be 1 or more, not 0.'
  """
  if not is_tensorflow_error(error):
    return " ".join(str(error).split()) or type(error).__name__
  error = compat.original_error(error)
  kind = type(error).__name__
  text = str(getattr(error, "message", ""))
  cause = _cause(text) or kind
  task = _TARGET.search(text)  # the innermost call's target comes first
  if task and kind in ("UnavailableError", "PSUnavailableError"):
    job, index = task[1], int(task[2])
    remedy = (
      "the cluster has to start again"
      if job == "ps"
      else "the work it had is done again by the others"
    )
    name = f"{_JOB_NAMES.get(job, job)} {index}{_at_address(job, index, cluster)}"
    return f"{name} is lost ({cause}); its log says why, and {remedy}."
  where = kind
  node = _NODE.search(text)
  if node and not node[1].startswith("IteratorGetNext"):
    where += f" in {node[1]}"
  frames = _FRAME.findall(text)
  if frames:
    where += " at {}:{}".format(*frames[-1])
  if task:
    where += f" on {task[1]} {task[2]}{_at_address(task[1], int(task[2]), cluster)}"
  return f"{cause} ({where})"


def _cause(text: str) -> str:
  """The message itself: no graph traces, no gRPC trailers, no derived errors."""
  lines = []
  in_trace = False
  for line in text.splitlines():
    stripped = line.strip()
    if stripped.startswith("Detected at node"):
      in_trace = True
    elif not in_trace or not (
      not stripped or line[0].isspace() or stripped == "<stack traces unavailable>"
    ):
      in_trace = False
      line = _CALLED_OP.sub("", _ROOT_ERROR.sub("", stripped))
      if line and not _NOISE.match(stripped) and line not in lines:
        lines.append(line)
  return " ".join(lines)


def _at_address(job: str, index: int, cluster: tf_config.Cluster | None) -> str:
  if cluster is None:
    try:
      task = tf_config.read()
    except ConfigError:
      task = None
    if task is None:
      return ""
    cluster = task.cluster
  addresses = getattr(cluster, job, ())
  return f" at {addresses[index]}" if index < len(addresses) else ""


class CoordinatorLog(logging.Filter):
  """Makes the coordinator's log records one line each, and drops what is raised anyway.

  TensorFlow's ClusterCoordinator logs every failed closure with all of its traces, several times,
  before it raises the error.
  """

  def filter(self, record: logging.LogRecord) -> bool:
    message = str(record.msg)
    if message.startswith(compat.COORDINATOR_LOGS):
      return False
    for argument in record.args if isinstance(record.args, tuple) else ():
      if isinstance(argument, BaseException) and is_tensorflow_error(argument):
        record.msg, record.args = explain(argument).replace("%", "%%"), ()
        break
    return True
