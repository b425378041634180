"""The dense part of a checkpoint: Keras's weights, optimizer and metrics, as a tf.train.Checkpoint."""

import tensorflow as tf

from tfps.checkpoint import files
from tfps.checkpoint.errors import CheckpointError

PREFIX = "dense/model"


def save(model, folder):
  """Writes the model's variables, those of its optimizer and of its metrics."""
  _checkpoint(model).write(files.join(folder, PREFIX))


def restore(model, folder):
  """Reads them back; raises CheckpointError, in half a sentence, if they are not those of `model`."""
  try:
    status = _checkpoint(model).read(files.join(folder, PREFIX))
    status.assert_existing_objects_matched()
  except (AssertionError, ValueError, tf.errors.InvalidArgumentError) as error:
    reason = " ".join(str(error).split())
    raise CheckpointError(f"{PREFIX} does not hold the weights of this model: {reason}") from error


def _checkpoint(model):
  # The optimizer is an attribute of the model, and comes along.
  return tf.train.Checkpoint(model=model, metrics=list(model.metrics))
