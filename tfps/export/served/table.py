"""ServedTable: the rows of a feasign table in a stock hash table that TensorFlow Serving loads."""

import numpy as np
import tensorflow as tf

from tfps.layers import served_lookup
from tfps.table.feasigns import is_special, mix

_INT64_MIN = -(2**63)
# The table grows, in one long lock, when this part of its buckets is taken (the stock default).
_MAX_LOAD = 0.8
_KEYS, _ROWS = "-keys", "-rows"


class ServedTable(tf.lookup.experimental.DenseHashTable):
  """A stock dense hash table of feasigns to rows: lr_w and mf_w.

  Its part of a SavedModel's variables is the list of rows, not the buckets: they are inserted when
  the model is loaded. The stock table finds a key's bucket by the key's own lowest bits, so what it
  holds are mixed keys: any feasigns spread evenly, consecutive integers or multiples of 2^32.

  A row is dropped by making it zeros, which is how an absent feasign reads. The stock table's remove
  would leave a mark in the bucket: a key that is inserted again may then be in the table twice, and
  look-ups slow down with every mark.

  Args:
    name: the table's name.
    row_width: floats of a row.
  """

  def __init__(self, name, row_width):
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

  def make_room(self, rows):
    """Sizes the table that will be loaded, as `buckets_for` says."""
    # The table that this process has stays empty; the loaded one is made by the saved graph.
    self._initial_num_buckets = buckets_for(rows)
    return self._initial_num_buckets

  pool = staticmethod(served_lookup.pool)

  def pull(self, bags, row_width):
    """What an embedding layer pulls: the `tfps.layers.lookup.Lookup` of `tfps.layers.bags.Bags`."""
    # Padding and the reserved keys, which the stock table refuses, read a key that nobody inserts.
    keys = tf.where(is_special(bags.ids), tf.zeros_like(bags.ids), bags.ids)
    rows = tf.ensure_shape(self.lookup(mix(keys)), [None, self.row_width])
    return served_lookup.lookup(rows[:, :row_width], bags)

  def put(self, keys, rows):
    """Inserts rows [n, row_width] of int64 `keys` [n], or puts them over those there are."""
    return self.insert(mix(keys), tf.reshape(rows, [-1, self.row_width]))

  def drop(self, keys):
    """Makes the rows of int64 `keys` [n] read zeros."""
    return self.put(keys, tf.zeros([tf.size(keys), self.row_width]))

  def _serialize_to_tensors(self):
    # The names are what the exporter puts the parameter servers' rows under.
    return {_KEYS: tf.zeros([0], tf.int64), _ROWS: tf.zeros([0, self.row_width])}

  def _restore_from_tensors(self, restored_tensors):
    return self.put(restored_tensors[_KEYS], restored_tensors[_ROWS])


def buckets_for(rows, growth=1.25):
  """How many buckets a table needs so that `growth` times `rows` fit before it must grow."""
  buckets = 4
  while rows * growth > buckets * _MAX_LOAD:
    buckets *= 2
  return buckets


def _mixed(key):
  return int(mix(tf.constant(key, tf.int64)).numpy().astype(np.int64))
