"""Wide & Deep: a linear model and a deep tower, trained together (Cheng et al. 2016)."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.models import layers


class WideAndDeep(tfps.Model):
  """p(click) = sigmoid(sum of w_i over the wide slots + tower(v_1, ..., v_S) + bias).

  The wide part is the 1-dimensional weight that every feasign owns, crosses among them; the deep
  part reads the mf vectors.

  Args:
    table: the `tfps.FeasignTable`.
    slots: names of the slots, keys of the input dict.
    hidden: widths of the tower's layers.
    combiner: how a slot with several feasigns is pooled.
    dropout: share of each tower layer's outputs that training drops.
    batch_norm: whether each tower layer's sums are normalised over the batch.

  Examples:
    >>> wide_and_deep = tfps.models.WideAndDeep(table, ["user_id", "item_id"])
    >>> wide_and_deep({"user_id": tf.constant(["u7"]), "item_id": tf.constant(["i1"])}).shape
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
    mf = embedded.mf
    deep = self.output_layer(self.tower(layers.flatten(mf), training=training))
    return tf.sigmoid(embedded.lr_logit + deep)
