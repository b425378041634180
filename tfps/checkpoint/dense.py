"""The dense part of a checkpoint: Keras's weights, optimizer and metrics, as a tf.train.Checkpoint."""

import tensorflow as tf

from tfps.errors import CheckpointError
from tfps.storage import files

PREFIX = "dense/model"
RANDOM_PREFIX = "dense/random"


def save(model, folder):
  """Writes the model's variables, those of its optimizer and of its metrics, and the states of its random layers."""
  _checkpoint(model).write(files.join(folder, PREFIX))
  random = _random_states(model)
  if random is not None:
    random.write(files.join(folder, RANDOM_PREFIX))


def restore(model, folder):
  """Reads them back; raises CheckpointError, in half a sentence, if they are not those of `model`."""
  _read(_checkpoint(model), folder, PREFIX, "the weights of this model")
  random = _random_states(model)
  # A run that had none saved none: Keras keeps them in variables only where it is told to.
  if random is not None and tf.io.gfile.exists(files.join(folder, f"{RANDOM_PREFIX}.index")):
    _read(random, folder, RANDOM_PREFIX, "the states of this model's random layers")


def _read(checkpoint, folder, prefix, what):
  try:
    status = checkpoint.read(files.join(folder, prefix))
    status.assert_existing_objects_matched()
  except (AssertionError, ValueError, tf.errors.InvalidArgumentError) as error:
    reason = " ".join(str(error).split())
    raise CheckpointError(f"{prefix} does not hold {what}: {reason}") from error


def _checkpoint(model):
  # The optimizer is an attribute of the model, and comes along.
  return tf.train.Checkpoint(model=model, metrics=list(model.metrics))


def _random_states(model):
  """A tf.train.Checkpoint of the random layers' generators (Dropout and the like), None if there are none.

  Keras shows them to a SavedModel only, not to a checkpoint.
  """
  layers = (getattr(layer, "_random_generator", None) for layer in model.submodules)
  generators = [getattr(layer, "_generator", None) for layer in layers]
  generators = [one for one in generators if isinstance(one, tf.random.Generator)]
  return tf.train.Checkpoint(generators=generators) if generators else None
