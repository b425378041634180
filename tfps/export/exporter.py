"""Exporter: base and delta exports of a model for TensorFlow Serving."""

from concurrent import futures
import time
import uuid

import numpy as np
import tensorflow as tf

from tfps.checkpoint import files
from tfps.embedding import tables_of
from tfps.export import artifact, delta as delta_lib, extras, saved_model_file, trained, variables
from tfps.export.capture import TableCapture
from tfps.export.delta_reader import Chunk
from tfps.export.errors import ExportError
from tfps.export.served_model import ServedModel
from tfps.export.served_model import named

_WARMUP_EXAMPLES = 8


class Exporter:
  """Writes `<folder>/base/<version>/`, SavedModels of stock ops that TensorFlow Serving loads.

      exporter = tfps.export.Exporter(model, "export", raw=source.raw_inputs)
      path = exporter.base()

  Export when no ticket is running. One exporter at a time may write to a folder.

  Args:
    model: the Keras model with `tfps.Embedding` layers.
    folder: where exports go, on any of TensorFlow's file systems; every parameter server must reach
      it.
    raw: the `tfps.data.RawInputs` that clients will send.
    keep: how many bases stay; all where it is None.

  Attributes:
    lineage: the id that all its artifacts share.
    pause_seconds: how long the last export needed the tables to stand still.

  Raises:
    ExportError: the model has no feasign table, or TensorFlow Serving's messages are not installed.
  """

  def __init__(self, model, folder, raw, keep=None):
    extras.check_serving_api()
    self._model = model
    self._raw = raw
    self._keep = keep
    self._folder = str(folder).rstrip("/")
    self._tables = tables_of(model)
    if not self._tables:
      raise ExportError("the model has no tfps.Embedding layer: export it with Keras's own means.")
    self.lineage = uuid.uuid4().hex
    self.pause_seconds = None
    self._base_version, self._sequence, self._packed = None, 0, None
    # A strategy's scope belongs to a thread, and would put the export's variables on servers.
    self._thread = futures.ThreadPoolExecutor(1, thread_name_prefix="tfps-export")

  def base(self, *, day=None, step=None, examples=None):
    """Exports all rows that serving needs, with the dense weights of this moment.

    The version is the next free number. Once the artifact is durable, its rows count as served, and
    what was captured leaves their delta_score.

    Args:
      day: ordinal of the day, for the manifest.
      step: number of training steps, for the manifest.
      examples: {name: array} raw inputs of a few examples, for `tfps verify-export` and to warm up
        the server; by default one example that has nothing.

    Returns:
      The artifact's path.
    """
    return self._thread.submit(self._base, day, step, examples).result()

  def delta(self, *, day=None, step=None):
    """Exports what changed enough since the last export of this exporter, and what is to go.

    Args:
      day: ordinal of the day, for the manifest.
      step: number of training steps, for the manifest.

    Returns:
      The artifact's path, `<folder>/delta/<base>/<sequence>`.

    Raises:
      ExportError: there is no base yet that it could follow.
    """
    return self._thread.submit(self._delta, day, step).result()

  def _delta(self, day, step):
    if self._base_version is None:
      raise ExportError("a delta follows a base, and there is none of this lineage: export a base.")
    captured_at, began = time.time(), time.monotonic()
    captures = [TableCapture(table, "delta") for table in self._tables]
    weights = self._packed.read()
    self.pause_seconds = time.monotonic() - began
    content = {
      "lineage": self.lineage,
      "base": self._base_version,
      "sequence": self._sequence + 1,
      "captured_at": captured_at,
      "day": day,
      "step": step,
      "weights": {"layout": self._packed.layout, "size": self._packed.size},
      "pause_seconds": self.pause_seconds,
    }
    folder = files.join(self._folder, "delta", str(self._base_version))
    path = delta_lib.write(
      folder, self._sequence + 1, captures, weights, content, self._devices()
    )
    self._commit(captures)
    self._sequence += 1
    return path

  def _commit(self, captures):
    """The artifact is durable."""
    # Should a server fail here, it is not known what counts as served: a base has to follow.
    version, self._base_version = self._base_version, None
    for capture in captures:
      capture.commit()
    self._base_version = version

  def _base(self, day, step, examples):
    folder = files.join(self._folder, "base")
    version = max([0, *artifact.numbers(folder)]) + 1
    served = ServedModel(self._model, self._raw, self.lineage, version)
    # From here the tables stand still.
    began = time.monotonic()
    captures = {table.name: TableCapture(table, "base") for table in self._tables}
    weights = served.packed_weights.read()
    inputs = self._raw.empty_batch() if examples is None else examples
    inputs = {name: np.asarray(inputs[name]) for name in self._raw.specs}
    features = served.inputs.from_raw(self._tensors(inputs))
    predictions = self._predictions(features)
    self.pause_seconds = time.monotonic() - began
    # From here they need not.
    writing = artifact.begin(folder, version)
    rows = {name: capture.rows for name, capture in captures.items()}
    buckets = served.load(weights, rows)
    saved_model_file.save(served, writing)
    prefixes = variables.table_prefixes(writing)
    variables.write(writing, {prefixes[name]: capture for name, capture in captures.items()})
    extras.write_examples(writing, inputs, predictions)
    extras.write_warmup(
      writing,
      [
        ("serving_default", _first(inputs)),
        ("feasigns", _first(served.inputs.to_dense(features))),
        ("delta_status", {"ask": np.zeros([1], np.int64)}),
        # A chunk of no delta, which changes nothing.
        ("apply_delta", Chunk(self.lineage, version, sequence=0, position=0).inputs()),
      ],
    )
    path = files.join(folder, str(version))
    content = {
      "kind": "base",
      "lineage": self.lineage,
      "version": version,
      "day": day,
      "step": step,
      "weights": {"layout": served.packed_weights.layout, "size": served.packed_weights.size},
      "tables": {
        table.name: {
          "rows": rows[table.name],
          "row_width": table.row_width,
          "buckets": buckets[table.name],
          "predicate": _predicate(table.accessor),
          "predicate_of_slots": {
            slot: _predicate(table.policy_of(slot).accessor) for slot in table.slot_policies
          },
          "slots": table.slots,
        }
        for table in self._tables
      },
      "pause_seconds": self.pause_seconds,
    }
    artifact.finish(writing, path, content, self._devices())
    self._commit(captures.values())
    self._base_version, self._sequence, self._packed = version, 0, served.packed_weights
    if self._keep is not None:
      artifact.remove_old(folder, self._keep)
    return path

  def _tensors(self, raw):
    return {name: tf.constant(raw[name], spec.dtype) for name, spec in self._raw.specs.items()}

  def _predictions(self, features):
    prediction = trained.predict(self._model, features, self._tables)
    return {name: value.numpy() for name, value in named(prediction).items()}

  def _devices(self):
    return list(dict.fromkeys(server.device for table in self._tables for server in table.servers))


def _first(inputs):
  return {name: np.asarray(value)[:_WARMUP_EXAMPLES] for name, value in inputs.items()}


def _predicate(accessor):
  """The rows of a base, in words."""
  return (
    f"(show - click) * {accessor.nonclk_coeff} + click * {accessor.clk_coeff} >= "
    f"{accessor.base_update_threshold} and delta_score >= 0 and unseen_days <= "
    f"{accessor.delta_keep_days}"
  )
