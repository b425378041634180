"""Dense weights between parameter servers and a worker: one message each way for each server."""

from __future__ import annotations

import uuid
import warnings
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfps import native
from tfps.graph import compat
from tfps.graph.traced import identity, local_variable


class DenseVariables:
  """Variables on the parameter servers; a ticket reads them and merges the changes of its copies.

  Args:
    variables: tf.Variables of float32, int32 and int64.

  Raises:
    ValueError: a variable has another dtype.
  """

  def __init__(self, variables: Iterable[tf.Variable]):
    self._shards: dict[str, list[tf.Variable]] = {}
    for variable in variables:
      if variable.dtype not in (tf.float32, tf.int32, tf.int64):
        raise ValueError(
          f"variable '{variable.name}' has dtype {variable.dtype.name}; on a cluster dense weights "
          "are float32, and counters int32 or int64."
        )
      self._shards.setdefault(variable.device, []).append(variable)
    self._resources: dict[str, tf.Tensor] = {}
    for device, shard in self._shards.items():
      with tf.init_scope(), tf.device(device):
        self._resources[device] = native.ops.tfps_dense(
          variables=[variable.handle for variable in shard], shared_name=f"dense-{uuid.uuid4().hex}"
        )
      # The server keeps these variables until then.
      weakref.finalize(self, native.free, self._resources[device], device).atexit = False

  def read(self) -> dict[int, tf.Tensor]:
    """{identity of a variable: its value now}."""
    values = {}
    for device, shard in self._shards.items():
      floats, integers = native.ops.tfps_read_dense(dense=self._resources[device])
      for vector, is_float in ((floats, True), (integers, False)):
        there = [variable for variable in shard if variable.dtype.is_floating == is_float]
        sizes = [variable.shape.num_elements() for variable in there]
        for variable, part in zip(there, tf.split(vector, sizes) if there else ()):
          values[identity(variable)] = tf.cast(tf.reshape(part, variable.shape), variable.dtype)
    return values

  def merge(
    self,
    before: Mapping[int, tf.Tensor],
    handles: Mapping[int, tf.Tensor],
    decays: Mapping[int, Any],
    step: tf.Tensor,
  ) -> None:
    """Merges changes: v becomes decay * v + (copy - decay * before), once for each `step`.

    Args:
      before: {identity of a variable: the first value of the copy}.
      handles: {identity of a variable: handle of the copy}.
      decays: {identity of a float variable: float scalar}.
      step: int64 [3], as pushes have it.
    """
    for device, shard in self._shards.items():
      floats, integers, factors = [], [], []
      for variable in shard:
        key = identity(variable)
        now = tf.raw_ops.ReadVariableOp(resource=handles[key], dtype=variable.dtype)
        if variable.dtype.is_floating:
          floats.append(tf.reshape(now - decays[key] * before[key], [-1]))
          factors.append(tf.convert_to_tensor(decays[key], tf.float32))
        else:
          integers.append(tf.cast(tf.reshape(now - before[key], [-1]), tf.int64))
          factors.append(tf.ones([]))
      native.ops.tfps_merge_dense(
        dense=self._resources[device],
        step=step,
        floats=_join(floats, tf.float32),
        integers=_join(integers, tf.int64),
        decays=tf.stack(factors),
      )


def copies(
  variables: Iterable[tf.Variable], values: Mapping[int, tf.Tensor]
) -> dict[int, tf.Tensor]:
  """{identity of a variable: handle of a copy that holds its value in `values`, or zeros}."""
  return {
    identity(variable): local_variable(
      variable, values.get(identity(variable), tf.zeros(variable.shape, variable.dtype))
    )
    for variable in variables
  }


class Decays:
  """The share of a variable's old value that a ticket's steps leave: steps of tickets add up.

  A weight, a count and a sum keep all of it: tickets' additions add up. A moving average that keeps
  b in each step keeps b ** n after n. Variables of neither Keras's optimizers nor
  BatchNormalization keep nothing: the last ticket decides. So do weights that SpectralNormalization
  sets: what two tickets do to one of them does not add up.

  Args:
    model: the Keras model, built and compiled.
    sums: other variables that keep all of it.
  """

  def __init__(self, model: Any, sums: Sequence[tf.Variable] = ()):
    self._of_step: dict[int, float] = {}
    self._of_batch: dict[int, float] = {}
    metrics = [variable for metric in model.metrics for variable in metric.variables]
    sums = [*model.trainable_variables, *metrics, *sums]
    self._of_batch.update((identity(variable), 1.0) for variable in sums)
    for layer in model.submodules:
      if isinstance(layer, keras.layers.BatchNormalization):
        for variable in (layer.moving_mean, layer.moving_variance):
          self._of_batch[identity(variable)] = layer.momentum
      if isinstance(layer, keras.layers.SpectralNormalization):
        self._of_batch.pop(identity(layer.kernel), None)
    optimizer = _inner(model.optimizer)
    for name, factor in _of_optimizer(optimizer):
      for variable in compat.optimizer_variables(optimizer, name):
        self._of_step[identity(variable)] = factor

  def after(
    self, variables: Iterable[tf.Variable], batches: tf.Tensor, steps: tf.Tensor
  ) -> dict[int, Any]:
    """{identity: float scalar} for `variables`.

    Args:
      variables: the tf.Variables.
      batches: int64 scalar, the number of batches.
      steps: int64 scalar, the number of the optimizer's steps.
    """
    decays = {}
    for variable in variables:
      key = identity(variable)
      of_one, count = self._of_step.get(key, 0.0), steps
      if key in self._of_batch:
        of_one, count = self._of_batch[key], batches
      decays[identity(variable)] = (
        of_one if of_one in (0.0, 1.0) else of_one ** tf.cast(count, tf.float32)
      )
    return decays


def check_optimizer(optimizer: Any) -> None:
  """Raises ValueError, in one sentence, if a cluster cannot train with it."""
  inner = _inner(optimizer)
  name = type(inner).__name__
  if isinstance(inner, keras.optimizers.legacy.Optimizer):
    raise ValueError(
      f"optimizer {name} is one of keras.optimizers.legacy, which train in one process only: take "
      f"keras.optimizers.{name}."
    )


def check_local_steps(optimizer: Any) -> None:
  """Raises ValueError if workers cannot step copies with it; warns of what is not known of it."""
  inner = _inner(optimizer)
  name = type(inner).__name__
  if inner.use_ema and inner.ema_overwrite_frequency:
    raise ValueError(
      f"ema_overwrite_frequency of optimizer {name} would put a worker's average over the weights "
      "in the midst of the others' steps: leave it out, so that fit ends with the average, or "
      "train with Communication(consistency='sync')."
    )
  if not isinstance(inner, _KNOWN):
    warnings.warn(
      f"tfps does not know what optimizer {name} keeps: where two workers change one of its "
      "variables at once, one change is lost; Communication(consistency='sync') loses none.",
      stacklevel=2,
    )


_KNOWN = tuple(
  getattr(keras.optimizers, name)
  for name in (
    "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lion", "Nadam",
    "RMSprop", "SGD",
  )
)  # fmt: skip


def _inner(optimizer: Any) -> Any:
  """The optimizer that a LossScaleOptimizer wraps, or else itself."""
  return getattr(optimizer, "inner_optimizer", optimizer)


def _of_optimizer(optimizer: Any) -> list[tuple[str, float]]:
  """(name of variables, what they keep in each step) of a Keras optimizer.

  Others, such as largest values and what follows the number of steps, keep nothing.
  """
  value = lambda name: float(getattr(optimizer, name))
  optimizers = keras.optimizers
  averages = [("model_variables_moving_average", value("ema_momentum"))]
  if isinstance(optimizer, (optimizers.Adam, optimizers.AdamW, optimizers.Nadam)):
    return [*averages, ("momentums", value("beta_1")), ("velocities", value("beta_2"))]
  if isinstance(optimizer, optimizers.SGD):
    return [*averages, ("momentums", value("momentum"))]
  if isinstance(optimizer, optimizers.RMSprop):
    averages += [("velocities", value("rho")), ("average_gradients", value("rho"))]
    return [*averages, ("momentums", value("momentum"))]
  if isinstance(optimizer, optimizers.Adagrad):
    return [*averages, ("accumulators", 1.0)]
  if isinstance(optimizer, optimizers.Ftrl):
    return [*averages, ("accumulators", 1.0), ("linears", 1.0)]
  if isinstance(optimizer, optimizers.Adadelta):
    averages += [("accumulated_grads", value("rho"))]
    return [*averages, ("accumulated_delta_vars", value("rho"))]
  if isinstance(optimizer, optimizers.Adamax):
    return [*averages, ("m", value("beta_1")), ("u", value("beta_2"))]
  if isinstance(optimizer, optimizers.Lion):
    return [*averages, ("momentums", value("beta_2"))]
  return averages


def _join(parts: list[tf.Tensor], dtype: tf.DType) -> tf.Tensor:
  return tf.concat(parts, axis=0) if parts else tf.zeros([0], dtype)
