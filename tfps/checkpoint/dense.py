"""The dense part of a checkpoint: Keras's weights, optimizer and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from tfps.errors import CheckpointError
from tfps.graph import compat
from tfps.storage import files

if TYPE_CHECKING:
  import tf_keras as keras

PREFIX = "dense/model"
RANDOM_PREFIX = "dense/random"


def save(model: keras.Model, folder: str) -> None:
  """Writes the variables of a model, its optimizer, its metrics and its random layers."""
  _checkpoint(model).write(files.join(folder, PREFIX))
  random = _random_states(model)
  if random is not None:
    random.write(files.join(folder, RANDOM_PREFIX))


def restore(model: keras.Model, folder: str) -> None:
  """Reads them back; raises CheckpointError, in half a sentence, if another model saved them."""
  _read(_checkpoint(model), folder, PREFIX, "the weights of this model")
  random = _random_states(model)
  # The run that saved it may have had none: Keras keeps them in variables only on request.
  if random is not None and tf.io.gfile.exists(files.join(folder, f"{RANDOM_PREFIX}.index")):
    _read(random, folder, RANDOM_PREFIX, "the states of this model's random layers")


def _read(checkpoint: tf.train.Checkpoint, folder: str, prefix: str, what: str) -> None:
  try:
    status = checkpoint.read(files.join(folder, prefix))
    status.assert_existing_objects_matched()
  except (AssertionError, ValueError, tf.errors.InvalidArgumentError) as error:
    reason = " ".join(str(error).split())
    raise CheckpointError(f"{prefix} does not hold {what}: {reason}") from error


def _checkpoint(model: keras.Model) -> tf.train.Checkpoint:
  # The optimizer is an attribute of the model, and so is included.
  return tf.train.Checkpoint(model=model, metrics=list(model.metrics))


def _random_states(model: keras.Model) -> tf.train.Checkpoint | None:
  """A checkpoint of the random layers' generators (Dropout and the like), None if there are none.

  Keras shows them to a SavedModel only, not to a checkpoint.
  """
  generators = compat.random_generators(model)
  return tf.train.Checkpoint(generators=generators) if generators else None
