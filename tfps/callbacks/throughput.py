"""Examples trained per second."""

import time

import tf_keras as keras


class Throughput(keras.callbacks.Callback):
  """Measures the examples trained per second, tests between the days left out.

  Attributes:
    examples: number of examples trained.
    seconds: time from each day's first ticket to its last.

  Examples:
    >>> throughput = tfps.callbacks.Throughput()
    >>> history = model.fit(source, callbacks=[throughput], verbose=0)
    >>> throughput.examples
    128
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
