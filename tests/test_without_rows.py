"""What Keras would keep, copy or bring back of a model without its tables' rows is refused."""

import copy
import pickle

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps

IDS = {"user": np.arange(1, 9), "item": np.arange(11, 19)}
LABELS = np.array([1, 0, 0, 1, 0, 0, 0, 1], np.float32)[:, np.newaxis]


class Subclassed(tfps.Model):
  def __init__(self):
    super().__init__()
    self.embedding = tfps.Embedding(tfps.FeasignTable("clicks", mf_dim=2), list(IDS))
    self.dense = keras.layers.Dense(1)

  def call(self, features, training=None):
    embedded = self.embedding(features, training=training)
    return tf.sigmoid(embedded.lr_logit + self.dense(keras.layers.Flatten()(embedded.mf)))


class Configured(Subclassed):
  """Its author says how to make another one."""

  def get_config(self):
    return {}


def functional():
  inputs = {slot: keras.Input([], dtype=tf.int64, name=slot) for slot in IDS}
  embedded = tfps.Embedding(tfps.FeasignTable("clicks", mf_dim=2), list(IDS))(inputs)
  logit = embedded.lr_logit + keras.layers.Dense(1)(keras.layers.Flatten()(embedded.mf))
  return tfps.Model(inputs, tf.sigmoid(logit))


@pytest.fixture(scope="module")
def models():
  """Models that were trained, by name."""
  made = {"functional": functional(), "subclassed": Subclassed(), "configured": Configured()}
  for model in made.values():
    model.compile("sgd", "binary_crossentropy")
    model.fit(IDS, LABELS, batch_size=8, verbose=0)
  return made


WAYS = {
  "save": lambda model, path: model.save(f"{path}/model"),
  "save, in Keras's format": lambda model, path: model.save(f"{path}/model.keras"),
  "save_model": lambda model, path: keras.models.save_model(model, f"{path}/model.keras"),
  "save_model, tf": lambda model, path: keras.models.save_model(
    model, f"{path}/model", save_format="tf"
  ),
  "saved_model.save": lambda model, path: tf.saved_model.save(model, f"{path}/model"),
  "in a module": lambda model, path: tf.saved_model.save(_module(model), f"{path}/model"),
  "export": lambda model, path: model.export(f"{path}/model"),
  "pickle": lambda model, path: pickle.dumps(model),
  "copy": lambda model, path: copy.copy(model),
  "deepcopy": lambda model, path: copy.deepcopy(model),
  "serialize": lambda model, path: keras.saving.serialize_keras_object(model),
}
CONFIGS = {
  "get_config": lambda model: model.get_config(),
  "to_json": lambda model: model.to_json(),
  "clone_model": keras.models.clone_model,
}


def _module(model):
  module = tf.Module()
  module.model = model
  return module


def assert_refuses(function):
  with pytest.raises(NotImplementedError) as raised:
    function()
  message = str(raised.value)
  assert "would leave out the rows of table 'clicks'" in message
  assert "tfps.callbacks.BaseExport" in message and message.count(". ") == 0


@pytest.mark.parametrize("kind", ["functional", "subclassed", "configured"])
def test_nothing_of_keras_keeps_or_copies_a_model_with_tables(models, kind, tmp_path):
  for way in WAYS.values():
    assert_refuses(lambda way=way: way(models[kind], tmp_path))
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["functional", "subclassed"])
def test_a_config_would_say_nothing_of_the_rows(models, kind):
  for way in CONFIGS.values():
    assert_refuses(lambda way=way: way(models[kind]))


def test_who_says_how_to_make_another_one_gets_another_one(models):
  assert keras.models.clone_model(models["configured"]).embedding.slots == list(IDS)


def test_a_model_that_is_not_built_is_not_copied_either():
  for way in (copy.copy, copy.deepcopy, pickle.dumps):
    assert_refuses(lambda way=way: way(Subclassed()))


def test_a_stock_model_with_the_layer_is_not_saved_either(models, tmp_path):
  model = keras.Model(models["functional"].inputs, models["functional"].outputs)
  for way in ("saved_model.save", "save", "in a module"):
    assert_refuses(lambda way=way: WAYS[way](model, tmp_path))
  for way in ("save_model", "pickle", "deepcopy"):
    with pytest.raises(NotImplementedError, match="rows are no part of a Keras config"):
      WAYS[way](model, tmp_path)
  with pytest.raises(NotImplementedError, match="rows of table 'clicks' are on parameter servers"):
    copy.deepcopy(models["functional"].layers[2].table)


def test_weights_are_the_dense_ones_in_every_format(models, tmp_path):
  model = models["subclassed"]
  kernel, bias = model.get_weights()
  expected = model.predict(IDS, verbose=0)
  for name in ("weights", "weights.h5", "model.weights.h5"):
    model.save_weights(f"{tmp_path}/{name}")
    model.set_weights([kernel + 1, bias + 1])
    model.load_weights(f"{tmp_path}/{name}")
    np.testing.assert_array_equal(model.predict(IDS, verbose=0), expected)


def test_without_tables_a_model_is_saved_as_keras_does(tmp_path):
  inputs = keras.Input([3])
  model = tfps.Model(inputs, keras.layers.Dense(1)(inputs))
  x = np.ones([2, 3], np.float32)
  expected = model.predict(x, verbose=0)
  model.save(f"{tmp_path}/model")
  np.testing.assert_allclose(keras.models.load_model(f"{tmp_path}/model").predict(x), expected)
  model.save_weights(f"{tmp_path}/weights")
  other = tfps.Model(inputs, keras.layers.Dense(1)(inputs))
  other.load_weights(f"{tmp_path}/weights")
  np.testing.assert_array_equal(other.predict(x, verbose=0), expected)
