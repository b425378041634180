"""What became of bad records."""

import tensorflow as tf
import tf_keras as keras


class SkippedRecords(keras.callbacks.Callback):
  """Knows how many records were bad and are skipped, and tells TensorBoard, as `skipped/<reason>`.

  Args:
    log_dir: folder for TensorBoard's files, written at each day's end; none by default.

  Attributes:
    counts: {reason: how many}, with those before the checkpoint from which the run went on.

  Examples:
    >>> skipped = tfps.callbacks.SkippedRecords()
    >>> history = model.fit(source, callbacks=[skipped], verbose=0)
    >>> skipped.counts
    {}
  """

  def __init__(self, log_dir=None):
    super().__init__()
    self._log_dir = log_dir
    self._writer = None
    self.counts = {}

  def on_moment(self, position):
    self.counts = dict(position.skipped)
    if not self._log_dir or not self.counts:
      return
    if self._writer is None:
      self._writer = tf.summary.create_file_writer(self._log_dir)
    step = int(self.model.optimizer.iterations.numpy())
    with self._writer.as_default():
      for reason, count in self.counts.items():
        tf.summary.scalar(f"skipped/{reason}", count, step=step)
    self._writer.flush()

  def on_train_end(self, logs=None):
    del logs
    if self._writer is not None:
      self._writer.close()
