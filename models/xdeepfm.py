"""xDeepFM: vector-wise crosses of bounded degree beside a deep tower (Lian et al. 2018)."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.models import layers


class XDeepFM(tfps.Model):
  """p(click) = sigmoid(sum of w_i + linear([p_1, ..., p_T, tower(v_1, ..., v_S)])).

  The compressed interaction network (CIN) begins with X_0 = (v_1, ..., v_S). Row h of X_k is the
  sum of W_k[h, i, j] X_{k-1}[i] * X_0[j] over i and j, entry by entry, and p_k holds the sum of
  each row of X_k. As the paper recommends, the CIN has no activation.

  Lian et al., "xDeepFM: Combining Explicit and Implicit Feature Interactions for Recommender
  Systems", KDD 2018.

  Args:
    table: the `tfps.FeasignTable`.
    slots: names of the slots, keys of the input dict.
    feature_maps: number of rows of X_1, ..., X_T, the feature maps.
    hidden: widths of the tower's layers.
    combiner: how a slot with several feasigns is pooled.
    dropout: share of each tower layer's outputs that training drops.
    batch_norm: whether each tower layer's sums are normalised over the batch.

  Examples:
    >>> xdeepfm = tfps.models.XDeepFM(table, ["user_id", "item_id"], feature_maps=[8, 8])
    >>> xdeepfm({"user_id": tf.constant(["u7"]), "item_id": tf.constant(["i1"])}).shape
    TensorShape([1, 1])
  """

  def __init__(
    self,
    table: tfps.FeasignTable,
    slots: Sequence[str],
    feature_maps: Sequence[int] = (32, 32),
    hidden: Sequence[int] = (256, 128),
    combiner: str = "mean",
    dropout: float = 0.0,
    batch_norm: bool = False,
  ) -> None:
    super().__init__()
    # With mixed precision the networks compute in 16 bits; what is added up here does not.
    self.embedding = tfps.Embedding(table, slots, combiner=combiner, dtype="float32")
    self.maps = [keras.layers.Dense(count, use_bias=False) for count in feature_maps]
    self.tower = layers.tower(hidden, dropout, batch_norm)
    self.output_layer = keras.layers.Dense(1, dtype="float32")

  def call(self, features: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
    embedded = self.embedding(features, training=training)
    mf = tf.cast(embedded.mf, self.compute_dtype)
    # Entry by entry: [B, D, rows].
    x = x_0 = tf.transpose(mf, [0, 2, 1])
    pooled = []
    for weights in self.maps:
      products = tf.einsum("bdi,bdj->bdij", x, x_0)
      pairs = x.shape[2] * x_0.shape[2]
      x = weights(tf.reshape(products, [-1, x.shape[1], pairs]))
      pooled.append(tf.reduce_sum(x, axis=1))
    deep = self.tower(layers.flatten(mf), training=training)
    return tf.sigmoid(embedded.lr_logit + self.output_layer(tf.concat([*pooled, deep], axis=1)))
