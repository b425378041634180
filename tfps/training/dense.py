"""The dense weights on their way between parameter servers and a worker: one message each way for each server."""

import uuid
import weakref

import tensorflow as tf
import tf_keras as keras

from tfps import native
from tfps.graph.traced import identity, local_variable


class DenseVariables:
  """Variables on the parameter servers, which a ticket reads into copies of its own and whose changes it merges.

  Args:
    variables: tf.Variables of float32, int32 and int64.

  Raises:
    ValueError: a variable has another dtype.
  """

  def __init__(self, variables):
    self._shards = {}
    for variable in variables:
      if variable.dtype not in (tf.float32, tf.int32, tf.int64):
        raise ValueError(
          f"variable '{variable.name}' has dtype {variable.dtype.name}; on a cluster dense weights are float32, and counters "
          "int32 or int64."
        )
      self._shards.setdefault(variable.device, []).append(variable)
    self._resources = {}
    for device, shard in self._shards.items():
      with tf.init_scope(), tf.device(device):
        self._resources[device] = native.ops.tfps_dense(
          variables=[variable.handle for variable in shard], shared_name=f"dense-{uuid.uuid4().hex}"
        )
      # A server holds on to these variables as long.
      weakref.finalize(self, native.free, self._resources[device], device).atexit = False

  def read(self):
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

  def merge(self, before, handles, decays, step):
    """Merges what changed: a variable v becomes decay * v + (copy - decay * before), once for each `step`.

    Args:
      before: {identity of a variable: what the copy held at first}.
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


def copies(variables, values):
  """{identity of a variable: handle of a copy that holds its value in `values`, or zeros}."""
  return {
    identity(variable): local_variable(
      variable, values.get(identity(variable), tf.zeros(variable.shape, variable.dtype))
    )
    for variable in variables
  }


class Decays:
  """How much of a variable's old value is left after a ticket's steps, so that the steps of several tickets add up.

  A weight, a count and a sum keep all of it: what tickets add comes together. A moving average that keeps b in each
  step keeps b ** n after n. What neither Keras's optimizers nor BatchNormalization have keeps nothing: the last ticket
  decides.

  Args:
    model: the Keras model, built and compiled.
    sums: other variables that keep all of it.
  """

  def __init__(self, model, sums=()):
    self._of_step = {}
    self._of_batch = {}
    metrics = [variable for metric in model.metrics for variable in metric.variables]
    sums = [*model.trainable_variables, *metrics, *sums]
    self._of_batch.update((identity(variable), 1.0) for variable in sums)
    for layer in model.submodules:
      if isinstance(layer, keras.layers.BatchNormalization):
        for variable in (layer.moving_mean, layer.moving_variance):
          self._of_batch[identity(variable)] = layer.momentum
    for name, factor in _of_optimizer(model.optimizer):
      for variable in getattr(model.optimizer, name, ()):
        self._of_step[identity(variable)] = factor

  def after(self, variables, batches, steps):
    """{identity: float scalar} for `variables`, after so many batches (int64 scalar) and steps of the optimizer."""
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


def _of_optimizer(optimizer):
  """(attribute that holds variables, what they keep in each step) of a Keras optimizer."""
  value = lambda name: float(getattr(optimizer, name))
  optimizers = keras.optimizers
  if isinstance(optimizer, (optimizers.Adam, optimizers.AdamW, optimizers.Nadam)):
    return [("_momentums", value("beta_1")), ("_velocities", value("beta_2"))]
  if isinstance(optimizer, optimizers.SGD):
    return [("momentums", value("momentum"))]
  if isinstance(optimizer, optimizers.RMSprop):
    averages = [("_velocities", value("rho")), ("_average_gradients", value("rho"))]
    return [*averages, ("_momentums", value("momentum"))]
  if isinstance(optimizer, optimizers.Adagrad):
    return [("_accumulators", 1.0)]
  if isinstance(optimizer, optimizers.Ftrl):
    return [("_accumulators", 1.0), ("_linears", 1.0)]
  return []


def _join(parts, dtype):
  return tf.concat(parts, axis=0) if parts else tf.zeros([0], dtype)
