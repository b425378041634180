"""DCN-v2: explicit feature crosses of bounded degree beside a deep tower (Wang et al. 2021)."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.models import layers


class DCNv2(tfps.Model):
  """p(click) = sigmoid(linear([cross network of x_0, tower of x_0]) + sum of w_i), in parallel.

  x_0 is the concatenation of the mf vectors; cross layer l computes x_{l+1} = x_0 * (W_l x_l + b_l)
  + x_l.

  Args:
    table: the `tfps.FeasignTable`.
    slots: names of the slots, keys of the input dict.
    crosses: number of cross layers; the highest degree of a cross is one more.
    hidden: widths of the tower's layers.
    combiner: how a slot with several feasigns is pooled.
    dropout: share of each tower layer's outputs that training drops.
    batch_norm: whether each tower layer's sums are normalised over the batch.

  Examples:
    >>> dcn = tfps.models.DCNv2(table, ["user_id", "item_id"], crosses=3)
    >>> dcn({"user_id": tf.constant(["u7"]), "item_id": tf.constant(["i1"])}).shape
    TensorShape([1, 1])
  """

  def __init__(
    self,
    table: tfps.FeasignTable,
    slots: Sequence[str],
    crosses: int = 2,
    hidden: Sequence[int] = (256, 128),
    combiner: str = "mean",
    dropout: float = 0.0,
    batch_norm: bool = False,
  ) -> None:
    super().__init__()
    # With mixed precision the tower computes in 16 bits; what is added up here does not.
    self.embedding = tfps.Embedding(table, slots, combiner=combiner, dtype="float32")
    width = len(slots) * self.embedding.mf_dim
    self.crosses = [keras.layers.Dense(width) for _ in range(crosses)]
    self.tower = layers.tower(hidden, dropout, batch_norm)
    self.output_layer = keras.layers.Dense(1, dtype="float32")

  def call(self, features: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
    embedded = self.embedding(features, training=training)
    mf = embedded.mf
    x_0 = tf.cast(layers.flatten(mf), self.compute_dtype)
    x = x_0
    for cross in self.crosses:
      x = x_0 * cross(x) + x
    logit = self.output_layer(tf.concat([x, self.tower(x_0, training=training)], axis=1))
    return tf.sigmoid(embedded.lr_logit + logit)
