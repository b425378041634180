"""TableSummaries: a table's statistics in TensorBoard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfps import native
from tfps.data.ticket import Day
from tfps.training.callback import Callback

if TYPE_CHECKING:
  from tfps.table.feasign_table import FeasignTable


class TableSummaries(Callback):
  """Writes a table's statistics for TensorBoard, and how full the memory of its servers is.

  Tags are `table/<name>/...` for those of `FeasignTable.statistics()`; `share_admitted`, the share
  of the feasigns that is admitted; and `staleness`, the number of updates that a server applied
  between a step's pull and its push, on average over the pushes since the last point. Tags
  `server/<number>/memory_share` are the share of the memory within reach that the process of each
  parameter server holds. The step is the model's number of training steps so far. List it after
  `EndOfDay` to see the table as the day's end leaves it.

  Args:
    table: the `tfps.FeasignTable`.
    log_dir: folder for TensorBoard's files.
    every_tickets: write also after every Nth ticket; 0: only at a day's end.

  Raises:
    ValueError: if every_tickets is negative.

  Examples:
    >>> summaries = tfps.callbacks.TableSummaries(table, "logs")
    >>> callbacks = [tfps.callbacks.EndOfDay(table), summaries]
    >>> history = model.fit(source, callbacks=callbacks, verbose=0)
    >>> len(os.listdir("logs"))
    1
  """

  def __init__(self, table: FeasignTable, log_dir: str, every_tickets: int = 0):
    super().__init__()
    if every_tickets < 0:
      raise ValueError(f"every_tickets must be 0 or more, not {every_tickets}.")
    self._table = table
    self._log_dir = log_dir
    self._every_tickets = every_tickets
    self._tickets = 0
    self._writer: Any = None
    self._pushes = self._staleness = 0.0  # those that are written

  def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
    self._writer = tf.summary.create_file_writer(self._log_dir)
    self._staleness_since(self._table.statistics())

  def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
    self._tickets += 1
    if self._every_tickets and self._tickets % self._every_tickets == 0:
      self._write()

  def on_day_end(self, day: Day, logs: dict[str, Any] | None = None) -> None:
    self._write()
    self._writer.flush()

  def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
    self._writer.close()

  def _write(self) -> None:
    statistics = self._table.statistics()
    rows = statistics["rows"]
    statistics["share_admitted"] = statistics["admitted"] / rows if rows else 0.0
    statistics["staleness"] = self._staleness_since(statistics)
    step = int(self.model.optimizer.iterations.numpy())
    with self._writer.as_default():
      for name, value in statistics.items():
        tf.summary.scalar(f"table/{self._table.name}/{name}", value, step=step)
      for number, server in enumerate(self._table.servers):
        with tf.device(server.device):
          share = native.ops.tfps_memory_share()
        tf.summary.scalar(f"server/{number}/memory_share", share.numpy(), step=step)

  def _staleness_since(self, statistics: dict[str, float]) -> float:
    """The mean staleness of the pushes since this was last called."""
    pushes, staleness = statistics["pushes"], statistics["staleness_sum"]
    new, sum_of_new = pushes - self._pushes, staleness - self._staleness
    self._pushes, self._staleness = pushes, staleness
    return sum_of_new / new if new else 0.0
