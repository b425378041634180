"""Look-ups in a model that is traced for serving: stock TensorFlow ops in the place of the tables' own."""

import contextlib
import threading

import tensorflow as tf

from tfps.layers.lookup import Lookup
from tfps.table.feasigns import is_special

_active = threading.local()


def served_table(table):
  """What embedding layers pull from in the place of `table`; None outside of `serve_from`.

  Raises:
    KeyError: the model that is being traced was to have no such table.
  """
  tables = getattr(_active, "tables", None)
  return None if tables is None else tables[table]


@contextlib.contextmanager
def serve_from(tables):
  """In this scope and thread, embedding layers pull from stock tables.

  Args:
    tables: {`tfps.FeasignTable`: what has `pull(bags, row_width)`, which returns a `Lookup`, and
      `pool` with the arguments of `tfps.layers.pooling.pool`}, such as a `ServedTable`.
  """
  outer = getattr(_active, "tables", None)
  _active.tables = tables
  try:
    yield
  finally:
    _active.tables = outer


def lookup(rows, bags):
  """What one pull leaves for pooling, as in training.

  Args:
    rows: float32 [N, W], the row of each of the bags' ids, zeros where it is absent.
    bags: `tfps.layers.bags.Bags`.

  Returns:
    `tfps.layers.lookup.Lookup`, to which nothing can be pushed.
  """
  positions = tf.where(is_special(bags.ids), -1, tf.range(tf.size(bags.ids)))
  return Lookup(
    table=None,
    keys=[],
    slots=[],
    positions=positions,
    row_splits=bags.row_splits,
    rows=rows,
  )


def pool(rows, positions, row_splits, weights, combiners):
  """Pools as `tfps.layers.pooling.pool` does, without a gradient.

  Args:
    rows: float32 [U, 1 + mf_dim].
    positions: int32 [N], the row of each id; -1 for padding, which adds nothing.
    row_splits: int64 [S * B + 1], bag s * B + b holds slot s of example b.
    weights: float32 [N], or [0] where every weight is 1.
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
