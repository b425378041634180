"""Models in models, shared layers, several inputs and outputs: as stock Keras on the same data."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tests.test_keras_loops import ArraySource

IDS, DIM, BATCH, RATE = np.arange(1, 21), 3, 8, 0.2
RANDOM = np.random.default_rng(0)
X = {name: RANDOM.choice(IDS, 32) for name in ("left", "right")}
Y = {name: RANDOM.integers(0, 2, [32, 1]).astype(np.float32) for name in ("click", "buy")}


class Looked(keras.layers.Layer):
  """What a keras.layers.Embedding returns, of the rows of a table."""

  def __init__(self, table):
    super().__init__()
    self.embedding = tfps.Embedding(table, ["id"])

  def call(self, ids, training=None):
    found = self.embedding({"id": ids}, training=training)
    return tf.concat([found.lr, found.mf[:, 0]], axis=1)


class World:
  """How to make the same model with tfps or with stock Keras."""

  def __init__(self, stock=None):
    self.stock = stock
    self.Model = keras.Model if stock else tfps.Model
    if stock:
      rows = stock.table.lookup(IDS)
      self.rows = np.zeros([len(IDS) + 1, 1 + DIM], np.float32)
      self.rows[1:, 0], self.rows[1:, 1:] = rows["lr_w"], rows["mf_w"]
    else:
      accessor = tfps.CtrAccessor(create_threshold=0)
      sgd = tfps.SGD(RATE / BATCH, weight_min=-1e9, weight_max=1e9)
      self.table = tfps.FeasignTable(
        "ids", mf_dim=DIM, accessor=accessor, optimizer=sgd, gradient_scale="sum", mf_init_range=0.5
      )
      slots, ones = np.full(len(IDS), self.table.slot_id("id"), np.int32), np.ones(len(IDS))
      nothing = np.zeros([len(IDS), 1 + DIM], np.float32)
      self.table.push([(IDS, slots, np.float32(ones), np.float32(0 * ones), nothing)])

  def lookup(self):
    if not self.stock:
      return Looked(self.table)
    start = keras.initializers.Constant(self.rows)
    return keras.layers.Embedding(len(self.rows), 1 + DIM, embeddings_initializer=start)


class Part(keras.layers.Layer):
  """Calls a layer or a model on one feature."""

  def __init__(self, called, name):
    super().__init__()
    self.called, self.feature = called, name

  def call(self, x, training=None):
    return self.called(x[self.feature])


def inputs():
  return {name: keras.Input([], dtype=tf.int64, name=name) for name in X}


def subclassed(world, parts):
  """A model whose call is the sum of what `parts` make of the features, as a probability."""

  class Sum(world.Model):
    def __init__(self):
      super().__init__()
      self.parts = parts
      self.last = keras.layers.Dense(1)

    def call(self, x, training=None):
      return tf.sigmoid(self.last(sum(part(x) for part in self.parts)))

  return Sum()


def twice(world):
  lookup = world.lookup()
  return subclassed(world, [Part(lookup, "left"), Part(lookup, "right")])


def twice_in_a_functional_model(world):
  x, lookup = inputs(), world.lookup()
  hidden = keras.layers.Dense(4, "tanh")
  parts = [hidden(lookup(x[name])) for name in X]
  return world.Model(x, keras.layers.Dense(1, "sigmoid")(keras.layers.Concatenate()(parts)))


def tower(world, model_class):
  """A functional model of one feature."""
  one = keras.Input([], dtype=tf.int64)
  return model_class(one, keras.layers.Dense(4, "tanh")(world.lookup()(one)))


def in_a_stock_model(world):
  inner = tower(world, keras.Model)
  return subclassed(world, [Part(inner, "left"), Part(inner, "right")])


def in_a_model_of_the_same_kind(world):
  inner = tower(world, world.Model)
  return subclassed(world, [Part(inner, "left"), Part(inner, "right")])


def in_a_functional_model_in_a_functional_model(world):
  x, inner = inputs(), tower(world, world.Model)
  both = keras.layers.Add()([inner(x[name]) for name in X])
  return world.Model(x, keras.layers.Dense(1, "sigmoid")(both))


def in_a_sequential_model(world):
  inner = keras.Sequential([world.lookup(), keras.layers.Dense(4, "tanh")])
  return subclassed(world, [Part(inner, "left"), Part(inner, "right")])


def several_outputs(world):
  x, lookup = inputs(), world.lookup()
  left, right = (lookup(x[name]) for name in X)
  hidden = keras.layers.Dense(4, "tanh")(left)
  outputs = {
    "click": keras.layers.Dense(1, "sigmoid", name="click")(hidden),
    "buy": keras.layers.Dense(1, "sigmoid", name="buy")(keras.layers.Multiply()([left, right])),
  }
  return world.Model(x, outputs)


MODELS = {
  make.__name__: make
  for make in (
    twice, twice_in_a_functional_model, in_a_stock_model, in_a_model_of_the_same_kind,
    in_a_functional_model_in_a_functional_model, in_a_sequential_model, several_outputs,
  )
}  # fmt: skip


@pytest.mark.parametrize("on_source", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_it_trains_as_stock_keras(kind, on_source):
  several = kind == "several_outputs"
  y = Y if several else Y["click"]
  world = World()
  results = []
  for one in (world, World(stock=world)):
    keras.utils.set_random_seed(1)
    model = MODELS[kind](one)
    weights = {"loss_weights": {"click": 1.0, "buy": 0.5}} if several else {}
    model.compile(keras.optimizers.SGD(RATE), "binary_crossentropy", **weights)
    source = on_source and one is world
    arguments = {"verbose": 0, "epochs": 2}
    if source:
      history = model.fit(ArraySource(X, y), **arguments)
    else:
      history = model.fit(X, y, batch_size=BATCH, shuffle=False, **arguments)
    results.append((history.history, model.predict(X, verbose=0)))
  (history, predicted), (expected_history, expected) = results
  assert history.keys() == expected_history.keys()
  for name, values in expected_history.items():
    np.testing.assert_allclose(history[name], values, rtol=1e-4)
  assert tfps.layers.embedding.tables_of(model) == []
  for one, other in zip(tf.nest.flatten(predicted), tf.nest.flatten(expected), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
  assert world.table.statistics()["show"] > 64
