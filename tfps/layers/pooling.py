"""Pooling of pulled rows, with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfps import native

COMBINERS = ("sum", "mean", "sqrtn")


def pool(
  rows: tf.Tensor,
  positions: tf.Tensor,
  row_splits: tf.Tensor,
  weights: tf.Tensor,
  combiners: Sequence[str],
) -> tuple[tf.Tensor, tf.Tensor]:
  """Pools the rows of each bag; the gradient reaches `rows` only.

  Args:
    rows: float32 [U, 1 + mf_dim], the lr weight and the mf vector of each distinct feasign.
    positions: int32 [N], the row of each id; -1 for padding, which adds nothing.
    row_splits: int64 [S * B + 1], bag s * B + b holds slot s of example b.
    weights: float32 [N], or [0] if every weight is 1.
    combiners: for each slot "sum", "mean" or "sqrtn", as in `tf.nn.embedding_lookup_sparse`.

  Returns:
    (lr float32 [B, S], mf float32 [B, S, mf_dim]); zeros for an empty bag.
  """
  pooled = native.ops.tfps_pool(
    rows=rows,
    positions=positions,
    row_splits=row_splits,
    weights=weights,
    combiners=list(combiners),
  )
  return pooled.lr, pooled.mf


@tf.RegisterGradient("TfpsPool")
def _pool_gradient(op: Any, lr_grad: tf.Tensor, mf_grad: tf.Tensor) -> tuple:
  rows, positions, row_splits, weights = op.inputs
  rows_grad = native.ops.tfps_pool_grad(
    lr_grad=lr_grad,
    mf_grad=mf_grad,
    positions=positions,
    row_splits=row_splits,
    weights=weights,
    num_rows=tf.shape(rows)[0],
    combiners=op.get_attr("combiners"),
  )
  return rows_grad, None, None, None
