"""Models under policies of mixed precision: the loss scale for dense weights and rows, dtypes."""

import contextlib
import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from models.dcn_v2 import DCNv2
from models.deepfm import DeepFM
from models.wide_and_deep import WideAndDeep
from tfps.export import trained

SLOTS = list(tfps.data.ClickStream.slots)


@contextlib.contextmanager
def policy(name):
  keras.mixed_precision.set_global_policy(name)
  try:
    yield
  finally:
    keras.mixed_precision.set_global_policy("float32")


def make_model(model_class, optimizer, **settings):
  accessor = tfps.CtrAccessor(create_threshold=0, base_update_threshold=0)
  table = tfps.FeasignTable("mixed", mf_dim=4, accessor=accessor, mf_init_range=0.1, **settings)
  model = model_class(table, SLOTS, hidden=[16])
  model.compile(optimizer, "binary_crossentropy", metrics=["AUC"])
  return table, model


def stream():
  return tfps.data.ClickStream(days=1, examples_per_day=600, batch_size=64, batches_per_ticket=3)


def learned(model_class, policy_name, initial=None):
  """(table, model, its weights before, its loss, its predictions) after a fit."""
  source = stream()
  with policy(policy_name):
    table, model = make_model(model_class, keras.optimizers.SGD(0.05))
  model.build_for(source)
  if initial is not None:
    model.set_weights(initial)
  initial = model.get_weights()
  before = model.predict(source)
  loss = model.fit(source, verbose=0).history["loss"][-1]
  prediction = model.predict(source)
  assert np.abs(prediction - before).max() > 0.02
  assert table.statistics()["nonfinite_gradients"] == 0
  return table, model, initial, loss, prediction


@functools.cache
def in_float32(model_class):
  return learned(model_class, "float32")[2:]


@pytest.mark.parametrize("model_class", [DeepFM, WideAndDeep, DCNv2])
@pytest.mark.parametrize("name, precision", [("mixed_bfloat16", 2e-2), ("mixed_float16", 3e-3)])
def test_models_learn_what_they_do_in_float32(model_class, name, precision):
  initial, expected_loss, expected = in_float32(model_class)
  table, model, _, loss, prediction = learned(model_class, name, initial)
  assert prediction.dtype == np.float32
  np.testing.assert_allclose(prediction, expected, atol=precision)
  np.testing.assert_allclose(loss, expected_loss, atol=precision)
  # What an export computes.
  source = stream()
  x, _ = next(iter(source.open(next(iter(source.tickets())))))
  expected = model(x, training=False)
  np.testing.assert_allclose(trained.predict(model, x, [table]), expected, atol=1e-6)


class Line(tfps.Model):
  """A number for each example, in the dtype that its layers compute in."""

  def __init__(self, table, lr_factor):
    super().__init__()
    self.embedding = tfps.Embedding(table, ["user"])
    self.tower = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    self.lr_factor = lr_factor

  def call(self, x):
    embedded = self.embedding(x)
    return self.tower(embedded.mf[:, 0] + 1) + embedded.lr_logit * self.lr_factor


def line(policy_name, initial_scale=None, learning_rate=0.1, factor=1.0, lr_factor=1.0):
  """A table and a model of squared differences times `factor`."""
  with policy(policy_name):
    table = tfps.FeasignTable(
      "line", mf_dim=2, mf_init_range=0, optimizer=tfps.SGD(learning_rate),
      accessor=tfps.CtrAccessor(create_threshold=0),
    )  # fmt: skip
    model = Line(table, lr_factor)
    optimizer = keras.optimizers.SGD(learning_rate)
    if initial_scale is not None:
      optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer, initial_scale=initial_scale)
    model.compile(optimizer, lambda y, y_pred: factor * (y_pred[:, 0] - y) ** 2)
  return table, model


X = {"user": tf.constant([1, 2, 3, 1], tf.int64)}
Y = tf.constant([0.5, 0.25, 1.0, 0.0])


def train(model):
  model.train_on_batch(X, Y)


def weights_of(table, model):
  rows = table.lookup([1, 2, 3])
  return [model.get_weights()[0], rows["lr_w"], rows["mf_w"]]


def test_small_gradients_reach_dense_weights_and_rows():
  """Without a loss scale they are zero in float16."""
  factor = 2.0**-20
  results = []
  for policy_name in ("float32", "mixed_float16"):
    table, model = line(policy_name, learning_rate=0.1 / factor, factor=factor)
    for _ in range(3):
      train(model)
    results.append(weights_of(table, model))
  for one, other in zip(*results):
    assert np.all(one != 0)
    np.testing.assert_allclose(other, one, rtol=0.02, atol=2e-3)


@pytest.mark.parametrize(
  "scale, lr_factor", [(2.0**16, 1.0), (8.0, 30000.0)], ids=["all", "of rows"]
)
def test_a_step_that_overflows_moves_nothing_and_lowers_the_scale(scale, lr_factor):
  table, model = line("mixed_float16", scale, lr_factor=lr_factor)
  model(X)
  before = model.get_weights()[0]
  for number in (1, 2):
    train(model)
    found = weights_of(table, model)
    np.testing.assert_array_equal(found[0], before)
    assert not np.any(found[1]) and not np.any(found[2])
    assert float(model.optimizer.loss_scale) == scale / 2**number
    assert table.lookup([1])["statistics"][0, 0] == 2 * number
    assert int(model.optimizer.iterations) == number
    assert not table.lookup([1])["admitted"][0]
  train(model)
  assert np.any(weights_of(table, model)[1] != 0) and table.lookup([1])["admitted"][0]
  assert np.any(model.get_weights()[0] != before)
  assert float(model.optimizer.loss_scale) == scale / 4


def test_without_dense_weights_nothing_is_scaled():
  with policy("mixed_float16"):
    table = tfps.FeasignTable("bare", mf_dim=2)
    inputs = {"user": keras.Input([], dtype=tf.int64, name="user")}
    model = tfps.Model(inputs, tfps.Embedding(table, ["user"])(inputs).lr_logit)
    model.compile("sgd", "mse")
  train(model)
  assert np.all(table.lookup([1, 2, 3])["lr_w"] > 0)
