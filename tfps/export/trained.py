"""The trainer's own predictions, from only those rows that an export holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfps import native
from tfps.layers import pooling, served_lookup

if TYPE_CHECKING:
  import tf_keras as keras

  from tfps.layers.bags import Bags
  from tfps.table.feasign_table import FeasignTable


class BaseRows:
  """A feasign table of which embedding layers see only the rows that a base holds; eager only."""

  def __init__(self, table: FeasignTable) -> None:
    self._table = table

  pool = staticmethod(pooling.pool)

  def pull(self, bags: Bags, row_width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The rows of bags; see `tfps.layers.served_lookup.ServedRows`."""
    table = self._table
    num_slots = bags.slot_ends.shape[0]
    routed = native.ops.tfps_route(
      ids=bags.ids,
      slot_ends=bags.slot_ends,
      slot_ids=np.zeros([num_slots], np.int32),
      assignment=table.assignment,
      num_servers=table.num_servers,
    )
    return routed.positions, self.rows(routed.keys)[:, :row_width]

  def rows(self, keys: Sequence[tf.Tensor]) -> tf.Tensor:
    """float32 [n, row_width]: the rows of feasigns, which are int64 [n_s] for each server."""
    rows = self._table.pull(keys)
    return tf.where(self._in_base(tf.concat(keys, axis=0))[:, np.newaxis], rows, 0.0)

  def _in_base(self, keys: tf.Tensor) -> np.ndarray:
    found = self._table.lookup(keys)
    show, click, delta_score = found["statistics"].T
    unseen_days = found["unseen_days"]
    names = {number: slot for slot, number in self._table.slots.items()}
    held = np.zeros(len(unseen_days), bool)
    for number in np.unique(found["slot"]):
      accessor = self._table.policy_of(names.get(number)).layout.accessor
      in_base = accessor.in_base(show, click, delta_score, unseen_days)
      held |= (found["slot"] == number) & in_base
    return held


def predict(
  model: keras.Model,
  features: Mapping[str, Any],
  tables: Iterable[FeasignTable],
  rows: Callable[[FeasignTable], BaseRows] = BaseRows,
) -> Any:
  """What the model predicts from the rows that a base of this moment holds.

  Args:
    model: the Keras model.
    features: its input, eager tensors.
    tables: its tables.
    rows: a function of a table that returns its rows.
  """
  with served_lookup.Served({table: rows(table) for table in tables}):
    return model(features, training=False)
