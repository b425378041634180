"""Embedding layers in a model that is traced for serving: stock TensorFlow ops, none of tfps's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import tensorflow as tf

from tfps.layers.bags import Bags
from tfps.layers.exchange import Exchange, Router, Rows
from tfps.layers.lookup import Pull, Route
from tfps.table.feasign_table import FeasignTable
from tfps.table.feasigns import is_special


class ServedRows(Protocol):
  """What embedding layers pull from in the place of a `FeasignTable`."""

  def pull(
    self, bags: Bags, row_width: int, statistics: bool
  ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Looks up the ids of the bags.

    Returns:
      (positions int32 [N], the row of each id, -1 for padding; rows float32 [U, row_width]; with
      `statistics` show and click of each row, float32 [U, 2], otherwise None).
    """

  def pool(self, *arguments: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Pools the rows; see `tfps.layers.pooling.pool`."""


class Served(Exchange):
  """Embedding layers pull from something that is not a table, and nothing is pushed.

  Args:
    tables: {`FeasignTable`: the `ServedRows` in its place}, for every table of the model.
  """

  def __init__(self, tables: Mapping[FeasignTable, ServedRows]) -> None:
    self._tables = tables

  def fetch(self, asked: Pull, bags: Bags, route: Router) -> Rows:
    del route
    positions, rows, of_rows = self._tables[asked.table].pull(
      bags, asked.row_width, asked.statistics
    )
    return Rows(Route([], [], positions), rows, statistics=of_rows)

  def pool(self, table: FeasignTable, *arguments: Any) -> tuple[tf.Tensor, tf.Tensor]:
    return self._tables[table].pool(*arguments)


def positions_of(bags: Bags) -> tf.Tensor:
  """int32 [N]: the row of each id where every id has a row of its own; -1 for padding."""
  return tf.where(is_special(bags.ids), -1, tf.range(tf.size(bags.ids)))


def pool(
  rows: tf.Tensor,
  positions: tf.Tensor,
  row_splits: tf.Tensor,
  weights: tf.Tensor,
  combiners: Sequence[str],
) -> tuple[tf.Tensor, tf.Tensor]:
  """Pools as `tfps.layers.pooling.pool` does, without a gradient.

  Args:
    rows: float32 [U, 1 + mf_dim].
    positions: int32 [N], the row of each id; -1 for padding, which adds nothing.
    row_splits: int64 [S * B + 1], bag s * B + b holds slot s of example b.
    weights: float32 [N], or [0] if every weight is 1.
    combiners: for each slot "sum", "mean" or "sqrtn".

  Returns:
    (lr float32 [B, S], mf float32 [B, S, mf_dim]); zeros for an empty bag.
  """
  shape = [len(combiners), -1]
  num_bags = tf.size(row_splits, tf.int64) - 1
  bag_of = tf.ragged.row_splits_to_segment_ids(row_splits)
  sum_per_bag = lambda values: tf.math.unsorted_segment_sum(values, bag_of, num_bags)
  # Either there is a weight for each id, or none.
  weights = tf.concat([weights, tf.ones([tf.size(positions) - tf.size(weights)])], axis=0)
  weights *= tf.cast(positions >= 0, tf.float32)
  values = tf.gather(rows, tf.maximum(positions, 0)) * weights[:, tf.newaxis]
  sums = tf.reshape(sum_per_bag(values), [*shape, rows.shape[1]])
  divisors = {
    "sum": tf.ones(tf.shape(sums)[:2]),
    "mean": tf.reshape(sum_per_bag(weights), shape),
    "sqrtn": tf.sqrt(tf.reshape(sum_per_bag(weights**2), shape)),
  }
  divisor = tf.stack([divisors[combiner][i] for i, combiner in enumerate(combiners)])
  pooled = tf.math.divide_no_nan(sums, divisor[:, :, tf.newaxis])
  pooled = tf.transpose(pooled, [1, 0, 2])
  return pooled[:, :, 0], pooled[:, :, 1:]
