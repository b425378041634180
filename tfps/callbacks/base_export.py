"""BaseExport: a base at days' ends."""

from __future__ import annotations

from typing import Any

from tfps.data.raw_inputs import RawInputs
from tfps.data.ticket import Day
from tfps.errors import ExportError
from tfps.export.exporter import Exporter
from tfps.training.callback import Callback


class BaseExport(Callback):
  """Exports a base when a day ends, before any table evicts, ages or decays its rows.

  The order among the callbacks does not matter. Without `fit`, call it with the day that ends, or
  give it to `EndOfDay` as `base_export`.

  Args:
    model: the Keras model.
    folder: where exports go; every parameter server must reach it.
    raw: the `tfps.data.RawInputs` that clients will send, such as the source's `raw_inputs`.
    every_days: export when that many days of the calendar have ended.
    examples: the number of the day's examples that the export keeps to be checked with.
    keep: the number of bases that stay; None for all.

  Attributes:
    exporter: the `tfps.export.Exporter`.
    paths: of the exports so far.

  Raises:
    ExportError: there are no raw inputs, or `Exporter` raises it.
    ValueError: a number is below 1.

  Examples:
    >>> export = tfps.callbacks.BaseExport(model, "export", source.raw_inputs, every_days=2)
    >>> end_of_day = tfps.callbacks.EndOfDay(table)
    >>> history = model.fit(source, callbacks=[export, end_of_day], verbose=0)
    Exported export/base/1.
  """

  def __init__(
    self,
    model: Any,
    folder: str,
    raw: RawInputs | None,
    *,
    every_days: int = 1,
    examples: int = 256,
    keep: int | None = None,
  ):
    super().__init__()
    for name, value in (("every_days", every_days), ("examples", examples), ("keep", keep)):
      if value is not None and value < 1:
        raise ValueError(f"{name} is {value}; it must be a whole number, at least 1.")
    if raw is None:
      raise ExportError(
        "the source does not say what clients of the served model send: set its raw_inputs to a "
        "tfps.data.RawInputs."
      )
    self.exporter = Exporter(model, folder, raw, keep=keep)
    self.paths: list[str] = []
    self._model = model
    self._exported: tuple[int, int] | None = None  # day and step of the last
    self._sample = raw.sample
    self._every_days = every_days
    self._examples = examples

  def on_day_trained(self, day: Day, logs: dict[str, Any] | None = None) -> None:
    self(day)

  def __call__(self, day: Day) -> None:
    """Exports if it is due on the `tfps.data` day that ends, and not exported yet."""
    step = int(self._model.optimizer.iterations.numpy())
    if (day.ordinal + 1) % self._every_days or self._exported == (day.ordinal, step):
      return
    sample = self._sample(day.ordinal, self._examples) if self._sample else None
    self.paths.append(self.exporter.base(day=day.ordinal, step=step, examples=sample))
    self._exported = day.ordinal, step
    print(f"Exported {self.paths[-1]}.", flush=True)
