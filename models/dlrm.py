"""DLRM: numbers and slots, by the dot products of their vectors (Naumov et al. 2019)."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.models import layers


class DLRM(tfps.Model):
  """p(click) = sigmoid(sum of w_i + top(z_0, <z_i, z_j> for all i < j)).

  z_0 = bottom(x) is a vector of the dense features x, and z_1, ..., z_S are the slots' mf vectors.
  A slot whose policy gives it a smaller mf_dim than the largest has z_s = P_s v_s with a learnt
  matrix P_s, as mixed dimension embeddings have it (Ginart et al. 2019). The paper has no w_i; they
  serve feasigns that own no mf vector yet.

  Naumov et al., "Deep Learning Recommendation Model for Personalization and Recommendation
  Systems", arXiv:1906.00091.

  Args:
    table: the `tfps.FeasignTable`.
    slots: names of the slots, keys of the input dict.
    dense: name of the dense features in the input dict, float32 [B, n].
    bottom: widths of the bottom network's layers, before one as wide as an mf vector.
    hidden: widths of the top network's layers.
    combiner: how a slot with several feasigns is pooled.
    dropout: share of each top layer's outputs that training drops.

  Examples:
    >>> dlrm = tfps.models.DLRM(table, ["user_id", "item_id"], dense="counts")
    >>> dlrm({
    ...   "user_id": tf.constant(["u7", "u8"]),
    ...   "item_id": tf.constant(["i1", "i2"]),
    ...   "counts": tf.constant([[0.0, 1.5, 0.7], [2.0, 0.1, 0.0]]),
    ... }).shape
    TensorShape([2, 1])
  """

  def __init__(
    self,
    table: tfps.FeasignTable,
    slots: Sequence[str],
    dense: str = "dense",
    bottom: Sequence[int] = (64,),
    hidden: Sequence[int] = (256, 128),
    combiner: str = "mean",
    dropout: float = 0.0,
  ) -> None:
    super().__init__()
    self.dense = dense
    # With mixed precision the networks compute in 16 bits; what is added up here does not.
    self.embedding = tfps.Embedding(table, slots, combiner=combiner, dtype="float32")
    width = self.embedding.mf_dim
    self.sizes = [table.mf_dim_of(slot) for slot in slots]
    self.projections = [
      None if size == width else keras.layers.Dense(width, use_bias=False) for size in self.sizes
    ]
    self.bottom = layers.tower([*bottom, width])
    self.top = layers.tower(hidden, dropout)
    self.output_layer = keras.layers.Dense(1, dtype="float32")

  def call(self, features: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
    embedded = self.embedding(features, training=training)
    mf = tf.cast(embedded.mf, self.compute_dtype)
    z = [self.bottom(tf.cast(features[self.dense], self.compute_dtype))]
    for slot, (size, project) in enumerate(zip(self.sizes, self.projections)):
      vector = mf[:, slot, :size]
      z.append(vector if project is None else project(vector))
    vectors = tf.stack(z, axis=1)
    products = tf.matmul(vectors, vectors, transpose_b=True)
    count = len(z)
    pairs = np.ravel_multi_index(np.triu_indices(count, 1), (count, count))
    x = tf.concat([z[0], tf.gather(layers.flatten(products), pairs, axis=1)], axis=1)
    return tf.sigmoid(embedded.lr_logit + self.output_layer(self.top(x, training=training)))
