"""DIN: what of a user's history bears on the item at hand (Zhou et al. 2018)."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.models import layers


class DIN(tfps.Model):
  """p(click) = sigmoid(sum of w_i + tower(v_1, ..., v_S, u)), Deep Interest Network.

  u = sum of a(e_j, v_t) e_j over the history's vectors e_j, where v_t is the target's vector. The
  activation unit a is a small network over e_j, v_t, their difference and their product. Its
  outputs are not normalised, so u also tells how strong an interest is.

  The units are PReLU: the paper's Dice needs statistics of the batch, which padding would enter.

  Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018.

  Args:
    table: the `tfps.FeasignTable`.
    slots: names of the slots, keys of the input dict; the target and the history are among them.
    target: the slot of the item that may be clicked.
    history: the slot of the items that the user chose before, padded anywhere.
    attention: widths of the activation unit's layers.
    hidden: widths of the tower's layers.
    combiner: how another slot with several feasigns is pooled.
    dropout: share of each tower layer's outputs that training drops.
    share: whether the history reads the rows of the target's slot, as in the paper; its values are
      feasigns of that slot then. Otherwise it has rows of its own.

  Examples:
    >>> din = tfps.models.DIN(table, ["user_id", "item_id", "history"])
    >>> din({
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
    attention: Sequence[int] = (32, 16),
    hidden: Sequence[int] = (256, 128),
    combiner: str = "mean",
    dropout: float = 0.0,
    share: bool = True,
  ) -> None:
    super().__init__()
    self.history_slot = history
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
    self.attention = keras.Sequential()
    for width in attention:
      self.attention.add(keras.layers.Dense(width))
      self.attention.add(keras.layers.PReLU(shared_axes=[1]))
    self.attention.add(keras.layers.Dense(1, dtype="float32"))
    self.tower = layers.tower(hidden, dropout)
    self.output_layer = keras.layers.Dense(1, dtype="float32")

  def call(self, features: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
    embedded = self.embedding(features, training=training)
    # Padding has the vector zero, and so adds nothing to the interest.
    history, _ = layers.sequence(features[self.history_slot], embedded.sequences[self.history_slot])
    target = tf.expand_dims(embedded.mf[:, self.target_place], 1) + tf.zeros_like(history)
    pairs = tf.concat([target, history, target - history, target * history], axis=2)
    weights = self.attention(tf.cast(pairs, self.compute_dtype))
    interest = tf.reduce_sum(weights * history, axis=1)
    x = tf.concat([layers.flatten(embedded.mf), interest], axis=1)
    deep = self.output_layer(self.tower(tf.cast(x, self.compute_dtype), training=training))
    return tf.sigmoid(embedded.lr_logit + deep)
