"""The SavedModel's graph: signatures over stock tables and one vector of dense weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfps.export.served import padding
from tfps.export.served.inputs import ModelInputs
from tfps.export.served.table import ServedTable
from tfps.export.served.tracing import TracedModel
from tfps.export.served.weights import PackedWeights
from tfps.graph import compat

if TYPE_CHECKING:
  import tf_keras as keras

  from tfps.data.raw_inputs import RawInputs

Outputs = dict[str, tf.Tensor]

CLASSIFY, REGRESS = "classify", "regress"
EXAMPLES, FEATURES = "examples", "features"


# tf.Module would look for variables in these attributes, and find the trainer's.
@compat.untracked("_raw", "_inputs", "_traced")
class ServedModel(tf.Module):
  """A model with all that it needs to be served, and to apply deltas while it is served.

  Every input and output of every signature has the batch as its first dimension, so that a server
  may join requests.

  Args:
    model: the Keras model, built.
    raw: its raw inputs.
    lineage: the lineage's id.
    base: the version of this base.
  """

  def __init__(self, model: keras.Model, raw: RawInputs, lineage: str, base: int) -> None:
    super().__init__(name="served")
    self._raw = raw
    self._lineage, self._base = lineage, base
    self._inputs = ModelInputs(model, raw)
    self._traced = TracedModel(model, self._inputs.specs)
    # The SavedModel holds these attributes: tables and variables.
    self.tables = dict(self._traced.tables)
    self.weights = tf.Variable(tf.zeros([self._traced.weights.size]), trainable=False)
    # The number of the last whole delta, and how many entries of the next one are applied. One
    # variable, so that both change at once.
    self.progress = tf.Variable([0, 0], dtype=tf.int64, trainable=False)

  @property
  def packed_weights(self) -> PackedWeights:
    """The trainer's variables."""
    return self._traced.weights

  @property
  def inputs(self) -> ModelInputs:
    """The model's input in its three forms."""
    return self._inputs

  def load(self, weights: np.ndarray, rows: Mapping[str, int]) -> dict[str, int]:
    """Sets what will be saved.

    Args:
      weights: the packed weights.
      rows: how many rows each table will have, by table name.

    Returns:
      How many buckets each table will have, by table name.
    """
    self.weights.assign(weights)
    return {name: table.make_room(rows[name]) for name, table in self._traced.tables.items()}

  def signatures(self) -> dict[str, Any]:
    """The concrete function of each signature by name."""
    raw_specs = {name: _named(spec, name) for name, spec in self._raw.specs.items()}
    signatures = {
      "serving_default": _function(self._predict_raw, raw_specs),
      "feasigns": _function(self._predict_dense, self._inputs.dense_specs),
      FEATURES: _function(self._features, raw_specs),
      "apply_delta": _function(
        self._apply_delta,
        {
          "lineage": _column("lineage", tf.string),
          "base": _column("base", tf.int64),
          "sequence": _column("sequence", tf.int64),
          "position": _column("position", tf.int64),
          "last": _column("last", tf.int64),
          "table": _column("table", tf.string),
          "keys": _column("keys", tf.string),
          "rows": _column("rows", tf.string),
          "removed": _column("removed", tf.string),
          "weights": _column("weights", tf.string),
        },
      ),
      "delta_status": _function(self._delta_status, {"ask": _column("ask", tf.int64)}),
    }
    serialized = {"inputs": _column("inputs", tf.string)}
    signatures[EXAMPLES] = _function(self._predict_examples, serialized)
    outputs = signatures["serving_default"].structured_outputs
    shape = next(iter(outputs.values())).shape
    if len(outputs) == 1 and shape.rank in (1, 2) and shape[1:].num_elements() == 1:
      signatures[CLASSIFY] = _function(self._classify, serialized)
      signatures[REGRESS] = _function(self._regress, serialized)
    return signatures

  def _predict(self, features: Mapping[str, Any]) -> Outputs:
    # The weights are read once: a request sees the whole of an update, or nothing of it.
    prediction = self._traced(features, self.weights.read_value())
    return {name: tf.identity(value) for name, value in named(prediction).items()}

  def _predict_raw(self, **raw: tf.Tensor) -> Outputs:
    return self._predict(self._inputs.from_raw(self._as_sent(raw, self._raw.specs)))

  def _predict_examples(self, inputs: tf.Tensor) -> Outputs:
    # One string is one example, whatever it holds: no server fills it up.
    return self._predict(self._inputs.from_raw(self._raw.parse_examples(inputs)))

  def _features(self, **raw: tf.Tensor) -> Outputs:
    features = self._inputs.from_raw(self._as_sent(raw, self._raw.specs))
    dense = self._inputs.to_dense(features)
    return {name: tf.identity(value) for name, value in dense.items()}

  def _predict_dense(self, **dense: tf.Tensor) -> Outputs:
    return self._predict(self._inputs.from_dense(self._as_sent(dense, self._inputs.dense_specs)))

  def _as_sent(
    self, tensors: dict[str, tf.Tensor], specs: Mapping[str, tf.TensorSpec]
  ) -> dict[str, tf.Tensor]:
    return padding.checked(tensors, specs, self._raw.check_padding)

  def _probability(self, serialized: tf.Tensor) -> tf.Tensor:
    (prediction,) = self._predict_examples(serialized).values()
    return tf.reshape(prediction, [-1])

  def _classify(self, inputs: tf.Tensor) -> Outputs:
    click = self._probability(inputs)
    classes = tf.tile([["0", "1"]], [tf.size(click), 1])
    return {"classes": classes, "scores": tf.stack([1 - click, click], axis=1)}

  def _regress(self, inputs: tf.Tensor) -> Outputs:
    return {"outputs": self._probability(inputs)}

  def _apply_delta(
    self,
    lineage: tf.Tensor,
    base: tf.Tensor,
    sequence: tf.Tensor,
    position: tf.Tensor,
    last: tf.Tensor,
    table: tf.Tensor,
    keys: tf.Tensor,
    rows: tf.Tensor,
    removed: tf.Tensor,
    weights: tf.Tensor,
  ) -> Outputs:
    """Applies one chunk of a delta if it is the next one.

    A chunk that was applied before changes nothing; any other is refused. A chunk's position is the
    number of entries (rows and removed keys) before it in its delta, so a delta may continue in
    chunks of another size. One chunk is applied at a time, whichever clients send them. Where a
    server has joined the chunks of several clients, the first that is due is applied, and all of
    them learn from the status how far the delta is now.
    """
    lock = tf.raw_ops.MutexLock(mutex=tf.raw_ops.MutexV2(container="", shared_name="apply_delta"))
    with tf.control_dependencies([lock]):
      whole, entries = tf.unstack(self.progress.read_value())
    due, ask = whole + 1, base
    is_own = tf.logical_and(lineage == self._lineage, base == self._base)
    is_due = tf.logical_and(sequence == due, position == entries)
    is_known = tf.logical_or(sequence < due, tf.logical_and(sequence == due, position <= entries))
    # Of several chunks: one that is due, else one that was applied before, else any.
    worth = tf.cast(is_own & is_known, tf.int32) + tf.cast(is_own & is_due, tf.int32)
    chosen = tf.argmax(worth)
    lineage, base, is_own, is_due, is_known = (
      column[chosen] for column in (lineage, base, is_own, is_due, is_known)
    )
    sequence, position, last = sequence[chosen], position[chosen], last[chosen]
    table, keys, rows, removed, weights = (
      column[chosen] for column in (table, keys, rows, removed, weights)
    )
    checks = [
      _check(
        is_own,
        f"this server holds base {self._base} of lineage {self._lineage}; the chunk is of",
        lineage,
        base,
      ),
      _check(
        is_known,
        "chunks come in order; due is delta, entry",
        due,
        entries,
        "and this is",
        sequence,
        position,
      ),
      _check(
        tf.logical_or(tf.strings.length(weights) == 0, last > 0),
        "the dense weights come with the last chunk of a delta",
      ),
    ]
    with tf.control_dependencies(checks):
      is_next = tf.identity(is_due)

    def apply() -> tf.Tensor:
      done = [
        tf.cond(
          table == name,
          lambda served=served: _put(served, keys, rows, removed),
          lambda: tf.constant(False),
        )
        for name, served in self.tables.items()
      ]
      known = tf.logical_or(tf.reduce_any(done), table == "")
      with tf.control_dependencies([_check(known, "there is no table", table)]):
        dense = tf.cond(
          tf.strings.length(weights) > 0,
          lambda: self._put(weights),
          lambda: tf.constant(True),
        )
      # Only when all is in place: a chunk that fails before is due again.
      with tf.control_dependencies([dense]):
        length = tf.strings.length(keys) + tf.strings.length(removed)
        after = entries + tf.cast(length // tf.int64.size, tf.int64)
        progress = tf.where(last > 0, [due, 0], [whole, after])
        applied = self.progress.assign(progress, read_value=False)
      return _after([applied])

    applied = tf.cond(is_next, apply, lambda: tf.constant(False))
    with tf.control_dependencies([applied]):
      status = self._delta_status(ask)
    with tf.control_dependencies(list(status.values())):
      unlock = tf.raw_ops.ConsumeMutexLock(mutex_lock=lock)
    with tf.control_dependencies([unlock]):
      return {name: tf.identity(value) for name, value in status.items()}

  def _put(self, weights: tf.Tensor) -> tf.Tensor:
    # The variable refuses a vector of another length.
    values = tf.io.decode_raw(weights, tf.float32)
    assigned = self.weights.assign(values, read_value=False)
    return _after([assigned])

  def _delta_status(self, ask: tf.Tensor) -> Outputs:
    """The lineage, the base, the last whole delta, and how much of the next one is applied."""
    sequence, position = tf.unstack(self.progress.read_value())

    def same(value: Any) -> tf.Tensor:
      return tf.fill(tf.shape(ask), value)

    return {
      "lineage": same(self._lineage),
      "base": same(tf.constant(self._base, tf.int64)),
      "sequence": same(sequence),
      "position": same(position),
    }


def named(prediction: Any) -> Outputs:
  """The tensors that a model returns, by name."""
  if isinstance(prediction, dict):
    return dict(prediction)
  values = tf.nest.flatten(prediction)
  if len(values) == 1:
    return {"predictions": values[0]}
  return {f"predictions_{i}": value for i, value in enumerate(values)}


def _put(table: ServedTable, keys: tf.Tensor, rows: tf.Tensor, removed: tf.Tensor) -> tf.Tensor:
  dropped = table.drop(tf.io.decode_raw(removed, tf.int64))
  with tf.control_dependencies([dropped]):
    put = table.put(tf.io.decode_raw(keys, tf.int64), tf.io.decode_raw(rows, tf.float32))
  return _after([put])


def _after(operations: Sequence[Any]) -> tf.Tensor:
  """A tensor, true, that can be read once the operations have succeeded."""
  with tf.control_dependencies(operations):
    return tf.constant(True)


def _check(condition: tf.Tensor, *message: Any) -> tf.Operation:
  return tf.debugging.Assert(condition, list(message), summarize=1)


def _function(python_function: Callable[..., Outputs], specs: Mapping[str, tf.TensorSpec]) -> Any:
  """A concrete function whose arguments are tensors of these names."""

  def called_with_names(**tensors: tf.Tensor) -> Outputs:
    return python_function(**tensors)

  return tf.function(called_with_names, autograph=False).get_concrete_function(**specs)


def _column(name: str, dtype: tf.DType) -> tf.TensorSpec:
  return tf.TensorSpec([None], dtype, name=name)


def _named(spec: tf.TensorSpec, name: str) -> tf.TensorSpec:
  return tf.TensorSpec(spec.shape, spec.dtype, name=name)
