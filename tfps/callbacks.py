"""Keras callbacks that follow the training calendar of a source.

`fit` on a source calls, besides Keras's hooks, `on_day_begin(day)` before a day's first ticket and
`on_day_end(day, logs)` once all of its tickets are finished. A run that goes on from a checkpoint in
the middle of a day calls `on_day_resume(day, records)` instead of `on_day_begin`, with the number of
examples that are finished. `on_moment(position)` follows each day's end, and is called within a day
whenever as many tickets are finished as a callback's attribute `moment_every_tickets` says, and when a
stream has nothing to train yet: no ticket is running then. `on_idle()` is called whenever a stream was looked at and had nothing
new. `on_ticket_end(ticket)` follows each ticket,
and `on_records_skipped(counts)` one some of whose records were bad and are skipped: {reason: how many}.
"""

import time

import tensorflow as tf
import tf_keras as keras

from tfps.checkpoint.callback import Checkpoint as Checkpoint
from tfps import eviction, native
from tfps.export.base_export import BaseExport as BaseExport
from tfps.export.delta_export import DeltaExport as DeltaExport
from tfps.metrics import ClickScores
from tfps.training.freshness import Freshness as Freshness


class ProgressiveTest(keras.callbacks.Callback):
  """Tests each day before it is trained on (progressive validation; Blum, Kalai, Langford 1999).

  For models with one output, the click probability. Later epochs, which have seen the days, are not tested.

  Args:
    source: the source that `fit` trains on.

  Attributes:
    days: for each tested day so far (`Day`, `tfps.metrics.ClickScores`).
    total: the `ClickScores` of all tested examples.
  """

  def __init__(self, source):
    super().__init__()
    self._source = source
    self.days = []
    self.total = ClickScores()

  def on_train_begin(self, logs=None):
    self._epochs_begun = 0

  def on_epoch_begin(self, epoch, logs=None):
    self._epochs_begun += 1

  def on_day_begin(self, day):
    if not day.records or self._epochs_begun > 1:
      return
    scores = ClickScores()
    for scored in self.model.score(self._source.day(day.ordinal)):
      scores.update(scored["y"], scored["y_pred"], scored.get("sample_weight"))
    self.days.append((day, scores))
    self.total.merge(scores)


class EndOfDay(keras.callbacks.Callback):
  """Ends the day of the tables when the source's day ends: base export, eviction, ageing, decay.

      archive = lambda rows: np.save(f"left-{rows.day}-{rows.keys[0]}.npy", rows.keys)
      model.fit(source, callbacks=[tfps.callbacks.EndOfDay(table, after_eviction=[archive])])

  A hook that raises stops the training; the day's end can be run again, and goes on with what has
  not ended yet.

  Args:
    *tables: the `tfps.FeasignTable`s.
    base_export: functions of the `tfps.data` day, such as a `BaseExport`, called in order before
      any table's day ends.
    before_eviction: functions of one `tfps.eviction.EvictedRows`, called with chunks of the
      feasigns that will leave.
    after_eviction: the same for those that have left.
    chunk_rows: the most rows of a chunk.

  Attributes:
    evicted: number of feasigns evicted so far.

  Raises:
    ValueError: if the hooks are no lists of functions.
  """

  def __init__(
    self,
    *tables,
    base_export=(),
    before_eviction=(),
    after_eviction=(),
    chunk_rows=eviction.CHUNK_ROWS,
  ):
    super().__init__()
    self._tables = tables
    self._base_export = eviction.check_hooks("base_export", base_export)
    self._hooks = {
      "before_eviction": eviction.check_hooks("before_eviction", before_eviction),
      "after_eviction": eviction.check_hooks("after_eviction", after_eviction),
      "chunk_rows": chunk_rows,
    }
    self.evicted = 0

  def on_day_end(self, day, logs=None):
    del logs
    for export in self._base_export:
      export(day)
    for table in self._tables:
      self.evicted += table.end_of_day(day.ordinal, **self._hooks)


class TableSummaries(keras.callbacks.Callback):
  """Writes a table's statistics for TensorBoard, as `table/<name>/...`, and how full its servers' memory is.

  Written are those of `FeasignTable.statistics()`; share_admitted, the part of the feasigns that is
  admitted; and staleness, how many updates a server applied between a step's pull and its push, in the
  mean over the pushes since the last time; and as `server/<number>/memory_share` how much of the memory
  that it could have the process of each parameter server holds; by the model's number of training steps
  so far. List it after `EndOfDay` to see the table as the day's end leaves it.

  Args:
    table: the `tfps.FeasignTable`.
    log_dir: folder for TensorBoard's files.
    every_tickets: write also whenever so many tickets are finished; 0: only at a day's end.

  Raises:
    ValueError: if every_tickets is negative.
  """

  def __init__(self, table, log_dir, every_tickets=0):
    super().__init__()
    if every_tickets < 0:
      raise ValueError(f"every_tickets must be 0 or more, not {every_tickets}.")
    self._table = table
    self._log_dir = log_dir
    self._every_tickets = every_tickets
    self._tickets = 0
    self._writer = None
    self._pushes = self._staleness = 0.0  # those that are written

  def on_train_begin(self, logs=None):
    del logs
    self._writer = tf.summary.create_file_writer(self._log_dir)
    self._staleness_since(self._table.statistics())

  def on_train_batch_end(self, batch, logs=None):
    del batch, logs
    self._tickets += 1
    if self._every_tickets and self._tickets % self._every_tickets == 0:
      self._write()

  def on_day_end(self, day, logs=None):
    del day, logs
    self._write()
    self._writer.flush()

  def on_train_end(self, logs=None):
    del logs
    self._writer.close()

  def _write(self):
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

  def _staleness_since(self, statistics):
    """The mean staleness of the pushes since this was last called."""
    pushes, staleness = statistics["pushes"], statistics["staleness_sum"]
    new, sum_of_new = pushes - self._pushes, staleness - self._staleness
    self._pushes, self._staleness = pushes, staleness
    return sum_of_new / new if new else 0.0


class Throughput(keras.callbacks.Callback):
  """Measures the examples trained per second, tests between the days left out.

  Attributes:
    examples: number of examples trained.
    seconds: time from each day's first ticket to its last.
  """

  def __init__(self):
    super().__init__()
    self.examples = 0
    self.seconds = 0.0
    self._began = None

  def on_day_begin(self, day):
    self.on_day_resume(day, 0)

  def on_day_resume(self, day, records):
    del day
    self._began = time.monotonic()
    self._before = self._within = records

  def on_moment(self, position):
    self._within = position.records

  def on_records_skipped(self, counts):
    self.examples -= sum(counts.values())

  def on_day_end(self, day, logs=None):
    del logs
    self._within = day.records
    self._count()

  def on_train_end(self, logs=None):
    del logs
    self._count()  # Of a day that has not ended.

  def _count(self):
    if self._began is not None:
      self.examples += self._within - self._before
      self.seconds += time.monotonic() - self._began
    self._began = None

  @property
  def examples_per_second(self):
    return self.examples / self.seconds if self.seconds else 0.0


class SkippedRecords(keras.callbacks.Callback):
  """Knows how many records were bad and are skipped, and tells TensorBoard, as `skipped/<reason>`.

  Args:
    log_dir: folder for TensorBoard's files, written at each day's end; none by default.

  Attributes:
    counts: {reason: how many}, with those before the checkpoint from which the run went on.
  """

  def __init__(self, log_dir=None):
    super().__init__()
    self._log_dir = log_dir
    self._writer = None
    self.counts = {}

  def on_moment(self, position):
    self.counts = dict(position.skipped)
    if not self._log_dir or not self.counts:
      return
    if self._writer is None:
      self._writer = tf.summary.create_file_writer(self._log_dir)
    step = int(self.model.optimizer.iterations.numpy())
    with self._writer.as_default():
      for reason, count in self.counts.items():
        tf.summary.scalar(f"skipped/{reason}", count, step=step)
    self._writer.flush()

  def on_train_end(self, logs=None):
    del logs
    if self._writer is not None:
      self._writer.close()
