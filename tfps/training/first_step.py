"""Makes the variables that a first train step would make, so that the step can be undone."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras as keras

from tfps.graph import compat
from tfps.layers.exchange import MadeUp
from tfps.training import finite_step
from tfps.training.arguments import is_overridden

if TYPE_CHECKING:
  from tfps.training.model import Model


def make_variables(model: Model, data: Any) -> None:
  """Makes the variables of the model, and of its compiled losses and metrics, if they are missing.

  Nothing is run but initializers; where the step runs eagerly, a forward pass that changes nothing.

  Args:
    model: the `tfps.Model`.
    data: the batch of a train step.
  """
  if model.built and compat.has_built_metrics(model):
    return
  # If this fails, so does the step, which says why, or the step makes what is missing.
  with contextlib.suppress(Exception), MadeUp():
    if tf.executing_eagerly():
      _run(model, data)
    else:
      specs = tf.nest.map_structure(tf.type_spec_from_value, data)
      with tf.init_scope():
        tf.function(lambda batch: _forward(model, batch)).get_concrete_function(specs)


def _run(model: Model, data: Any) -> None:
  kept = finite_step.Kept(model)
  before = {id(metric) for metric in model.metrics}
  _forward(model, data)
  kept.restore(tf.constant(True))
  for metric in model.metrics:
    if id(metric) not in before:
      metric.reset_state()


def _forward(model: Model, data: Any) -> None:
  x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
  y_pred = model(x, training=False)
  y, y_pred, sample_weight = finite_step.sane((y, y_pred, sample_weight), tf.constant(True))
  # Those of the user's own make what they use when they first run, as in Keras.
  if compat.has_compiled_loss(model) and not is_overridden(model, "compute_loss"):
    model.compute_loss(x, y, y_pred, sample_weight)
  if model.compiled_metrics is not None and not is_overridden(model, "compute_metrics"):
    model.compiled_metrics.update_state(y, y_pred, sample_weight)
