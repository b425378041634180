"""SkippedRecords: the number of bad records and of steps that a run has skipped."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfps.training.callback import Callback
from tfps.training.position import Position


class SkippedRecords(Callback):
  """Counts bad records that were skipped; for TensorBoard as `skipped/<reason>`.

  Args:
    log_dir: folder for TensorBoard's files, written at each day's end; none by default.

  Attributes:
    counts: {reason: number}, with those before the checkpoint from which the run went on.
    nonfinite_steps: the number of train steps that changed no weight, because their loss or a
      gradient was not finite, likewise; for TensorBoard as `nonfinite_steps`.

  Examples:
    >>> skipped = tfps.callbacks.SkippedRecords()
    >>> history = model.fit(source, callbacks=[skipped], verbose=0)
    >>> skipped.counts
    {}
  """

  def __init__(self, log_dir: str | None = None):
    super().__init__()
    self._log_dir = log_dir
    self._writer: Any = None
    self.counts: dict[str, int] = {}
    self.nonfinite_steps = 0

  def on_moment(self, position: Position) -> None:
    self.counts = dict(position.skipped)
    self.nonfinite_steps = position.nonfinite_steps
    if not self._log_dir or not (self.counts or self.nonfinite_steps):
      return
    if self._writer is None:
      self._writer = tf.summary.create_file_writer(self._log_dir)
    step = int(self.model.optimizer.iterations.numpy())
    with self._writer.as_default():
      for reason, count in self.counts.items():
        tf.summary.scalar(f"skipped/{reason}", count, step=step)
      if self.nonfinite_steps:
        tf.summary.scalar("nonfinite_steps", self.nonfinite_steps, step=step)
    self._writer.flush()

  def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
    if self._writer is not None:
      self._writer.close()
