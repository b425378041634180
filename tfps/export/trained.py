"""The trainer's own predictions, with those rows that an export holds."""

import numpy as np
import tensorflow as tf

from tfps import native
from tfps.layers import pooling, served_lookup
from tfps.layers.lookup import Lookup


class BaseRows:
  """A feasign table of which embedding layers see only the rows that a base holds; eager only."""

  def __init__(self, table):
    self._table = table

  pool = staticmethod(pooling.pool)

  def pull(self, bags, row_width):
    table = self._table
    num_slots = bags.slot_ends.shape[0]
    routed = native.ops.tfps_route(
      ids=bags.ids,
      slot_ends=bags.slot_ends,
      slot_ids=np.zeros([num_slots], np.int32),
      assignment=table.assignment,
      num_servers=table.num_servers,
    )
    return Lookup(
      table=table,
      keys=[],
      slots=[],
      positions=routed.positions,
      row_splits=bags.row_splits,
      rows=self.rows(routed.keys)[:, :row_width],
    )

  def rows(self, keys):
    """The rows of feasigns: a list of int64 [n_s], those of each server; float32 [sum, row_width]."""
    rows = self._table.pull(keys)
    return tf.where(self._in_base(tf.concat(keys, axis=0))[:, np.newaxis], rows, 0.0)

  def _in_base(self, keys):
    found = self._table.lookup(keys)
    statistics, unseen_days = found["statistics"], found["unseen_days"]
    names = {number: slot for slot, number in self._table.slots.items()}
    held = np.zeros(len(unseen_days), bool)
    for number in np.unique(found["slot"]):
      accessor = self._table.policy_of(names.get(number)).accessor
      held |= (found["slot"] == number) & accessor.in_base(*statistics.T, unseen_days)
    return held


def predict(model, features, tables, rows=BaseRows):
  """What the model predicts from the rows that a base of this moment holds.

  Args:
    model: the Keras model.
    features: its input, eager tensors.
    tables: its `tfps.FeasignTable`s.
    rows: a function of a table that returns its `BaseRows`.
  """
  with served_lookup.serve_from({table: rows(table) for table in tables}):
    return model(features, training=False)
