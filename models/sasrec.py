"""SASRec: which item comes next, by self-attention over the items so far (Kang & McAuley 2018)."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.models import layers


class SASRec(tfps.Model):
  """p(click) = sigmoid(sum of w_i + <F_1, v_t>), self-attentive sequential recommendation.

  F = LayerNorm(blocks(e_1 + p_1, ..., e_n + p_n)), where e_i is the vector of the i-th latest item
  of the history and p_i that of the place; F_1 is the latest item's. A block adds to its input
  attention(LayerNorm(x)), in which no item looks at a later one, and then network(LayerNorm(x)).
  v_t is the target's vector. An example without a history has F_1 = 0.

  Slots beside the target and the history take part by their weights w_i only. The paper draws an
  item that did not come next for each one that did: so should the examples, as those with label 0.

  Kang & McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018.

  Args:
    table: the `tfps.FeasignTable`.
    slots: names of the slots, keys of the input dict; the target and the history are among them.
    target: the slot of the item that may come next.
    history: the slot of the items that came before, the latest last, padded anywhere.
    length: how many items of the history, the latest, are read.
    blocks: number of self-attention blocks.
    heads: number of attention heads.
    combiner: how another slot with several feasigns is pooled.
    dropout: share of the outputs of each part of a block that training drops.
    share: whether the history reads the rows of the target's slot, as in the paper; its values are
      feasigns of that slot then. Otherwise it has rows of its own.

  Examples:
    >>> sasrec = tfps.models.SASRec(table, ["item_id", "history"], length=10)
    >>> sasrec({
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
    length: int = 50,
    blocks: int = 2,
    heads: int = 1,
    combiner: str = "mean",
    dropout: float = 0.0,
    share: bool = True,
  ) -> None:
    super().__init__()
    self.history_slot, self.length = history, length
    # With mixed precision the blocks compute in 16 bits; what is added up here does not.
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
    self.places = keras.layers.Embedding(length, width, dtype="float32")
    self.blocks = [
      layers.TransformerBlock(width, heads, dropout, norm_first=True) for _ in range(blocks)
    ]
    self.norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype="float32")

  def call(self, features: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
    embedded = self.embedding(features, training=training)
    history, is_there = layers.latest(
      *layers.sequence(features[self.history_slot], embedded.sequences[self.history_slot]),
      self.length,
    )
    x = tf.cast(history + self.places(tf.range(self.length)), self.compute_dtype)
    # The latest comes first: a place looks at itself and at those behind it, which are earlier.
    earlier = tf.linalg.band_part(tf.ones([self.length, self.length]), 0, -1) > 0
    for block in self.blocks:
      x = block(x, is_there[:, tf.newaxis, :] & earlier, training=training)
    state = self.norm(x[:, 0]) * tf.cast(is_there[:, :1], tf.float32)
    score = tf.reduce_sum(state * embedded.mf[:, self.target_place], axis=1, keepdims=True)
    return tf.sigmoid(embedded.lr_logit + score)
