"""What one pull of an embedding layer leaves for the push that answers it."""

from typing import Any, NamedTuple

import tensorflow as tf


class Lookup(NamedTuple):
  """One pull from one table: N ids in S slots of B examples, U distinct feasigns.

  Attributes:
    table: the `FeasignTable`.
    keys: for each server int64 [n_s], the distinct feasigns; U is the sum of n_s.
    slots: for each server int32 [n_s], the slot that each feasign first appeared in.
    positions: int32 [N], the row of each id; -1 for padding.
    row_splits: int64 [S * B + 1], bag s * B + b holds slot s of example b.
    rows: float32 [U, 1 + the layer's mf_dim], what was pulled.
    replies: for each server uint8 [m], the message that its rows came in; none where nothing can be pushed.
  """

  table: Any
  keys: list[tf.Tensor]
  slots: list[tf.Tensor]
  positions: tf.Tensor
  row_splits: tf.Tensor
  rows: tf.Tensor
  replies: list[tf.Tensor] = ()
