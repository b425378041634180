"""BST: a transformer over a user's history and the item at hand (Chen et al. 2019)."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.models import layers


class BST(tfps.Model):
  """p(click) = sigmoid(sum of w_i + tower(v_1, ..., v_S, F_0, ..., F_n)).

  F is what transformer blocks make of e_0 + p_0, ..., e_n + p_n, where e_0 is the target's vector,
  e_i that of the i-th latest item of the history, and p_i a vector of the place, as the order
  stands in for the paper's time gaps. A block is S' = LayerNorm(S + attention(S)), F = LayerNorm(S'
  + network(S')).

  Chen et al., "Behavior Sequence Transformer for E-commerce Recommendation in Alibaba", DLP-KDD
  2019.

  Args:
    table: the `tfps.FeasignTable`.
    slots: names of the slots, keys of the input dict; the target and the history are among them.
    target: the slot of the item that may be clicked.
    history: the slot of the items that the user chose before, the latest last, padded anywhere.
    length: how many items of the history, the latest, are read.
    blocks: number of transformer blocks.
    heads: number of attention heads.
    hidden: widths of the tower's layers.
    combiner: how another slot with several feasigns is pooled.
    dropout: share of the outputs of the blocks and of each tower layer that training drops.
    share: whether the history reads the rows of the target's slot, as in the paper; its values are
      feasigns of that slot then. Otherwise it has rows of its own.

  Examples:
    >>> bst = tfps.models.BST(table, ["user_id", "item_id", "history"], length=10)
    >>> bst({
    ...   "user_id": tf.constant(["u7", "u8"]),
    ...   "item_id": tf.constant(["i1", "i2"]),
    ...   "history": tf.constant([["i3", "i1"], ["i5", ""]]),
    ... }).shape
    TensorShape([2, 1])
  """

  def __init__(
    self,
    table: tfps.FeasignTable,
    slots: Sequence[str],
    target: str = "item_id",
    history: str = "history",
    length: int = 20,
    blocks: int = 1,
    heads: int = 2,
    hidden: Sequence[int] = (256, 128),
    combiner: str = "mean",
    dropout: float = 0.0,
    share: bool = True,
  ) -> None:
    super().__init__()
    self.history_slot, self.length = history, length
    # With mixed precision the networks compute in 16 bits; what is added up here does not.
    self.embedding = tfps.Embedding(
      table,
      slots,
      combiner,
      dtype="float32",
      share={history: target} if share else None,
      sequences=[history],
    )
    self.target_place = self.embedding.pooled_slots.index(target)
    width = self.embedding.mf_dim
    self.places = keras.layers.Embedding(length + 1, width, dtype="float32")
    self.blocks = [
      layers.TransformerBlock(width, heads, dropout, norm_first=False, activation="leaky_relu")
      for _ in range(blocks)
    ]
    self.tower = layers.tower(hidden, dropout)
    self.output_layer = keras.layers.Dense(1, dtype="float32")

  def call(self, features: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
    embedded = self.embedding(features, training=training)
    history, is_there = layers.latest(
      *layers.sequence(features[self.history_slot], embedded.sequences[self.history_slot]),
      self.length,
    )
    target = tf.expand_dims(embedded.mf[:, self.target_place], 1)
    is_there = tf.concat([tf.ones_like(is_there[:, :1]), is_there], axis=1)
    x = tf.concat([target, history], axis=1) + self.places(tf.range(self.length + 1))
    x = tf.cast(x, self.compute_dtype)
    for block in self.blocks:
      x = block(x, is_there[:, tf.newaxis, :], training=training)
    x *= tf.cast(is_there, x.dtype)[:, :, tf.newaxis]
    other = tf.cast(layers.flatten(embedded.mf), x.dtype)
    x = tf.concat([other, layers.flatten(x)], axis=1)
    deep = self.output_layer(self.tower(x, training=training))
    return tf.sigmoid(embedded.lr_logit + deep)
