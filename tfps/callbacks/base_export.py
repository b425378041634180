"""BaseExport: a base at days' ends."""

from tfps.errors import ExportError
from tfps.export.exporter import Exporter


class BaseExport:
  """Exports a base when a day ends, before its eviction: what `EndOfDay` takes as `base_export`.

  Args:
    model: the Keras model.
    folder: where exports go; every parameter server must reach it.
    raw: the `tfps.data.RawInputs` that clients will send, such as the source's.
    every_days: export when that many days of the calendar have ended.
    examples: how many of a day's examples the export keeps to be checked with.
    keep: how many bases stay; all where it is None.

  Attributes:
    exporter: the `tfps.export.Exporter`.
    paths: of the exports so far.

  Raises:
    ExportError: there are no raw inputs, or `Exporter` raises it.
    ValueError: a number is below 1.

  Examples:
    >>> export = tfps.callbacks.BaseExport(model, "export", source.raw_inputs, every_days=2)
    >>> end_of_day = tfps.callbacks.EndOfDay(table, base_export=[export])
    >>> history = model.fit(source, callbacks=[end_of_day], verbose=0)
    Exported export/base/1.
  """

  def __init__(self, model, folder, raw, *, every_days=1, examples=256, keep=None):
    for name, value in (("every_days", every_days), ("examples", examples), ("keep", keep)):
      if value is not None and value < 1:
        raise ValueError(f"{name} is {value}; it must be a whole number, at least 1.")
    if raw is None:
      raise ExportError(
        "the source does not say what clients of the served model send: set its raw_inputs to a "
        "tfps.data.RawInputs."
      )
    self.exporter = Exporter(model, folder, raw, keep=keep)
    self.paths = []
    self._model = model
    self._sample = raw.sample
    self._every_days = every_days
    self._examples = examples

  def __call__(self, day):
    """Exports if it is due on the `tfps.data` day that ends."""
    if (day.ordinal + 1) % self._every_days:
      return
    sample = self._sample(day.ordinal, self._examples) if self._sample else None
    step = int(self._model.optimizer.iterations.numpy())
    self.paths.append(self.exporter.base(day=day.ordinal, step=step, examples=sample))
    print(f"Exported {self.paths[-1]}.", flush=True)
