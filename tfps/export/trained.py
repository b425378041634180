"""The trainer's own predictions, outside of its steps: from all rows, or those of an export."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfps import native
from tfps.layers import pooling, served_lookup
from tfps.layers.embedding import slots_of

if TYPE_CHECKING:
  import tf_keras as keras

  from tfps.layers.bags import Bags
  from tfps.table.feasign_table import FeasignTable


class AllRows:
  """The rows of a feasign table as embedding layers see them; eager only.

  Args:
    table: the table.
  """

  def __init__(self, table: FeasignTable) -> None:
    self._table = table

  pool = staticmethod(pooling.pool)

  def pull(
    self, bags: Bags, row_width: int, statistics: bool
  ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
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
    rows = self.rows(routed.keys, statistics)
    return routed.positions, rows[:, :row_width], rows[:, -2:] if statistics else None

  def rows(self, keys: Sequence[tf.Tensor], statistics: bool) -> tf.Tensor:
    """float32 [n, row_width]: the rows of feasigns, which are int64 [n_s] for each server.

    With `statistics`, a row has two more floats, its show and click.
    """
    rows = self._table.pull(keys)
    if statistics:
      rows = tf.concat([rows, self._table.pull_counts(keys)], axis=1)
    return rows


class BaseRows(AllRows):
  """Those of the rows that a base holds; the others are zeros.

  Args:
    table: the table.
    slots: the names of the slots whose rows the base holds.
  """

  def __init__(self, table: FeasignTable, slots: Iterable[str]) -> None:
    super().__init__(table)
    self._slots = frozenset(slots)

  def rows(self, keys: Sequence[tf.Tensor], statistics: bool) -> tf.Tensor:
    held = self._in_base(tf.concat(keys, axis=0))[:, np.newaxis]
    return tf.where(held, super().rows(keys, statistics), 0.0)

  def _in_base(self, keys: tf.Tensor) -> np.ndarray:
    found = self._table.lookup(keys)
    show, click, delta_score = found["statistics"].T
    unseen_days = found["unseen_days"]
    held = np.zeros(len(unseen_days), bool)
    for slot in self._slots:
      accessor = self._table.policy_of(slot).layout.accessor
      in_base = accessor.in_base(show, click, delta_score, unseen_days)
      held |= (found["slot"] == self._table.slots[slot]) & in_base
    return held & found["found"]


def predict(
  model: keras.Model,
  features: Mapping[str, Any],
  tables: Iterable[FeasignTable],
  rows: Callable[[FeasignTable], AllRows] | None = None,
) -> Any:
  """What the model predicts from the rows that a base of this moment holds, or from others.

  Args:
    model: the Keras model.
    features: its input, eager tensors.
    tables: its tables.
    rows: a function of a table that returns its rows; those that a base holds by default.
  """
  if rows is None:
    slots = slots_of(model)
    rows = lambda table: BaseRows(table, slots[table])
  with served_lookup.Served({table: rows(table) for table in tables}):
    return model(features, training=False)
