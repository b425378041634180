"""Losses of streams whose labels come late."""

import numpy as np
import pytest
import tensorflow as tf
from tfps import losses


@pytest.mark.parametrize("truth", [0.03, 0.3, 0.8])
def test_the_expected_gradient_is_that_of_the_true_labels_up_to_a_positive_factor(truth):
  """Samples as an early join sends them: everything as a negative, and the clicked share as a positive too."""
  clicks = round(1000 * truth)
  y = tf.constant(np.repeat([0.0, 1.0], [1000, clicks])[:, np.newaxis], tf.float32)
  gradients = []
  for predicted in (truth / 2, truth, (1 + truth) / 2):
    logit = tf.Variable(np.log(predicted / (1 - predicted)), dtype=tf.float32)
    with tf.GradientTape() as tape:
      loss = losses.FakeNegativeWeighted()(y, tf.fill(y.shape, tf.sigmoid(logit)))
    gradients.append(float(tape.gradient(loss, logit)))
    factor = (1 - predicted**2) / (1 + truth)
    assert gradients[-1] == pytest.approx(factor * (predicted - truth), abs=1e-5)
  assert gradients[0] < 0 < gradients[2]


def test_weights_of_examples_multiply():
  y, f = tf.constant([[1.0], [0.0]]), tf.constant([[0.5], [0.25]])
  found = losses.FakeNegativeWeighted()(y, f, tf.constant([2.0, 3.0]))
  by_hand = 2 * 1.5 * -np.log(0.5) + 3 * 0.75 * 1.25 * -np.log(0.75)
  assert float(found) == pytest.approx(by_hand / 2, rel=1e-5)
