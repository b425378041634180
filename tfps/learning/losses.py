"""Losses for labels that come late."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras


class FakeNegativeWeighted(keras.losses.Loss):
  """Binary cross-entropy for samples that arrive as negatives, and once more after an action.

  A positive example is then seen twice, once with the wrong label. With p the model's own
  prediction, through which no gradient flows here, a positive weighs 1 + p and a negative
  (1 - p) (1 + p). On average, the gradient is that of the cross-entropy with the true labels, as
  far as p is right. This is the fake negative weighted loss (Ktena et al. 2019, "Addressing delayed
  feedback for continuous training with neural networks in CTR prediction", equation 11).

  Call it with labels and predictions (probabilities), float [batch, labels] each. A label below 0
  adds no loss. Give such a label to samples of `tfps join` with weight/NAME 0:
  `tf.where(weight > 0, label, -1.0)`.

  Args:
    reduction: how the losses of a batch become one number, as in Keras.
    name: the loss's name.

  Examples:
    >>> loss = tfps.losses.FakeNegativeWeighted()
    >>> print(round(float(loss([[1.0], [0.0]], [[0.5], [0.5]])), 3))
    0.78
    >>> model.compile("adam", loss)
  """

  def __init__(
    self, reduction: str = "sum_over_batch_size", name: str = "fake_negative_weighted"
  ) -> None:
    super().__init__(reduction=reduction, name=name)

  def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
    y_pred = tf.clip_by_value(
      tf.convert_to_tensor(y_pred), keras.backend.epsilon(), 1 - keras.backend.epsilon()
    )
    y_true = tf.cast(y_true, y_pred.dtype)
    p = tf.stop_gradient(y_pred)
    positive = -(1 + p) * tf.math.log(y_pred)
    negative = -(1 - p) * (1 + p) * tf.math.log1p(-y_pred)
    loss = tf.where(
      y_true > 0, positive, tf.where(tf.equal(y_true, 0), negative, tf.zeros_like(y_pred))
    )
    return tf.reduce_mean(loss, axis=-1)


def calibrated(y_pred: Any) -> tf.Tensor:
  """Corrects predictions of a model trained on such samples with the plain cross-entropy.

  The model sees an example with probability p as 1 negative and p positives, and so predicts
  b = p / (1 + p). This function returns p = b / (1 - b), at most 1 (the same paper's fake negative
  calibration).

  Args:
    y_pred: the model's predictions, probabilities of a positive.

  Returns:
    The corrected probabilities.

  Examples:
    >>> tfps.losses.calibrated([0.2, 0.5]).numpy().tolist()
    [0.25, 1.0]
  """
  y_pred = tf.convert_to_tensor(y_pred)
  return tf.minimum(y_pred / tf.maximum(1 - y_pred, keras.backend.epsilon()), 1.0)


def named(name: str) -> FakeNegativeWeighted | str:
  """The loss of this name as `compile` takes it: one of this module's, or the name of Keras's."""
  return FakeNegativeWeighted() if name == "fake_negative_weighted" else name
