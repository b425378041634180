"""Gradients of the dense weights, added up over batches until one step takes them all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfps.graph.traced import identity
from tfps.training import finite_step

if TYPE_CHECKING:
  from tfps.training.model import Model


class GradientSums:
  """Sums of gradients: one step with the sum of several batches is the step with them joined.

  A batch's gradient counts by its number of examples where the loss is a mean over them, and as it
  is where the loss is a sum. Weights that get no gradient take no step, as in Keras.

  Args:
    model: the `tfps.Model`, built and compiled.

  Attributes:
    was_given: whether gradients were ever added.
  """

  def __init__(self, model: Model):
    self._model = model
    self._weights = {identity(weight): weight for weight in model.trainable_variables}
    # {whether of a mean: {identity of a weight: its sum}}
    self._sums: dict[bool, dict[int, tf.Variable]] = {}
    self._examples: tf.Variable | None = None
    self._batches: tf.Variable | None = None
    self.was_given = False

  @property
  def variables(self) -> list[tf.Variable]:
    """The tf.Variables that hold the sums, once a step was traced."""
    sums = [sum_ for of_kind in self._sums.values() for sum_ in of_kind.values()]
    counts = [one for one in (self._examples, self._batches) if one is not None]
    return [*sums, *counts]

  def add(
    self,
    gradients_and_variables: Iterable[tuple[Any, tf.Variable]],
    scale: Any,
    spoilt: tf.Tensor,
  ) -> None:
    """Adds one batch's gradients, unless its step is spoilt; see `tfps.Model.apply_gradients`."""
    self.was_given = True
    unless_spoilt = lambda value: tf.where(spoilt, tf.zeros_like(value), value)
    is_mean = not (isinstance(scale, (int, float)) and scale == 1)
    sums = self._sums.setdefault(is_mean, {})
    for gradient, variable in gradients_and_variables:
      if gradient is not None:
        key = identity(variable)
        if key not in sums:
          sums[key] = _new(self._weights[key].shape, self._weights[key].dtype)
        gradient = tf.convert_to_tensor(gradient) * tf.cast(scale, sums[key].dtype)
        sums[key].assign_add(unless_spoilt(gradient))
    if is_mean:
      if self._examples is None:
        self._examples = _new([], tf.float32)
      self._examples.assign_add(unless_spoilt(tf.cast(scale, tf.float32)))
    if self._batches is None:
      self._batches = _new([], tf.float32)
    self._batches.assign_add(unless_spoilt(tf.ones([])))

  def apply(self) -> None:
    """One step of the optimizer with the sums, which are zero afterwards."""
    pairs = []
    for key, weight in self._weights.items():
      gradients = []
      for is_mean, sums in self._sums.items():
        if key in sums:
          examples = tf.maximum(self._examples, 1.0) if is_mean else 1.0
          gradients.append(sums[key] / examples)
      if gradients:
        pairs.append((tf.add_n(gradients), weight))
    optimizer = self._model.optimizer
    verdict = finite_step.judge(optimizer, [gradient for gradient, _ in pairs])
    # Without a batch that is not spoilt there is no step, not even one that momentum would make.
    finite_step.apply(optimizer, pairs, verdict.spoilt | (self._batches == 0))
    self.clear()

  def clear(self) -> None:
    """Sets all sums to zero."""
    for sum_ in self.variables:
      sum_.assign(tf.zeros_like(sum_))


def _new(shape: Any, dtype: tf.DType) -> tf.Variable:
  with tf.init_scope():
    return tf.Variable(tf.zeros(shape, dtype), trainable=False, name="gradient_sum")
