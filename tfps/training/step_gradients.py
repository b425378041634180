"""The gradients of one train step, of dense weights and of pulled rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras as keras

from tfps.training.reductions import MEAN, SUM

_Gradient = Any  # A tf.Tensor, tf.IndexedSlices, or None if the loss does not depend on it.


class Share(NamedTuple):
  """The gradients of a part of the loss.

  Attributes:
    dense: those of the dense weights.
    rows: those of the pulled rows.
    scale: what turns them into those of the sum over examples.
    spoilt: 0, or NaN if the rows are not to take a step.
  """

  dense: list[_Gradient]
  rows: list[_Gradient]
  scale: float | tf.Tensor
  spoilt: float | tf.Tensor = 0.0


class LossScale:
  """The loss scale of `keras.mixed_precision.LossScaleOptimizer`, for dense weights and rows alike.

  Where a gradient is not finite, be it of a row, no weight takes a step, be it of a row, and the
  optimizer lowers the scale. Nothing is scaled by other optimizers, nor without dense weights,
  whose steps the scale would follow.

  Args:
    optimizer: the model's.
    variables: the dense weights.
  """

  def __init__(self, optimizer: Any, variables: Sequence[tf.Variable]):
    scales = isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer) and variables
    self._optimizer = optimizer if scales else None

  def scaled(self, loss: tf.Tensor) -> tf.Tensor:
    """What is differentiated in the place of `loss`; called under the tape."""
    return loss if self._optimizer is None else self._optimizer.get_scaled_loss(loss)

  def unscaled(self, shares: Sequence[Share]) -> list[Share]:
    """The shares of the loss, from those of the scaled one."""
    if self._optimizer is None:
      return list(shares)
    unscale = lambda gradients: self._optimizer.get_unscaled_gradients(list(gradients))
    shares = [Share(unscale(dense), unscale(rows), scale) for dense, rows, scale, _ in shares]
    spoilt = _zero_or_nan(shares)
    # One gradient that is not finite is enough for the optimizer.
    return [Share(_added(dense, spoilt), rows, scale, spoilt) for dense, rows, scale, _ in shares]


def shares(
  tape: tf.GradientTape,
  parts: Mapping[str, tf.Tensor],
  variables: Sequence[tf.Variable],
  rows: Sequence[tf.Tensor],
  batch_size: tf.Tensor,
) -> list[Share]:
  """The shares of the parts of a loss, as `LossReductions.parts` gives them.

  Args:
    tape: a persistent one, which recorded the parts.
    parts: the parts.
    variables: the dense weights.
    rows: the pulled rows.
    batch_size: float scalar.
  """
  scales = {MEAN: batch_size, SUM: 1.0}
  found = []
  for over_batch, part in parts.items():
    dense, of_rows = tape.gradient(part, [list(variables), list(rows)])
    found.append(Share(dense, of_rows, scales[over_batch]))
  return found


def dense_of(shares: Sequence[Share]) -> list[_Gradient]:
  """The gradients of the dense weights, of the whole loss."""
  if len(shares) == 1:
    return shares[0].dense
  by_weight = zip(*(share.dense for share in shares))
  return [_sum([(gradient, 1.0) for gradient in of_one]) for of_one in by_weight]


def rows_of(shares: Sequence[Share]) -> tuple[list[_Gradient], float | tf.Tensor]:
  """(those of the rows, what turns them into those of the sum over examples), for `Step.push`."""
  if len(shares) == 1:
    return shares[0].rows, shares[0].scale + shares[0].spoilt
  by_lookup = zip(*(share.rows for share in shares))
  scales = [share.scale + share.spoilt for share in shares]
  return [_sum(list(zip(of_one, scales))) for of_one in by_lookup], 1.0


def _sum(scaled: Sequence[tuple[_Gradient, float | tf.Tensor]]) -> _Gradient:
  there = [tf.convert_to_tensor(one) * scale for one, scale in scaled if one is not None]
  return tf.add_n(there) if there else None


def _zero_or_nan(shares: Sequence[Share]) -> tf.Tensor:
  """0, or NaN if a gradient is not finite."""
  gradients = [one for share in shares for one in (*share.dense, *share.rows) if one is not None]
  values = [one.values if isinstance(one, tf.IndexedSlices) else one for one in gradients]
  finite = [tf.reduce_all(tf.math.is_finite(value)) for value in values]
  return tf.where(tf.reduce_all(tf.stack(finite)), 0.0, float("nan"))


def _added(gradients: Sequence[_Gradient], number: tf.Tensor) -> list[_Gradient]:
  """`number` is added to the first gradient."""
  found = list(gradients)
  for i, gradient in enumerate(found):
    if gradient is not None:
      found[i] = tf.convert_to_tensor(gradient) + tf.cast(number, gradient.dtype)
      break
  return found
