"""ServedTable: the rows of a feasign table in a stock hash table that TensorFlow Serving loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfps.graph import compat
from tfps.layers import served_lookup
from tfps.table.feasigns import is_special, mix

if TYPE_CHECKING:
  from tfps.layers.bags import Bags

_INT64_MIN = -(2**63)
# When this part of its buckets is taken, the table grows under one long lock (the stock default).
_MAX_LOAD = 0.8
_KEYS, _ROWS = "-keys", "-rows"


@compat.saved_as_tensors
class ServedTable(tf.lookup.experimental.DenseHashTable):
  """A stock dense hash table of feasigns to rows: lr_w and mf_w.

  A SavedModel's variables hold its rows, not its buckets: the rows are inserted when the model is
  loaded. The stock table finds a key's bucket by the key's lowest bits. Its keys are therefore
  mixed feasigns, which spread evenly even if the feasigns are consecutive or multiples of 2^32.

  To drop a row is to set it to zeros, which is how an absent feasign reads. The stock table's
  remove would leave a mark in the bucket: then a key that is inserted again may be in the table
  twice, and every mark slows look-ups down.

  Args:
    name: the table's name.
    row_width: floats of a row; where a layer reads statistics, the last two are show and click.
  """

  def __init__(self, name: str, row_width: int) -> None:
    self.row_width = row_width
    super().__init__(
      key_dtype=tf.int64,
      value_dtype=tf.float32,
      default_value=tf.zeros([row_width]),
      empty_key=_mixed(_INT64_MIN),
      deleted_key=_mixed(_INT64_MIN + 1),
      initial_num_buckets=4,
      name=f"served_{name}",
    )

  def make_room(self, rows: int) -> int:
    """Sets the size of the table that will be loaded, and returns its number of buckets."""
    # The table of this process stays empty; the saved graph makes the one that is loaded.
    buckets = buckets_for(rows)
    compat.set_initial_buckets(self, buckets)
    return buckets

  pool = staticmethod(served_lookup.pool)

  def pull(
    self, bags: Bags, row_width: int, statistics: bool
  ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """The rows of bags; see `tfps.layers.served_lookup.ServedRows`."""
    # The stock table refuses the reserved keys: like padding, they read a key that has no row.
    keys = tf.where(is_special(bags.ids), tf.zeros_like(bags.ids), bags.ids)
    rows = tf.ensure_shape(self.lookup(mix(keys)), [None, self.row_width])
    of_rows = rows[:, -2:] if statistics else None
    return served_lookup.positions_of(bags), rows[:, :row_width], of_rows

  def put(self, keys: tf.Tensor, rows: tf.Tensor) -> tf.Operation:
    """Inserts or replaces the rows [n, row_width] of `keys`, int64 [n]."""
    return self.insert(mix(keys), tf.reshape(rows, [-1, self.row_width]))

  def drop(self, keys: tf.Tensor) -> tf.Operation:
    """Sets the rows of `keys`, int64 [n], to zeros."""
    return self.put(keys, tf.zeros([tf.size(keys), self.row_width]))

  def saved_tensors(self) -> dict[str, tf.Tensor]:
    """What a SavedModel holds of the table: no rows; the exporter writes them beside it."""
    # The exporter writes the parameter servers' rows under these names.
    return {_KEYS: tf.zeros([0], tf.int64), _ROWS: tf.zeros([0, self.row_width])}

  def restore(self, tensors: dict[str, tf.Tensor]) -> tf.Operation:
    """Inserts the rows of a SavedModel when it is loaded."""
    return self.put(tensors[_KEYS], tensors[_ROWS])


def buckets_for(rows: int, growth: float = 1.25) -> int:
  """How many buckets a table needs so that `growth` times `rows` fit before it must grow."""
  buckets = 4
  while rows * growth > buckets * _MAX_LOAD:
    buckets *= 2
  return buckets


def _mixed(key: int) -> int:
  return int(mix(tf.constant(key, tf.int64)).numpy().astype(np.int64))
