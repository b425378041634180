"""A train step that is not finite changes nothing: no weight, no state, no metric."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf
import tf_keras as keras

from tfps.graph.autograph import users
from tfps.graph.finite import all_finite
from tfps.graph.traced import identity, writers
from tfps.layers.step import Verdict

if TYPE_CHECKING:
  from tfps.training.model import Model

_Pairs = Sequence[tuple[Any, tf.Variable]]


def judge(optimizer: Any, gradients: Iterable[Any], forward: Iterable[Any] = ()) -> Verdict:
  """The `Verdict` on a step; a gradient counts as finite if its square is.

  Optimizers keep squares: one that overflows would stay in their state for good.

  Args:
    optimizer: that of the model.
    gradients: those of the dense weights.
    forward: the loss, and what the forward pass has changed; nothing where it is not known.
  """
  gradients = list(gradients)
  of_forward = all_finite(forward)
  steps = of_forward & all_finite(gradients, squares=True)
  spoilt = ~steps
  if _lowers_its_scale(optimizer):
    # It takes no step with a gradient that is not finite, and needs to see it.
    spoilt &= ~of_forward | all_finite(gradients)
  return Verdict(steps, spoilt)


def apply(optimizer: Any, pairs: _Pairs, spoilt: tf.Tensor) -> None:
  """Applies gradients unless the step is spoilt; called in a replica's context.

  The step of a model without dense weights counts, too: schedules of tables and TensorBoard's axis
  follow the number of steps.
  """
  if not pairs and isinstance(optimizer, keras.optimizers.Optimizer):
    one = tf.where(spoilt, tf.zeros([], tf.int64), tf.ones([], tf.int64))
    tf.raw_ops.AssignAddVariableOp(resource=optimizer.iterations.handle, value=one)
  pairs = [(gradient, variable) for gradient, variable in pairs if gradient is not None]
  if not pairs:
    return
  with tf.init_scope():  # What is made within a tf.cond is made there only.
    if hasattr(optimizer, "build"):
      optimizer.build([variable for _, variable in pairs])
  if tf.executing_eagerly():
    if not spoilt:
      optimizer.apply_gradients(pairs)
    return

  def in_cross_replica(strategy: Any) -> None:
    # An optimizer merges replicas, which is not allowed within a tf.cond of one of them.
    apply_gradients = users(optimizer.apply_gradients)
    run = lambda: strategy.extended.call_for_each_replica(apply_gradients, args=(pairs,))
    tf.cond(spoilt, lambda: None, lambda: _nothing(run()))

  tf.distribute.get_replica_context().merge_call(in_cross_replica)


def _nothing(result: Any) -> None:
  del result


class Tally(NamedTuple):
  """The spoilt steps of a ticket: tensors in a ticket's function, else NumPy.

  Attributes:
    count: int64 scalar.
    first: int64 scalar, the number among the ticket's examples of that which spoilt the first of
      them, as `first_bad` has it; -1 if there is none.
  """

  count: tf.Tensor
  first: tf.Tensor

  def after(self, spoilt: tf.Tensor | None, data: Any, before: tf.Tensor) -> Tally:
    """The tally after one more step.

    Args:
      spoilt: bool scalar, or None, which is False.
      data: the step's batch.
      before: int64 scalar, the number of the ticket's examples before.
    """
    if spoilt is None:
      return self
    is_first = spoilt & (self.first < 0)
    first = tf.cond(is_first, lambda: before + first_bad(data), lambda: self.first)
    return Tally(self.count + tf.cast(spoilt, tf.int64), first)


def no_tally() -> Tally:
  """The `Tally` before the first step."""
  return Tally(tf.zeros([], tf.int64), tf.constant(-1, tf.int64))


class Kept:
  """What the forward pass and the metrics may change, as it was before.

  Args:
    model: the `tfps.Model`.
  """

  def __init__(self, model: Model):
    metrics = [variable for metric in model.metrics for variable in metric.variables]
    self._of_metrics = {identity(variable) for variable in metrics}
    variables = list(metrics)
    # A part that is not built yet has none.
    with contextlib.suppress(ValueError):
      variables += model.non_trainable_variables
    self._variables = list({identity(one): one for one in variables}.values())
    self._values = [_read(variable) for variable in self._variables]

  def changed(self) -> list[tf.Tensor]:
    """What the forward pass has made of the variables of the model itself, such as averages."""
    values = []
    for variable in self._variables:
      changes = [] if tf.executing_eagerly() else writers(variable)
      if identity(variable) not in self._of_metrics and (changes or tf.executing_eagerly()):
        with tf.control_dependencies(changes):
          values.append(_read(variable))
    return values

  def restore(self, spoilt: tf.Tensor) -> None:
    """Gives variables their values back where the step is spoilt."""
    for variable, value in zip(self._variables, self._values):
      changes = [] if tf.executing_eagerly() else writers(variable)
      if changes or tf.executing_eagerly():
        with tf.control_dependencies(changes):
          kept = tf.where(spoilt, value, _read(variable))
        tf.raw_ops.AssignVariableOp(resource=variable.handle, value=kept)


def sane(values: Any, spoilt: tf.Tensor) -> Any:
  """Nested tensors, with zeros for floats where the step is spoilt: for metrics that check them."""

  def replace(value: Any) -> Any:
    if not isinstance(value, tf.Tensor) or not value.dtype.is_floating:
      return value
    return tf.where(spoilt, tf.zeros_like(value), value)

  return tf.nest.map_structure(replace, values)


def without_step(logs: dict[str, Any], results: dict[str, Any], spoilt: tf.Tensor) -> Any:
  """What a `compute_metrics` returned; where the step is spoilt, metrics' results that left it out.

  Args:
    logs: what it returned.
    results: the metrics' results after `Kept.restore`; they take the place of logs of their names.
    spoilt: bool scalar.
  """

  def choose(log: Any, result: Any) -> tf.Tensor:
    log = tf.convert_to_tensor(log)
    return tf.where(spoilt, tf.cast(result, log.dtype), log)

  chosen = dict(logs)
  for name in logs.keys() & results.keys():
    with contextlib.suppress(TypeError, ValueError):  # A log of another structure or shape.
      chosen[name] = tf.nest.map_structure(choose, logs[name], results[name])
  return chosen


def first_bad(data: Any) -> tf.Tensor:
  """int64 scalar: the first example with a float that is not finite; 0 if there is none.

  Args:
    data: a batch, (x, y) or (x, y, weight).
  """
  firsts = [tf.constant(_MANY, tf.int64)]
  for value in tf.nest.flatten(data):
    if isinstance(value, tf.RaggedTensor):
      floats, rows = value.flat_values, _rows(value)
    elif isinstance(value, tf.SparseTensor):
      floats, rows = value.values, value.indices[:, 0]
    elif isinstance(value, tf.Tensor) and value.shape.rank:
      floats, rows = value, tf.range(tf.shape(value, tf.int64)[0])
    else:
      continue
    if floats.dtype.is_floating:
      bad = ~tf.math.is_finite(floats)
      if bad.shape.rank > 1:
        bad = tf.reduce_any(bad, axis=list(range(1, bad.shape.rank)))
      firsts.append(tf.reduce_min(tf.where(bad, tf.cast(rows, tf.int64), _MANY)))
  first = tf.reduce_min(tf.stack(firsts))
  return tf.where(first == _MANY, tf.zeros([], tf.int64), first)


_MANY = tf.int64.max


def _rows(ragged: tf.RaggedTensor) -> tf.Tensor:
  """The row of each of its flat values."""
  rows = ragged.value_rowids()
  while isinstance(ragged.values, tf.RaggedTensor):
    ragged = ragged.values
    rows = tf.gather(rows, ragged.value_rowids())
  return rows


def _lowers_its_scale(optimizer: Any) -> bool:
  return isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)


def _read(variable: tf.Variable) -> tf.Tensor:
  # Ops on handles need no merging of replicas.
  return tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
