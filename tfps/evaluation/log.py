"""TensorBoard's event files, from which an evaluator also knows what it has evaluated."""

from collections.abc import Iterator, Mapping

import tensorflow as tf

_CHECKPOINT_TAG = "checkpoint"


class EvaluationLog:
  """Writes the metrics of checkpoints for TensorBoard, and knows which are there.

  Args:
    folder: where the event files are, those of an earlier evaluator too.
  """

  def __init__(self, folder: str) -> None:
    self.done = set(_checkpoints_in(folder))
    self._writer = tf.summary.create_file_writer(folder)

  def write(self, identity: str, results: Mapping[str, float], step: int) -> None:
    """Writes what was found for a checkpoint.

    Afterwards `identity` is in `done`, now and after a restart.

    Args:
      identity: text that no other checkpoint has.
      results: {tag: float}.
      step: where on TensorBoard's axis.
    """
    with self._writer.as_default():
      for tag, value in results.items():
        tf.summary.scalar(tag, value, step=step)
      # Last: metrics of which it is missing are not complete.
      tf.summary.text(_CHECKPOINT_TAG, identity, step=step)
    self._writer.flush()
    self.done.add(identity)


def _checkpoints_in(folder: str) -> Iterator[str]:
  for path in sorted(tf.io.gfile.glob(f"{folder}/events.out.tfevents.*")):
    try:
      for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        for value in tf.compat.v1.Event.FromString(record).summary.value:
          if value.tag == _CHECKPOINT_TAG:
            yield value.tensor.string_val[0].decode()
    except tf.errors.DataLossError:
      pass  # The last record of a process that was killed.
