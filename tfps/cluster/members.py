"""The processes that serve a chief: whether each is still the same process.

A server's rows and dense weights are lost with its process. A new process at the same address is
recognised by its incarnation, a random number; one that serves an earlier chief is recognised by
its run, for a server serves only the first chief that asks.
"""

from __future__ import annotations

import threading
import time
import uuid

from tfps.cluster import liveness, tf_config
from tfps.errors import LostError

_ANSWER_SECONDS = 5.0


class Members:
  """The workers and parameter servers of `cluster`, for a run of their own."""

  def __init__(self, cluster: tf_config.Cluster):
    self._cluster = cluster
    self._run = uuid.uuid4().hex
    self._incarnations: dict[int, int] = {}  # of the parameter servers

  def join(self) -> None:
    """Takes every server for this run, once the strategy is connected.

    Raises:
      LostError: one serves an earlier chief.
    """
    import tensorflow as tf

    try:
      for job, index, _ in self._cluster.servers():
        incarnation = self._ask(job, index)
        if job == "ps":
          self._incarnations[index] = incarnation
    except tf.errors.FailedPreconditionError:
      raise LostError(
        f"{job} {index} still serves an earlier chief, and holds that chief's rows and weights: "
        "every task ends now, to be started again."
      ) from None

  def lost(self) -> list[str]:
    """Returns the names of the servers that do not answer within seconds or have been restarted."""
    answers = set()

    def ask(task: tuple[str, int, str]) -> None:
      job, index, address = task
      if liveness.accepts_connections(address):
        try:
          incarnation = self._ask(job, index)
        except Exception:  # Any error means that it is another process.
          return
        if job != "ps" or incarnation == self._incarnations.get(index):
          answers.add(task)

    tasks = list(self._cluster.servers())
    threads = [threading.Thread(target=ask, args=(task,), daemon=True) for task in tasks]
    for thread in threads:
      thread.start()
    deadline = time.monotonic() + _ANSWER_SECONDS
    for thread in threads:
      thread.join(max(0.0, deadline - time.monotonic()))
    missing = [task for task in tasks if task not in answers]
    return [f"{job} {index} ({address})" for job, index, address in missing]

  def _ask(self, job: str, index: int) -> int:
    import tensorflow as tf

    from tfps import native

    with tf.device(f"/job:{job}/replica:0/task:{index}/device:CPU:0"):
      return int(native.ops.tfps_join_run(run=tf.constant(self._run)))
