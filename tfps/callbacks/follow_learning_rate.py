"""A callback that lets tables follow the learning rate of the model's optimizer."""

from __future__ import annotations

from typing import Any

from tfps.table.feasign_table import FeasignTable
from tfps.training.callback import Callback


class FollowLearningRate(Callback):
  """Multiplies the learning rates of tables by what became of that of the model's optimizer.

  So what changes the optimizer's learning rate reaches the tables: its schedule,
  `keras.callbacks.LearningRateScheduler`, `ReduceLROnPlateau`, or a line of your own. Put it after
  the callback that changes it. It sets `FeasignTable.learning_rate_factor` when an epoch begins and
  after each batch, which on a source is a finished ticket.

  Args:
    *tables: the `tfps.FeasignTable`s.
    base: the optimizer's learning rate at which the tables have theirs: their factor is 1.

  Raises:
    ValueError: no table, one with FTRL, or `base` is not above 0.

  Examples:
    >>> follow = tfps.callbacks.FollowLearningRate(table, base=0.001)
    >>> plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss")
    >>> history = model.fit(source, callbacks=[plateau, follow], verbose=0)
    >>> round(table.learning_rate_factor, 3)
    1.0
  """

  def __init__(self, *tables: FeasignTable, base: float):
    super().__init__()
    if not tables:
      raise ValueError("FollowLearningRate has no tables: name those that are to follow.")
    if not base > 0:
      raise ValueError(f"FollowLearningRate.base must be above 0, not {base}.")
    for table in tables:
      table.learning_rates.check_factor()
    self._tables = tables
    self._base = base

  def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
    self._follow()

  def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
    self._follow()

  def _follow(self) -> None:
    factor = float(self.model.optimizer.learning_rate) / self._base
    for table in self._tables:
      if table.learning_rate_factor != factor:
        table.learning_rate_factor = factor
