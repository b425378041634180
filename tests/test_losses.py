"""Losses for labels that come late, averaged over what a join with policy early writes."""

import numpy as np
import pytest
import tensorflow as tf

from tfps.learning import losses


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.9])
def test_gradient_is_zero_at_the_true_probability(p):
  """1 negative, p positives: the weighted loss has its minimum at p, the plain at p / (1 + p)."""
  shown = tf.constant([[0.0], [1.0]])
  often = tf.constant([1.0, p])

  def gradient(loss, at):
    prediction = tf.Variable([[at], [at]])
    with tf.GradientTape() as tape:
      value = tf.reduce_sum(loss(shown, prediction) * often)
    return float(tf.reduce_sum(tape.gradient(value, prediction)))

  weighted = losses.FakeNegativeWeighted(reduction="none")
  assert abs(gradient(weighted, p)) < 1e-3
  assert gradient(weighted, p * 0.8) < -0.1 and gradient(weighted, min(0.99, p * 1.2)) > 0.1 * (
    p < 0.8
  )
  plain = lambda y, q: -tf.reduce_mean(tf.where(y > 0, tf.math.log(q), tf.math.log1p(-q)), -1)
  biased = p / (1 + p)
  assert abs(gradient(plain, biased)) < 1e-3
  np.testing.assert_allclose(losses.calibrated([biased]), [p], rtol=1e-5)


def test_values_and_labels_that_say_nothing():
  loss = losses.FakeNegativeWeighted()
  q = np.array([[0.3, 0.6], [0.1, 0.2]], np.float32)
  y = np.array([[1, -1], [0, 1]], np.float32)
  terms = [-1.3 * np.log(0.3), 0.0, -0.9 * 1.1 * np.log(0.9), -1.2 * np.log(0.2)]
  np.testing.assert_allclose(loss(y, q), sum(terms) / 4, rtol=1e-5)
  assert losses.FakeNegativeWeighted.from_config(loss.get_config()).name == loss.name
