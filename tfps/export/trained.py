"""The trainer's own predictions, with those rows that an export holds."""

import numpy as np
import tensorflow as tf

from tfps import native
from tfps import pooling
from tfps import serving
from tfps.lookup import Lookup


class ExportedRows:
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
    rows = table.pull(routed.keys)[:, :row_width]
    return Lookup(
      table=table,
      keys=[],
      slots=[],
      positions=routed.positions,
      row_splits=bags.row_splits,
      num_slots=num_slots,
      rows=tf.where(self._in_base(tf.concat(routed.keys, axis=0))[:, np.newaxis], rows, 0.0),
    )

  def _in_base(self, keys):
    found = self._table.lookup(keys)
    show, click, delta_score = found["statistics"].T
    names = {number: slot for slot, number in self._table.slots.items()}
    held = np.zeros(len(show), bool)
    for number in np.unique(found["slot"]):
      accessor = self._table.policy_of(names.get(number)).accessor
      held |= (
        (found["slot"] == number)
        & (accessor.score(show, click) >= accessor.base_update_threshold)
        & (delta_score >= 0)
        & (found["unseen_days"] <= accessor.delta_keep_days)
      )
    return held


def predict(model, features, tables):
  """What the model predicts from the rows that a base of this moment holds.

  Args:
    model: the Keras model.
    features: its input, eager tensors.
    tables: its `tfps.FeasignTable`s.
  """
  with serving.serve_from({table: ExportedRows(table) for table in tables}):
    return model(features, training=False)
