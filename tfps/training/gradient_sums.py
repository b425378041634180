"""Gradients of the dense weights, added up over batches until one step takes them all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfps.graph.traced import identity

if TYPE_CHECKING:
  from tfps.training.model import Model


class GradientSums:
  """Sums of gradients: one step with the sum of several batches is the step with them joined.

  Make it in the scope of the model's strategy. A batch's gradient counts by its number of examples
  where the loss is a mean over them, and as it is where the loss is a sum.

  Args:
    model: the `tfps.Model`, built and compiled.

  Attributes:
    variables: the tf.Variables that hold the sums.
    was_given: whether gradients were ever added.
  """

  def __init__(self, model: Model):
    self._model = model
    self._weights = list(model.trainable_variables)
    self._sums = [
      tf.Variable(tf.zeros_like(weight), trainable=False, name="gradient_sum")
      for weight in self._weights
    ]
    self._examples = tf.Variable(0.0, trainable=False, name="gradient_sum_examples")
    self.was_given = False
    self.variables = [*self._sums, self._examples]

  def add(self, gradients_and_variables: Iterable[tuple[Any, tf.Variable]], scale: Any) -> None:
    """Adds one batch's gradients; see `tfps.Model.apply_gradients`."""
    self.was_given = True
    sums = {identity(weight): sum_ for weight, sum_ in zip(self._weights, self._sums)}
    for gradient, variable in gradients_and_variables:
      if gradient is not None:
        sums[identity(variable)].assign_add(tf.convert_to_tensor(gradient) * scale)
    self._examples.assign_add(scale)

  def apply(self) -> None:
    """One step of the optimizer with the sums, which are zero afterwards."""
    # The sum of a loss that is a sum is that of the joined batch.
    examples = tf.ones([]) if self._model.loss_is_sum else tf.maximum(self._examples, 1.0)
    pairs = [(sum_ / examples, weight) for sum_, weight in zip(self._sums, self._weights)]
    self._model.optimizer.apply_gradients(pairs)
    self.clear()

  def clear(self) -> None:
    """Sets all sums to zero."""
    for sum_ in self.variables:
      sum_.assign(tf.zeros_like(sum_))
