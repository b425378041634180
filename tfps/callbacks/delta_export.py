"""DeltaExport: deltas at their times, while training goes on."""

import sys
import time

import tf_keras as keras


class DeltaExport(keras.callbacks.Callback):
  """Exports a delta whenever so many examples are trained, or so many minutes have passed.

  `fit` schedules no ticket while rows are copied on their servers; they are written while it goes on. Where there is no
  base yet that a delta could follow, a base is exported. A delta that cannot be written is told and left out: what it
  would have held is in the next one.

  Args:
    exporter: the `tfps.export.Exporter`.
    every_examples: how many examples are trained between two deltas.
    every_minutes: how many minutes pass between two deltas; 1/6 is every ten seconds. None is exported for a time in
      which nothing was trained.
    describe: a function that returns a dict of what JSON has, for the delta's manifest; called when rows are copied.

  Attributes:
    paths: of the deltas so far.

  Raises:
    ValueError: a number is not positive, or there is none.

  Examples:
    >>> base = tfps.callbacks.BaseExport(model, "export", source.raw_inputs, every_days=2)
    >>> delta = tfps.callbacks.DeltaExport(base.exporter, every_minutes=5)
    >>> end_of_day = tfps.callbacks.EndOfDay(table, base_export=[base])
    >>> history = model.fit(source, callbacks=[end_of_day, delta], verbose=0)
    Exported export/base/1.
  """

  def __init__(self, exporter, *, every_examples=None, every_minutes=None, describe=None):
    super().__init__()
    for name, value in (("every_examples", every_examples), ("every_minutes", every_minutes)):
      if value is not None and value <= 0:
        raise ValueError(f"{name} is {value}; it must be positive.")
    if every_examples is None and every_minutes is None:
      raise ValueError("every_examples or every_minutes must be given: when deltas are exported.")
    self.paths = []
    self._exporter = exporter
    self._describe = describe or dict
    self._every_examples = every_examples or float("inf")
    self._every_seconds = 60 * (every_minutes or float("inf"))
    self._written = None  # The Future of the one that is being written.
    self._records = 0  # of the day, that are counted
    self._begin_anew()  # Examples and time count from the last export on.

  def on_day_begin(self, day):
    del day
    self._records = 0

  def on_day_resume(self, day, records):
    del day
    self._records = records

  def wants_moment(self, position):
    """Called by `fit` between tickets: whether it shall wait until none is running."""
    self._count(position)
    return self._is_due() and not self._exporter.is_writing

  def on_moment(self, position):
    """Called by `fit` when no ticket is running."""
    self._count(position)
    self._tell()
    if self._exporter.bases != self._bases:  # At the day's end.
      self._begin_anew()
    if not self._is_due() or self._exporter.is_writing:
      return
    step = int(self.model.optimizer.iterations.numpy())
    if self._exporter.has_base:
      self._written = self._exporter.start_delta(day=position.day, step=step, more=self._describe())
    else:
      print(f"Exported {self._exporter.base(day=position.day, step=step)}.", flush=True)
    self._begin_anew()

  def on_train_end(self, logs=None):
    del logs
    self._exporter.wait()
    self._tell()

  def _begin_anew(self):
    self._examples, self._last, self._bases = 0, time.monotonic(), self._exporter.bases

  def _is_due(self):
    waited = time.monotonic() - self._last
    return self._examples >= self._every_examples or (
      waited >= self._every_seconds and self._examples > 0
    )

  def _count(self, position):
    self._examples += position.records - self._records
    self._records = position.records

  def _tell(self):
    if self._written is None or not self._written.done():
      return
    error = self._written.exception()
    if error is None:
      self.paths.append(self._written.result())
    else:
      reason = " ".join(str(error).split())
      print(
        f"tfps: a delta could not be written, and the next has its rows: {reason}", file=sys.stderr
      )
    self._written = None
