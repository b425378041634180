"""Writing a base: the SavedModel, its rows, requests to warm it up, examples and manifest."""

import numpy as np
import tensorflow as tf

from tfps.export import artifact, extras
from tfps.export.delta_reader import Chunk
from tfps.export.served import saved_model_file
from tfps.export.served.model import named
from tfps.storage import bundles, files

_WARMUP_EXAMPLES = 8


def next_version(folder):
  """The number of the next base in `folder`."""
  return max([0, *artifact.numbers(folder)]) + 1


def tensors(raw, inputs):
  """{name: tensor} of raw examples {name: array}, as `tfps.data.RawInputs` says."""
  return {name: tf.constant(inputs[name], spec.dtype) for name, spec in raw.specs.items()}


def write(folder, version, served, captures, weights, inputs, features, prediction, said, devices):
  """Writes a base; once this returns, it is durable.

  Args:
    folder: where the bases are.
    version: its number.
    served: the `ServedModel`.
    captures: {name of a table: what it gives}, as `TableCapture`.
    weights: the packed dense weights.
    inputs: {name: array} of raw examples.
    features: these as the model takes them.
    prediction: what the model returns for them from the captured rows.
    said: a dict, what the manifest says beside the rest.
    devices: where its files are read for their checksums.

  Returns:
    Its path.
  """
  writing = artifact.begin(folder, version)
  buckets = served.load(weights, {name: capture.rows for name, capture in captures.items()})
  saved_model_file.save(served, writing)
  prefixes = bundles.table_prefixes(writing)
  bundles.write(writing, {prefixes[name]: capture for name, capture in captures.items()})
  predictions = {name: value.numpy() for name, value in named(prediction).items()}
  extras.write_examples(writing, inputs, predictions)
  extras.write_warmup(
    writing,
    [
      ("serving_default", _first(inputs)),
      ("feasigns", _first(served.inputs.to_dense(features))),
      ("delta_status", {"ask": np.zeros([1], np.int64)}),
      # A chunk of no delta, which changes nothing.
      ("apply_delta", Chunk(said["lineage"], version, sequence=0, position=0).inputs()),
    ],
  )
  path = files.join(folder, str(version))
  content = {
    "kind": "base",
    "version": version,
    **said,
    "weights": {"layout": served.packed_weights.layout, "size": served.packed_weights.size},
    "tables": {
      name: {
        "rows": capture.rows,
        "row_width": capture.table.row_width,
        "buckets": buckets[name],
        **capture.predicates,
        "slots": capture.table.slots,
      }
      for name, capture in captures.items()
    },
  }
  artifact.finish(writing, path, content, devices)
  return path


def predicates(accessor, of_slots):
  """What a manifest says of the rows of a table: its accessor, and {slot: accessor}."""
  return {
    "predicate": _in_words(accessor),
    "predicate_of_slots": {slot: _in_words(own) for slot, own in of_slots.items()},
  }


def _in_words(accessor):
  return (
    f"(show - click) * {accessor.nonclk_coeff} + click * {accessor.clk_coeff} >= "
    f"{accessor.base_update_threshold} and delta_score >= 0 and unseen_days <= "
    f"{accessor.delta_keep_days}"
  )


def _first(inputs):
  return {name: np.asarray(value)[:_WARMUP_EXAMPLES] for name, value in inputs.items()}
