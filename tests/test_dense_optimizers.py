"""Every optimizer of Keras does to dense weights on a source what it does on arrays."""

import inspect

import numpy as np
import pytest
import tf_keras as keras

from tests.dense_optimizers import LEGACY, OPTIMIZERS, by_keras, on_source


def check(weights, expected, initial):
  for one, other, before in zip(weights, expected, initial):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert np.abs(one - before).max() > 1e-4


def test_all_of_keras_are_here():
  there = {
    name
    for module in (keras.optimizers, keras.optimizers.legacy)
    for name, one in vars(module).items()
    if inspect.isclass(one) and name != "Optimizer"
  }
  named = {type(make()).__name__ for make in (OPTIMIZERS | LEGACY).values()}
  assert there == named


@pytest.mark.parametrize("name", list(OPTIMIZERS | LEGACY))
def test_in_one_process(name):
  make_optimizer = (OPTIMIZERS | LEGACY)[name]
  initial, weights = on_source(make_optimizer)
  check(weights, by_keras(make_optimizer, initial), initial)


class Recorded(keras.callbacks.Callback):
  def on_epoch_begin(self, epoch, logs=None):
    if epoch == 1:
      self.model.optimizer.learning_rate = 0.01


CALLBACKS = {
  "LearningRateScheduler": lambda: keras.callbacks.LearningRateScheduler(lambda e: 0.1 / 2**e),
  "ReduceLROnPlateau": lambda: keras.callbacks.ReduceLROnPlateau(
    monitor="loss", factor=0.1, patience=0, min_delta=10
  ),
  "by hand": Recorded,
}


@pytest.mark.parametrize("name", list(CALLBACKS))
def test_a_learning_rate_that_is_changed(name):
  make_optimizer = OPTIMIZERS["SGD"]
  initial, weights = on_source(make_optimizer, callbacks=[CALLBACKS[name]()], epochs=3)
  check(weights, by_keras(make_optimizer, initial, [CALLBACKS[name]()], epochs=3), initial)
  unchanged = by_keras(make_optimizer, initial, epochs=3)
  assert np.abs(unchanged[0] - weights[0]).max() > 1e-3
