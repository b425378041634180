"""Gradients that are finite and whose squares are not: no optimizer's state becomes infinite."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tests import checkpoints, dense_optimizers
from tfps.checkpoint import CheckpointManager
from tfps.graph import finite


@pytest.mark.parametrize(
  "dtype, largest",
  [(tf.float32, 2.0**63), (tf.bfloat16, 2.0**63), (tf.float64, 2.0**511), (tf.float16, 65504.0)],
)
def test_whose_squares_are_finite(dtype, largest):
  below = np.array([largest * 1.4, -largest, 0, 1] if dtype != tf.float16 else [largest, -1, 0, 1])
  assert finite.all_finite([below.astype(dtype.as_numpy_dtype)], squares=True)
  for bad in (largest * 2, -largest * 2, np.nan, np.inf):
    with np.errstate(over="ignore"):
      spoilt = np.append(below, bad).astype(dtype.as_numpy_dtype)
    assert not finite.all_finite([spoilt], squares=True)


class Pushed(tfps.Model):
  """Its weights get the gradient that x has."""

  def __init__(self):
    super().__init__()
    self.weights_ = self.add_weight(name="weights", shape=[2, 3], initializer="ones")

  def call(self, x):
    return tf.reduce_sum(_given(self.weights_, x["gradient"])) + tf.zeros_like(x["gradient"])


@tf.custom_gradient
def _given(weights, gradient):
  return weights, lambda upstream: (tf.zeros_like(weights) + gradient[0], None)


def _scaled():
  return keras.mixed_precision.LossScaleOptimizer(keras.optimizers.Adam(0.05), initial_scale=1)


HUGE = [1e20, 1e30, 3e38]
DENSE = {**dense_optimizers.OPTIMIZERS, **dense_optimizers.LEGACY, "loss scale": _scaled}


@pytest.mark.parametrize("name", DENSE)
def test_a_huge_gradient_leaves_every_dense_optimizer_finite(name, capsys):
  model = Pushed()
  model.compile(DENSE[name](), "mse", run_eagerly=True)
  step = lambda gradient: model.train_on_batch({"gradient": np.float32([gradient])}, np.ones(1))
  optimizer = model.optimizer
  of_optimizer = optimizer.variables if name not in dense_optimizers.LEGACY else optimizer.weights
  variables = lambda: [*model.get_weights(), *(one.numpy() for one in of_optimizer)]
  step(1.0)
  before = variables()
  for gradient in HUGE:
    step(gradient)
    step(-gradient)
    assert capsys.readouterr().err.count("a step was not finite and changed no weight") == 2
    for one, other in zip(variables(), before, strict=True):
      np.testing.assert_array_equal(one, other)
  step(1e18)
  assert capsys.readouterr().err == ""
  finite.check_model(model, "checkpoint")
  assert (model.get_weights()[0] != before[0]).any() or name == "schedule"


@pytest.mark.parametrize("kind", ["SGD", "Adagrad", "StdAdagrad", "Adam", "FTRL"])
@pytest.mark.parametrize("clip", [{}, {"clipnorm": 1.0}, {"clipvalue": 1.0}])
def test_a_huge_gradient_leaves_every_row_finite(kind, clip, tmp_path):
  optimizer = getattr(tfps, kind)(**clip)
  table = checkpoints.make_table(optimizer=optimizer, lr_optimizer=optimizer)
  for _ in range(12):
    checkpoints.push(table, checkpoints.KEYS)
  keys = checkpoints.KEYS[:10]
  columns = lambda: [table.lookup(keys)[n] for n in ("lr_w", "lr_state", "mf_w", "mf_state")]
  assert table.lookup(keys)["admitted"].all()
  slots, ones = (keys % 3).astype(np.int32), np.ones(len(keys), np.float32)
  for gradient in [1e19, *HUGE]:
    before, refused = columns(), table.statistics()["nonfinite_gradients"]
    gradients = np.full([len(keys), table.row_width], gradient, np.float32)
    for sign in (1, -1):
      table.push([(keys, slots, ones, 0 * ones, sign * gradients)])
    assert all(np.isfinite(column).all() for column in columns())
    # Squares overflow in these only: SGD clips the weight, and FTRL keeps its sums in range.
    if gradient == HUGE[-1] and not clip and "Ada" in kind:
      assert table.statistics()["nonfinite_gradients"] == refused + 2 * len(keys)
      for one, other in zip(columns(), before):
        np.testing.assert_array_equal(one, other)
  CheckpointManager(tmp_path, None, [table]).save({})
