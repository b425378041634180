"""compile takes effect at the next call on a source: nothing that was traced before outlives it."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from models.deepfm import DeepFM
from tfps.training.model import trainer_of

SOURCE = tfps.data.ClickStream(days=1, examples_per_day=400, batch_size=100, batches_per_ticket=2)


def make_model():
  keras.utils.set_random_seed(1)
  table = tfps.FeasignTable("ctr", mf_dim=2, accessor=tfps.CtrAccessor(create_threshold=0))
  model = DeepFM(table, list(SOURCE.slots), hidden=[8])
  model.compile("adam", "binary_crossentropy", metrics=["AUC"])
  model.fit(SOURCE, verbose=0)
  return table, model


def weights_of(model):
  return [weight.numpy() for weight in model.trainable_variables]


def test_frozen_layers_stay_as_they_are():
  _, model = make_model()
  frozen = [layer for layer in model.submodules if isinstance(layer, keras.layers.Dense)]
  for layer in frozen:
    layer.trainable = False
  model.compile("adam", "binary_crossentropy")
  before = [weight.numpy() for layer in frozen for weight in layer.weights]
  model.fit(SOURCE, verbose=0)
  after = [weight.numpy() for layer in frozen for weight in layer.weights]
  for one, other in zip(before, after):
    np.testing.assert_array_equal(one, other)


def test_the_new_optimizer_steps():
  _, model = make_model()
  optimizer = keras.optimizers.SGD(0.0)
  model.compile(optimizer, "binary_crossentropy")
  before = weights_of(model)
  model.fit(SOURCE, verbose=0)
  assert optimizer.iterations.numpy() == 4
  for one, other in zip(before, weights_of(model)):
    np.testing.assert_array_equal(one, other)


def test_history_and_evaluate_have_the_new_loss_and_metrics():
  table, model = make_model()
  model.compile("adam", "mse", metrics=[keras.metrics.MeanAbsoluteError(name="off")])
  history = model.fit(SOURCE, verbose=0).history
  assert set(history) == {"loss", "off"}
  scores = model.evaluate(SOURCE, verbose=0, return_dict=True)
  assert set(scores) == {"loss", "off"}
  predicted = model.predict(SOURCE)[:, 0]
  labels = np.concatenate([scored["y"] for scored in model.score(SOURCE)])[:, 0]
  np.testing.assert_allclose(scores["off"], np.abs(predicted - labels).mean(), rtol=1e-5)
  np.testing.assert_allclose(scores["loss"], ((predicted - labels) ** 2).mean(), rtol=1e-5)
  assert table.statistics()["show"] > 0


def test_what_was_traced_before_is_freed():
  _, model = make_model()
  earlier = weakref.ref(trainer_of(model))
  model.compile("adam", "binary_crossentropy")
  gc.collect()
  assert earlier() is None


@pytest.mark.parametrize("name", ["fit", "evaluate"])
def test_what_is_not_compiled_is_refused(name):
  table = tfps.FeasignTable("ctr", mf_dim=2)
  model = DeepFM(table, list(SOURCE.slots), hidden=[8])
  with pytest.raises(RuntimeError, match="compile"):
    getattr(model, name)(SOURCE)
  assert np.isfinite(model.predict(SOURCE)).all()
  assert isinstance(model.predict(SOURCE), np.ndarray) and tf.executing_eagerly()
