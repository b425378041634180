"""The gradients of one train step, of dense weights and of pulled rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfps.training.reductions import MEAN

_Gradient = Any  # A tf.Tensor, tf.IndexedSlices, or None if the loss does not depend on it.


class Share(NamedTuple):
  """The gradients of a part of the loss.

  Attributes:
    dense: those of the dense weights.
    rows: those of the pulled rows.
    scale: what turns them into those of the sum over examples.
  """

  dense: list[_Gradient]
  rows: list[_Gradient]
  scale: float | tf.Tensor


def shares(
  tape: tf.GradientTape,
  parts: Mapping[str, tf.Tensor],
  variables: list[tf.Variable],
  rows: list[tf.Tensor],
  batch_size: tf.Tensor,
) -> list[Share]:
  """The shares of the parts of a loss, as `LossReductions.parts` gives them."""
  found = []
  for over_batch, part in parts.items():
    dense, of_rows = tape.gradient(part, [variables, rows])
    found.append(Share(dense, of_rows, batch_size if over_batch == MEAN else 1.0))
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
    return shares[0].rows, shares[0].scale
  by_lookup = zip(*(share.rows for share in shares))
  scales = [share.scale for share in shares]
  return [_sum(list(zip(of_one, scales))) for of_one in by_lookup], 1.0


def _sum(scaled: Sequence[tuple[_Gradient, float | tf.Tensor]]) -> _Gradient:
  there = [tf.convert_to_tensor(one) * scale for one, scale in scaled if one is not None]
  return tf.add_n(there) if there else None
