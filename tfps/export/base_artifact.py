"""Writing a base: the SavedModel, its rows, requests to warm it up, examples and manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import tensorflow as tf

from tfps.export import extras
from tfps.export.artifact import ARTIFACTS
from tfps.export.delta_reader import Chunk
from tfps.export.manifests import BaseManifest, BaseTable, PackedWeights
from tfps.export.predicates import Predicates
from tfps.export.served import padding, saved_model_file
from tfps.export.served.model import CLASSIFY, EXAMPLES, FEATURES, REGRESS, ServedModel, named
from tfps.storage import bundles
from tfps.storage.complete_folder import Prepared

if TYPE_CHECKING:
  from tfps.data.raw_inputs import RawInputs
  from tfps.table.feasign_table import FeasignTable

_WARMUP_EXAMPLES = 8


class Capture(bundles.Rows, Protocol):
  """The rows that one table gives to a base: `SlotRows` or a `SavedCapture`."""

  table: FeasignTable

  @property
  def row_width(self) -> int:
    """Floats of a row."""

  @property
  def slots(self) -> Mapping[str, int]:
    """The slots whose rows it has: {name: number}."""

  @property
  def predicates(self) -> Predicates:
    """Which rows a base holds."""


def tensors(raw: RawInputs, inputs: Mapping[str, Any]) -> dict[str, tf.Tensor]:
  """Raw examples, arrays by name, as tensors of the dtypes that `raw` says."""
  return {name: tf.constant(inputs[name], spec.dtype) for name, spec in raw.specs.items()}


def raw_arrays(raw: RawInputs, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Raw examples as arrays by name, in the order of `raw`, in a form that no graph refuses."""
  arrays = {name: np.asarray(inputs[name]) for name in raw.specs}
  return padding.end_rows(arrays, raw.specs) if raw.check_padding else arrays


def prepare(
  folder: str,
  served: ServedModel,
  captures: Mapping[str, Capture],
  weights: np.ndarray,
  inputs: Mapping[str, np.ndarray],
  features: Mapping[str, Any],
  prediction: Any,
  manifest: BaseManifest,
  devices: Sequence[str],
) -> Prepared:
  """Writes a base, which has not its name yet.

  Args:
    folder: where the bases are.
    served: the model as it is served.
    captures: what each table gives, by table name.
    weights: the packed dense weights.
    inputs: raw examples, arrays by name, as `raw_arrays` returns them; also to warm the server up.
    features: the same examples as the model takes them.
    prediction: what the model returns for them from the captured rows; None if they are made up,
      and a check with them would say nothing.
    manifest: the manifest without tables and weights.
    devices: where files are read for their checksums, each on one of these.

  Returns:
    What gives it its name.
  """

  def write_to(path: str) -> BaseManifest:
    buckets = served.load(weights, {name: capture.rows for name, capture in captures.items()})
    signatures = saved_model_file.save(served, path)
    prefixes = bundles.table_prefixes(path)
    bundles.write(path, {prefixes[name]: capture for name, capture in captures.items()})
    if prediction is not None:
      predictions = {name: value.numpy() for name, value in named(prediction).items()}
      extras.write_examples(path, inputs, predictions)
    # A chunk of delta 0, of which there is none, changes nothing.
    chunk = Chunk(manifest.lineage, manifest.version, sequence=0, position=0)
    dense = padding.end_rows(served.inputs.to_dense(features), served.inputs.dense_specs)
    requests = [
      extras.predict_log("serving_default", _first(inputs)),
      extras.predict_log("feasigns", _first(dense)),
      extras.predict_log(EXAMPLES, {"inputs": extras.serialized(_first(inputs))}),
      extras.predict_log(FEATURES, _first(inputs)),
      extras.predict_log("delta_status", {"ask": np.zeros([1], np.int64)}),
      extras.predict_log("apply_delta", chunk.inputs()),
    ]
    if CLASSIFY in signatures:
      requests.append(extras.examples_log("classify_log", CLASSIFY, _first(inputs)))
      requests.append(extras.examples_log("regress_log", REGRESS, _first(inputs)))
    extras.write_warmup(path, requests)
    packed = served.packed_weights
    return dataclasses.replace(
      manifest,
      weights=PackedWeights(layout=packed.layout, size=packed.size),
      tables={name: _describe(capture, buckets[name]) for name, capture in captures.items()},
    )

  return ARTIFACTS.prepare(folder, manifest.version, write_to, devices)


def _describe(capture: Capture, buckets: int) -> BaseTable:
  common, of_slots = capture.predicates
  return BaseTable(
    rows=capture.rows,
    row_width=capture.row_width,
    buckets=buckets,
    predicate=common,
    predicate_of_slots=of_slots,
    slots=capture.slots,
  )


def _first(inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
  return {name: np.asarray(value)[:_WARMUP_EXAMPLES] for name, value in inputs.items()}
