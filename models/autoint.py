"""AutoInt: crosses by self-attention among the slots (Song et al. 2019)."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.models import layers


class AutoInt(tfps.Model):
  """p(click) = sigmoid(sum of w_i + linear(e_1, ..., e_S) + linear(tower(v_1, ..., v_S))).

  e = interacting layers(v). In such a layer, head h of slot m is the sum of a_mk W_V e_k over all
  slots k, where a_m = softmax over k of <W_Q e_m, W_K e_k>; the new e_m is ReLU([heads] + W_R e_m).
  Without a tower (hidden=[]) it is the paper's AutoInt, with one its AutoInt+.

  Song et al., "AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks",
  CIKM 2019.

  Args:
    table: the `tfps.FeasignTable`.
    slots: names of the slots, keys of the input dict.
    interacting: number of interacting layers.
    heads: number of attention heads.
    width: length of each head's vectors.
    hidden: widths of the tower's layers; [] for no tower.
    combiner: how a slot with several feasigns is pooled.
    dropout: share of each tower layer's outputs that training drops.
    batch_norm: whether each tower layer's sums are normalised over the batch.

  Examples:
    >>> autoint = tfps.models.AutoInt(table, ["user_id", "item_id"], heads=2, width=8)
    >>> autoint({"user_id": tf.constant(["u7"]), "item_id": tf.constant(["i1"])}).shape
    TensorShape([1, 1])
  """

  def __init__(
    self,
    table: tfps.FeasignTable,
    slots: Sequence[str],
    interacting: int = 3,
    heads: int = 2,
    width: int = 16,
    hidden: Sequence[int] = (256, 128),
    combiner: str = "mean",
    dropout: float = 0.0,
    batch_norm: bool = False,
  ) -> None:
    super().__init__()
    # With mixed precision the networks compute in 16 bits; what is added up here does not.
    self.embedding = tfps.Embedding(table, slots, combiner=combiner, dtype="float32")
    self.interacting = [_Interacting(heads, width) for _ in range(interacting)]
    self.tower = layers.tower(hidden, dropout, batch_norm) if hidden else None
    self.output_layer = keras.layers.Dense(1, dtype="float32")

  def call(self, features: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
    embedded = self.embedding(features, training=training)
    e = mf = tf.cast(embedded.mf, self.compute_dtype)
    for layer in self.interacting:
      e = layer(e)
    x = layers.flatten(e)
    if self.tower is not None:
      x = tf.concat([x, self.tower(layers.flatten(mf), training=training)], axis=1)
    return tf.sigmoid(embedded.lr_logit + self.output_layer(x))


class _Interacting(keras.layers.Layer):
  """[B, S, heads * width] of [B, S, D]."""

  def __init__(self, heads: int, width: int) -> None:
    super().__init__()
    self.heads, self.width = heads, width
    self.query, self.key, self.value, self.residual = (
      keras.layers.Dense(heads * width, use_bias=False) for _ in range(4)
    )

  def call(self, e: tf.Tensor) -> tf.Tensor:
    split = lambda x: tf.reshape(x, [-1, x.shape[1], self.heads, self.width])
    scores = tf.einsum("bmhw,bkhw->bhmk", split(self.query(e)), split(self.key(e)))
    heads = tf.einsum("bhmk,bkhw->bmhw", tf.nn.softmax(scores), split(self.value(e)))
    return tf.nn.relu(
      tf.reshape(heads, [-1, e.shape[1], self.heads * self.width]) + self.residual(e)
    )
