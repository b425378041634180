"""Losses for click models beside Keras's."""

import tensorflow as tf
import tf_keras as keras


@keras.utils.register_keras_serializable("tfps")
class FakeNegativeWeighted(keras.losses.Loss):
  """Cross entropy for samples that came at once as negatives, and again as positives where the action followed.

  In such a stream (`tfps join --config.policy=early`) an example of click probability p is a positive with probability
  p / (1 + p) only. Weighing positives with 1 + p and negatives with (1 - p) (1 + p) makes its expectation that of the true
  labels; for p stands the model's own prediction, through which no gradient flows:

      - y (1 + f) log f - (1 - y) (1 - f) (1 + f) log(1 - f)

  Ktena et al., "Addressing delayed feedback for continuous training with neural networks in CTR prediction" (RecSys
  2019), the fake negative weighted loss. `config.loss = "fake_negative_weighted"` is this one.

  Labels are 0 or 1, float [B, 1], predictions probabilities of that shape.
  """

  def __init__(self, reduction=keras.losses.Reduction.AUTO, name="fake_negative_weighted"):
    super().__init__(reduction, name)

  def call(self, y_true, y_pred):
    y_true = tf.cast(y_true, y_pred.dtype)
    f = tf.stop_gradient(y_pred)
    weight = (1 + f) * (y_true + (1 - y_true) * (1 - f))
    return weight[:, 0] * keras.losses.binary_crossentropy(y_true, y_pred)


def get(loss):
  """The loss that a config's name means: one of this module, or whatever Keras makes of it."""
  return FakeNegativeWeighted() if loss == "fake_negative_weighted" else loss
