"""BaseExport: a base at days' ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfps.data.raw_inputs import RawInputs
from tfps.data.ticket import Day
from tfps.errors import ExportError
from tfps.export.exporter import Exporter, in_words
from tfps.training.callback import Callback


class BaseExport(Callback):
  """Exports a base when a day ends, before any table evicts, ages or decays its rows.

  The order among the callbacks does not matter. Without `fit`, call it with the day that ends, or
  give it to `EndOfDay` as `base_export`.

  Args:
    model: the Keras model, or a dict of models by name, which are exported together; see
      `tfps.export.Exporter`.
    folder: where exports go; every parameter server must reach it.
    raw: the `tfps.data.RawInputs` that clients will send, such as the source's `raw_inputs`; a dict
      of them, if models differ in them.
    every_days: export when that many days of the calendar have ended.
    examples: the number of the day's examples that the export keeps to be checked with.
    keep: the number of bases that stay; None for all.

  Attributes:
    exporter: the `tfps.export.Exporter`.
    paths: of the exports so far; of several models, dicts of paths.

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
    raw: RawInputs | Mapping[str, RawInputs] | None,
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
    self.paths: list[Any] = []
    self._trained = None if isinstance(model, Mapping) else model
    self._exported: tuple[int, int | None] | None = None  # day and step of the last
    # The names of the models; None of a model that is alone.
    self._names = list(model) if isinstance(model, Mapping) else None
    self._raws = raw if isinstance(raw, Mapping) else {"": raw}
    self._every_days = every_days
    self._examples = examples

  def on_day_trained(self, day: Day, logs: dict[str, Any] | None = None) -> None:
    self(day)

  def __call__(self, day: Day) -> None:
    """Exports if it is due on the `tfps.data` day that ends, and not exported yet."""
    trained = self._trained or self.model  # Towers have no optimizer of their own.
    step = int(trained.optimizer.iterations.numpy()) if trained is not None else None
    if (day.ordinal + 1) % self._every_days or self._exported == (day.ordinal, step):
      return
    samples = {
      name: raw.sample(day.ordinal, self._examples) if raw.sample else None
      for name, raw in self._raws.items()
    }
    examples: Any = samples.get("")
    if self._names is not None:
      examples = {name: samples.get(name, examples) for name in self._names}
    self.paths.append(self.exporter.base(day=day.ordinal, step=step, examples=examples))
    self._exported = day.ordinal, step
    print(f"Exported {in_words(self.paths[-1])}.", flush=True)
