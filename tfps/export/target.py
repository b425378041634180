"""One of the models that an exporter exports, and the folder where its artifacts go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from tfps.errors import ExportError
from tfps.export import artifact, base_artifact, trained
from tfps.export import delta as delta_lib
from tfps.export.artifact import ARTIFACTS
from tfps.export.capture import SlotRows, TableCapture
from tfps.export.manifests import BaseManifest, DeltaManifest, PackedWeights
from tfps.export.served import weights as served_weights
from tfps.export.served.model import ServedModel
from tfps.layers.embedding import row_widths, slots_of
from tfps.storage import files
from tfps.storage.complete_folder import Prepared

if TYPE_CHECKING:
  import tf_keras as keras

  from tfps.data.raw_inputs import RawInputs
  from tfps.table.feasign_table import FeasignTable

V = TypeVar("V")

Captures = Mapping["FeasignTable", TableCapture]

_EXAMPLES = 64  # Of a day, where nobody gave others.


class BaseContent(NamedTuple):
  """What a base holds beside rows, copied at one moment."""

  weights: np.ndarray
  inputs: Mapping[str, np.ndarray]
  features: Mapping[str, Any]
  prediction: Any


class Target:
  """A model, and the folder where its artifacts go. It holds the folder's lock.

  Args:
    name: the model's name among those that are exported together; "" if it is alone.
    model: the Keras model.
    folder: the folder of its exports.
    raw: its raw inputs.

  Attributes:
    name, model, raw: the arguments.
    slots: the slots that the model reads, of each of its tables.
    row_widths: the floats of a row that it reads, of each of its tables.

  Raises:
    ExportError: the model has no feasign table.
    LockError: another process exports to the folder.
  """

  def __init__(self, name: str, model: keras.Model, folder: str, raw: RawInputs) -> None:
    self.name, self.model, self.raw = name, model, raw
    self.slots, self.row_widths = slots_of(model), row_widths(model)
    if not self.slots:
      which = f"model '{name}'" if name else "the model"
      raise ExportError(f"{which} has no tfps.Embedding layer: export it with Keras's own means.")
    self._folder = folder
    self._bases = files.join(folder, "base")
    self.lock = artifact.hold(self._bases)
    self._packed: served_weights.PackedWeights | None = None

  def next_version(self) -> int:
    """The next free number of a base."""
    return ARTIFACTS.next_number(self._bases)

  def published(self) -> dict[str, Any] | None:
    """The newest artifact in the folder: {"id": lineage, "base", "sequence"}; None without one."""
    versions = ARTIFACTS.numbers(self._bases)
    if not versions:
      return None
    deltas = ARTIFACTS.numbers(files.join(self._folder, "delta", str(versions[-1])))
    try:
      base = ARTIFACTS.read(ARTIFACTS.path_of(self._bases, versions[-1]))
    except ExportError:
      return None
    return {"id": base.lineage, "base": versions[-1], "sequence": max([0, *deltas])}

  def remove_old(self, keep: int) -> dict[int, str]:
    """Removes all bases but the last `keep` and those in use; returns why these stay."""
    return artifact.remove_old(self._folder, keep)

  def trace(self, lineage: str, version: int) -> ServedModel:
    """The model as it is served."""
    served = ServedModel(self.model, self.raw, lineage, version)
    self._packed = served.packed_weights
    return served

  def examples(self, given: Mapping[str, Any] | None, day: int | None) -> Mapping[str, Any] | None:
    """Raw inputs of a few examples: those given, or some of the day; None if there are none."""
    if given is None and self.raw.sample is not None and day is not None:
      return self.raw.sample(day, _EXAMPLES)
    return given

  def base_content(self, served: ServedModel, examples: Mapping[str, Any] | None) -> BaseContent:
    """What a base of this moment holds beside rows.

    Args:
      served: what `trace` returned.
      examples: raw inputs of a few examples, arrays by name; None for one that has nothing, whose
        prediction is not kept.
    """
    given = self.raw.empty_batch() if examples is None else examples
    inputs = base_artifact.raw_arrays(self.raw, given)
    features = served.inputs.from_raw(base_artifact.tensors(self.raw, inputs))
    prediction = None
    if examples is not None:
      prediction = trained.predict(self.model, features, self.slots)
    return BaseContent(served.packed_weights.read(), inputs, features, prediction)

  def prepare_base(
    self, served: ServedModel, captures: Captures, content: BaseContent, manifest: BaseManifest
  ) -> Prepared:
    """Writes a base, which has not its name yet."""
    rows = {table.name: self._rows(captures, table) for table in self.slots}
    self.lock.check()
    return base_artifact.prepare(
      self._bases, served, rows, content.weights, content.inputs, content.features,
      content.prediction, manifest, devices_of(self.slots),
    )  # fmt: skip

  def packed_weights(self, lineage: str, version: int) -> served_weights.PackedWeights:
    """The dense weights of the base that deltas follow."""
    if self._packed is None:  # An earlier process exported it.
      self.trace(lineage, version)
    assert self._packed is not None
    return self._packed

  def prepare_delta(
    self, captures: Captures, weights: np.ndarray, manifest: DeltaManifest
  ) -> Prepared:
    """Writes a delta, which has not its name yet."""
    assert self._packed is not None
    packed = PackedWeights(layout=self._packed.layout, size=self._packed.size)
    manifest = manifest.with_weights(packed)
    folder = files.join(self._folder, "delta", str(manifest.base))
    rows = [self._rows(captures, table) for table in self.slots]
    self.lock.check()
    return delta_lib.prepare(folder, rows, weights, manifest, devices_of(self.slots))

  def _rows(self, captures: Captures, table: FeasignTable) -> SlotRows:
    return SlotRows(captures[table], self.slots[table], self.row_widths[table])


def targets_of(
  models: keras.Model | Mapping[str, keras.Model],
  folder: str,
  raw: RawInputs | Mapping[str, RawInputs],
) -> list[Target]:
  """The targets of an exporter's arguments; ExportError if they do not go together."""
  if not isinstance(models, Mapping):
    if isinstance(raw, Mapping):
      raise ExportError("raw is a dict, and there is one model: give its tfps.data.RawInputs.")
    return [Target("", models, folder, raw)]
  if not models:
    raise ExportError("there is no model to export: name one at least, as {'user': user_model}.")
  for name in models:
    if not re.fullmatch(r"\w[\w.-]*", name) or name in ("base", "delta"):
      raise ExportError(
        f"a model is named {name!r}, which would be its folder: give it a name of letters, digits, "
        "'_', '-' and '.', other than 'base' and 'delta'."
      )
  raws = of_models(raw, models, "raw")
  return [
    Target(name, model, files.join(folder, name), raws[name]) for name, model in models.items()
  ]


def of_models(value: V | Mapping[str, V], models: Mapping[str, Any], what: str) -> Mapping[str, V]:
  """`value` for each model by name: the same for all, unless it is a dict of these names."""
  if not isinstance(value, Mapping):
    return dict.fromkeys(models, value)
  if set(value) != set(models):
    raise ExportError(
      f"{what} is given for {', '.join(sorted(value))}, and the models are "
      f"{', '.join(sorted(models))}: give one for each."
    )
  return value


def devices_of(tables: Mapping[FeasignTable, Any]) -> list[str]:
  """The devices of the servers of some tables, each once."""
  return list(dict.fromkeys(server.device for table in tables for server in table.servers))
