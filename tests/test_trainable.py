"""What is trainable when a function is traced first counts until `compile`, as in Keras."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tests.keras_judge import data
from tfps.graph.traced import Traced
from tfps.training import on_workers
from tfps.training.trainable import Trainable

layers = keras.layers


def _nested():
  """(model, a layer that two of its layers share): both parts have it, the second alone `own`."""
  shared, own = layers.Dense(4), layers.Dense(4)
  one, other = keras.Sequential([shared]), keras.Sequential([shared, own])
  x = keras.Input([4])
  model = tfps.Model(x, layers.Dense(1, "sigmoid")(other(one(x))))
  model.compile(keras.optimizers.SGD(0.1), "mse")
  return model, one, other, shared


def _flags(model):
  return [layer.trainable for layer in model.submodules if isinstance(layer, layers.Layer)]


def test_flags_are_as_they_were_first_and_then_as_they_are_now():
  model, one, other, shared = _nested()
  one.trainable = False
  shared.trainable = True
  first = _flags(model)
  trainable = Trainable(model)
  with trainable.when_traced("train", None):
    assert _flags(model) == first
  model.trainable = False
  other.trainable = True
  now = _flags(model)
  assert now != first
  with trainable.when_traced("train", None):
    assert _flags(model) == first
    assert not one.trainable
    assert shared.trainable
  assert _flags(model) == now
  for other_key in (("test", None), ("train", tf.TensorSpec([]))):
    with trainable.when_traced(*other_key):
      assert _flags(model) == now


def test_a_layer_that_is_frozen_without_compile_trains_on_a_new_source_and_after_compile_not():
  model, _, other, _ = _nested()
  model.fit(data.ArraySource(data.dense(), 3), verbose=0)

  def changes():
    before = [weight.numpy() for weight in other.weights]
    model.fit(data.ArraySource(data.dense(), 3), verbose=0)
    return [not np.array_equal(old, new) for old, new in zip(before, other.get_weights())]

  other.trainable = False
  assert all(changes())
  assert not other.trainable
  model.compile(keras.optimizers.SGD(0.1), "mse")
  assert not any(changes())


def test_a_model_is_built_without_a_step():
  class Counts(layers.Layer):
    def build(self, shape):
      self.calls = self.add_weight(name="calls", shape=[], initializer="zeros", trainable=False)

    def call(self, x):
      self.calls.assign_add(1.0)
      return x

  x = keras.Input([4])
  counts = Counts()
  model = tfps.Model(x, layers.Dense(1)(counts(x)))
  model.compile("adam", "mse", metrics=["mae"])
  model.build_for(data.ArraySource(data.dense(), 3))
  assert float(counts.calls) == 0
  assert len(model.optimizer.variables) > 2
  assert [metric.name for metric in model.metrics] == ["loss", "mae"]


def test_a_table_of_the_chief_alone_is_refused_where_workers_run():
  vocabulary = tf.lookup.KeyValueTensorInitializer([1, 2], [3, 4], tf.int64, tf.int64)
  table = tf.lookup.StaticHashTable(vocabulary, 0)
  weight = tf.Variable(2.0)
  look_up = Traced(table.lookup, tf.TensorSpec([None], tf.int64))
  with pytest.raises(ValueError, match="^model 'm' uses a lookup table.* in the scope of the str"):
    on_workers.check_captures(keras.Sequential(name="m"), look_up)
  on_workers.check_captures(keras.Sequential(name="m"), Traced(lambda: weight * 2))
