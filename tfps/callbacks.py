"""Keras callbacks that follow the training calendar of a source.

`fit` on a source calls, besides Keras's hooks, `on_day_begin(day)` before a day's first ticket and
`on_day_end(day, logs)` once all of its tickets are finished.
"""

import time

import tf_keras as keras

from tfps.metrics import ClickScores


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
  """Ends the day of the tables when the source's day ends: eviction, ageing, decay.

  Args:
    *tables: the `tfps.FeasignTable`s.

  Attributes:
    evicted: number of feasigns evicted so far.
  """

  def __init__(self, *tables):
    super().__init__()
    self._tables = tables
    self.evicted = 0

  def on_day_end(self, day, logs=None):
    del logs
    self.evicted += sum(table.end_of_day(day.ordinal) for table in self._tables)


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

  def on_day_begin(self, day):
    del day
    self._began = time.monotonic()

  def on_day_end(self, day, logs=None):
    del logs
    self.examples += day.records
    self.seconds += time.monotonic() - self._began

  @property
  def examples_per_second(self):
    return self.examples / self.seconds if self.seconds else 0.0
