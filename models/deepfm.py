"""DeepFM: a factorization machine and a deep tower on the same embeddings (Guo et al. 2017)."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.models import layers


class DeepFM(tfps.Model):
  """p(click) = sigmoid(bias + sum of w_i + sum of <v_i, v_j> over i < j + tower(v_1, ..., v_S)).

  w_i is the 1-dimensional weight of slot i and v_i its mf vector, as pooled over the slot's
  feasigns.

  Args:
    table: the `tfps.FeasignTable`.
    slots: names of the slots, keys of the input dict.
    hidden: widths of the tower's layers.
    combiner: how a slot with several feasigns is pooled.
    dropout: share of each tower layer's outputs that training drops.
    batch_norm: whether each tower layer's sums are normalised over the batch.

  Examples:
    >>> deepfm = tfps.models.DeepFM(table, ["user_id", "item_id"])
    >>> deepfm({"user_id": tf.constant(["u7"]), "item_id": tf.constant(["i1"])}).shape
    TensorShape([1, 1])
  """

  def __init__(
    self,
    table: tfps.FeasignTable,
    slots: Sequence[str],
    hidden: Sequence[int] = (256, 128),
    combiner: str = "mean",
    dropout: float = 0.0,
    batch_norm: bool = False,
  ) -> None:
    super().__init__()
    # With mixed precision the tower computes in 16 bits; what is added up here does not.
    self.embedding = tfps.Embedding(table, slots, combiner=combiner, dtype="float32")
    self.tower = layers.tower(hidden, dropout, batch_norm)
    self.output_layer = keras.layers.Dense(1, dtype="float32")

  def call(self, features: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
    embedded = self.embedding(features, training=training)
    # The sum over pairs, in time linear in the number of slots (Rendle 2010, lemma 3.1).
    mf = embedded.mf
    total = tf.reduce_sum(mf, axis=1)
    squares = tf.reduce_sum(mf**2, axis=1)
    second_order = 0.5 * tf.reduce_sum(total**2 - squares, axis=1, keepdims=True)
    deep = self.output_layer(self.tower(layers.flatten(mf), training=training))
    return tf.sigmoid(embedded.lr_logit + second_order + deep)
