"""From TF_CONFIG to a running strategy."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from typing import TYPE_CHECKING

from tfps.cluster import ending, failures, liveness, members, server, tf_config
from tfps.errors import ConfigError

if TYPE_CHECKING:
  import tensorflow as tf

_running = None  # the chief's strategy: a process connects to its cluster once


def strategy(connect_timeout: float = 600.0) -> tf.distribute.Strategy:
  """Starts this process's role in the cluster that TF_CONFIG describes.

  Every role runs the same program. Without TF_CONFIG this process is alone. On the chief the call
  waits until every worker and parameter server accepts connections, and connects to them; when the
  chief's program ends, they end with it. In a worker or ps process the call does not return: it
  serves, and leaves by SystemExit.

  Args:
    connect_timeout: how many seconds the chief waits for the others.

  Returns:
    A `tf.distribute.Strategy`: `tf.distribute.get_strategy()` without TF_CONFIG, else a
    `tf.distribute.ParameterServerStrategy`, the same one for every call.

  Raises:
    ConfigError: TF_CONFIG is wrong, or this process's task type is evaluator.
    LostError: a worker or parameter server did not come up in time, or serves an earlier chief; the
      message names it.
    SystemExit: in a worker or ps process, always.

  Examples:
    >>> strategy = tfps.strategy()
    >>> with strategy.scope():
    ...   table = tfps.FeasignTable("ctr")
    >>> table.num_servers
    1
  """
  global _running
  task = tf_config.read()
  if task is None:
    import tensorflow as tf

    return tf.distribute.get_strategy()
  if task.type == "evaluator":
    raise ConfigError(
      'TF_CONFIG: task.type is "evaluator", which takes no part in the strategy; start it with '
      "tfps train, or "
      "use tfps.evaluation.Evaluator in your program."
    )
  # A call to a task that has died ends in an error instead of waiting for it to come back.
  os.environ.setdefault("GRPC_FAIL_FAST", "use_caller")
  if task.type != "chief":
    server.serve(task)
  if _running is None:
    _running = _connect(task.cluster, connect_timeout)
  return _running


def _connect(cluster: tf_config.Cluster, connect_timeout: float) -> tf.distribute.Strategy:
  import tensorflow as tf

  from tfps import native  # noqa: F401 It loads the ops before the server starts.

  liveness.wait_for_servers(
    cluster, connect_timeout, lambda line: print(line, file=sys.stderr, flush=True)
  )
  resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
    tf.train.ClusterSpec(cluster.spec()), task_type="chief", task_id=0, rpc_layer="grpc"
  )
  if not os.environ.get("TFPS_DEBUG"):
    logging.getLogger("tensorflow").addFilter(failures.CoordinatorLog())
  servers = members.Members(cluster)
  ending.watch_program(cluster, servers)
  strategy = tf.distribute.ParameterServerStrategy(resolver)
  # There is one coordinator for a strategy. Its __del__ waits for workers that are lost, so it must
  # not run when the process ends: this reference is never given back.
  coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
  ctypes.pythonapi.Py_IncRef(ctypes.py_object(coordinator))
  servers.join()
  return strategy
