"""The tables that benchmarks compare, filled with admitted rows: tfps's own, and TFRA's as wide."""

import uuid

import numpy as np
import tensorflow as tf
import tfra

from tfps import native
from tfps.cluster.memory import held_and_left

_FILL = 1 << 18  # keys of a batch that fills a table


class Native:
  """The native engine through its ops: every row admitted, adagrad."""

  def __init__(self, mf_dim):
    self._width = 1 + mf_dim
    self._pushed = {}  # by the number of keys: what a push brings besides them
    self._table = native.ops.tfps_table(
      shared_name=uuid.uuid4().hex, options=f"mf_dim={mf_dim};accessor.create_threshold=0"
    )

  def close(self):
    tf.raw_ops.DestroyResourceOp(resource=self._table, ignore_lookup_error=True)

  def pull(self, keys):
    return native.ops.tfps_pull(table=self._table, keys=keys, row_width=self._width)

  def push(self, keys):
    n = keys.shape[0]
    if n not in self._pushed:
      slots, show, click = tf.ones([n], tf.int32), tf.ones([n]), tf.zeros([n])
      self._pushed[n] = slots, show, click, tf.fill([n, self._width], 0.01)
    native.ops.tfps_push(self._table, keys, *self._pushed[n])

  fill = push


class Tfra:
  """TFRA's CuckooHashTable: look-up, and look-up with an insert of what it found.

  `init_size` rows have room at once; 0 lets it grow as it likes.
  """

  def __init__(self, mf_dim, init_size=0):
    self._width = 1 + mf_dim
    self._table = tfra.dynamic_embedding().CuckooHashTable(
      key_dtype=tf.int64,
      value_dtype=tf.float32,
      default_value=tf.zeros([self._width]),
      name=uuid.uuid4().hex,
      init_size=init_size,
    )

  def close(self):
    tf.raw_ops.DestroyResourceOp(resource=self._table.resource_handle, ignore_lookup_error=True)

  def size(self):
    return int(self._table.size())

  def fill(self, keys):
    self._table.insert(keys, tf.zeros([keys.shape[0], self._width]))

  def pull(self, keys):
    return self._table.lookup(keys)

  def push(self, keys):
    self._table.insert(keys, self._table.lookup(keys))


def fill(tables, first, last):
  """Puts the rows of the numbers first .. last - 1 into each of the tables."""
  for begin in range(first, last, _FILL):
    keys = tf.constant(key_of(np.arange(begin, min(begin + _FILL, last))))
    for table in tables:
      table.fill(keys)


def key_of(number):
  """The key of row `number`, an int64 array: no padding, none reserved."""
  return (number.astype(np.int64) + 1) * 0x5851F42D4C957F2D


def numbers(distribution, rows, shape, seed):
  """Random row numbers: uniform, or Zipf with exponent 1.05 by inverting its continuous form."""
  uniform = np.random.default_rng(seed).random(shape)
  if distribution == "uniform":
    return (uniform * rows).astype(np.int64)
  power = 1 - 1.05
  return np.minimum(((uniform * (rows**power - 1) + 1) ** (1 / power)).astype(np.int64), rows) - 1


def row_bytes(mf_dim):
  """Of an admitted native row with adagrad: a head of 40 bytes and the floats, in units of 16."""
  return (40 + 4 * (mf_dim + 3) + 15) // 16 * 16


def available_bytes():
  """The memory that new processes can have without swapping, within a container's limit."""
  _, left = held_and_left()
  return left
