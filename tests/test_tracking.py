"""An embedding layer that a model does not track is refused before it trains."""

import collections
import types

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps

IDS = {"user": np.arange(1, 9), "item": np.arange(11, 19)}
LABELS = np.array([1, 0, 0, 1, 0, 0, 0, 1], np.float32)[:, np.newaxis]
Pair = collections.namedtuple("Pair", ["first"])
SOURCE = tfps.data.ClickStream(days=1, examples_per_day=16, batch_size=8)


class Tuple(tuple):
  pass


class Holder(keras.layers.Layer):
  def __init__(self, one):
    super().__init__()
    self.one = one


def _module(layer):
  module = tf.Module()
  module.one = layer
  return module


HIDDEN = {
  "an object": lambda layer: types.SimpleNamespace(one=layer),
  "an object in a list": lambda layer: [types.SimpleNamespace(one=layer)],
  "a closure": lambda layer: lambda: layer,
  "a set": lambda layer: frozenset([layer]),
}
TRACKED = {
  "itself": lambda layer: layer,
  "a list": lambda layer: [layer],
  "a dict of lists": lambda layer: {"a": [layer]},
  "a tuple": lambda layer: (layer,),
  "a tuple of a subclass": lambda layer: Tuple([layer]),
  "a named tuple": Pair,
  "a layer": Holder,
  "a list in a layer": lambda layer: Holder([{"one": layer}]),
  "a module": _module,
}


class Holding(tfps.Model):
  """Holds its layer in some way, and calls it."""

  def __init__(self, hold):
    super().__init__()
    self.table = tfps.FeasignTable("clicks", mf_dim=2)
    layer = tfps.Embedding(self.table, ["user_id", "item_id"], name="hidden")
    self.held = hold(layer)
    self.layer_of = lambda: layer
    self.own = keras.layers.Dense(1)

  def call(self, features, training=None):
    embedded = self.layer_of()(features, training=training)
    return tf.sigmoid(embedded.lr_logit + self.own(keras.layers.Flatten()(embedded.mf)))


class OwnStep(Holding):
  def train_step(self, data):
    x, y = data[:2]
    with tf.GradientTape() as tape, tfps.layers.step.Step(tape) as step:
      loss = tf.reduce_mean((self.layer_of()(x, training=True).lr_logit - y) ** 2)
    step.push(tape.gradient(loss, step.rows), tf.ones(len(y)), y[:, 0])
    return {"loss": loss}

  def call(self, features, training=None):
    return self.own(tf.ones([tf.shape(features["user_id"])[0], 1]))


def compiled(model):
  model.compile("sgd", "binary_crossentropy")
  return model


def assert_refused(function, model, name="hidden"):
  with pytest.raises(
    ValueError, match=f"layer '{name}' looks up table 'clicks', but model"
  ) as told:
    function()
  assert f"model '{model.name}' does not track it" in str(told.value)
  assert "assign it as an attribute of the model" in str(told.value)


@pytest.mark.parametrize("how", HIDDEN)
def test_a_layer_that_is_hidden_is_refused_at_once(how):
  model = compiled(Holding(HIDDEN[how]))
  x, y = next(iter(SOURCE.open(next(iter(SOURCE.tickets())))))[:2]
  for function in (
    lambda: model.fit(SOURCE, verbose=0),
    lambda: model.evaluate(SOURCE, verbose=0),
    lambda: model.predict(SOURCE),
    lambda: model.fit(x, y, verbose=0),
    lambda: model.predict(x, verbose=0),
    lambda: model(x),
  ):
    assert_refused(function, model)
  assert model.table.statistics()["rows"] == 0


@pytest.mark.parametrize("how", TRACKED)
def test_a_layer_that_keras_tracks_trains_and_is_known(how):
  model = Holding(TRACKED[how])
  assert tfps.layers.embedding.tables_of(model) == [model.table]
  x = next(iter(SOURCE.open(next(iter(SOURCE.tickets())))))[0]
  assert model(x).shape == [8, 1]


def test_in_a_train_step_of_ones_own_too():
  model = compiled(OwnStep(HIDDEN["an object"]))
  assert_refused(lambda: model.fit(SOURCE, verbose=0), model)
  assert model.table.statistics()["rows"] == 0


def test_in_a_lambda_of_a_functional_model_too():
  layer = tfps.Embedding(tfps.FeasignTable("clicks", mf_dim=2), ["user"], name="hidden")
  user = keras.Input([], dtype=tf.int64, name="user")
  logit = keras.layers.Lambda(lambda user: layer({"user": user}).lr_logit)(user)
  model = compiled(tfps.Model({"user": user}, tf.sigmoid(logit)))
  assert_refused(lambda: model.fit(IDS, LABELS, verbose=0), model)


def test_the_outermost_model_has_to_know_it():
  inner = Holding(TRACKED["itself"])

  class Outer(tfps.Model):
    def __init__(self, held):
      super().__init__()
      self.held = held

    def call(self, features, training=None):
      return inner(features, training=training)

  outer = Outer(types.SimpleNamespace(one=inner))
  assert_refused(lambda: outer.predict(SOURCE), outer)
  assert Outer(inner).predict(SOURCE).shape == (16, 1)
