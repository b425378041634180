"""FinalMLP: two towers, each with a view of its own, fused bilinearly (Mao et al. 2023)."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.models import layers


class FinalMLP(tfps.Model):
  """p(click) = sigmoid(sum of w_i + b + a_1' o_1 + a_2' o_2 + sum over heads of o_1h' W_h o_2h).

  o_s = tower_s(e * 2 sigmoid(gate_s(x_s))) is the output of stream s, where e is the concatenation
  of the mf vectors, and x_s those of the slots by which the stream selects features, or a learnt
  constant. o_sh is part h of o_s. The paper has no w_i; they serve feasigns that own no mf vector
  yet.

  Mao et al., "FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction", AAAI 2023.

  Args:
    table: the `tfps.FeasignTable`.
    slots: names of the slots, keys of the input dict.
    gates: the slots by which the first and the second stream select features, such as the user's
      and the item's; an empty list is a learnt constant.
    gate: widths of the layers of a gate, before the one that is as wide as e.
    heads: number of parts in which the streams' outputs are fused.
    hidden: widths of each tower's layers.
    combiner: how a slot with several feasigns is pooled.
    dropout: share of each tower layer's outputs that training drops.
    batch_norm: whether each tower layer's sums are normalised over the batch.
    second_hidden: widths of the second tower's layers; those of the first by default.

  Raises:
    ValueError: the width of a tower's last layer is no multiple of the number of heads.

  Examples:
    >>> finalmlp = tfps.models.FinalMLP(
    ...   table, ["user_id", "item_id"], gates=[["user_id"], ["item_id"]]
    ... )
    >>> finalmlp({"user_id": tf.constant(["u7"]), "item_id": tf.constant(["i1"])}).shape
    TensorShape([1, 1])
  """

  def __init__(
    self,
    table: tfps.FeasignTable,
    slots: Sequence[str],
    gates: Sequence[Sequence[str]] = ((), ()),
    gate: Sequence[int] = (64,),
    heads: int = 2,
    hidden: Sequence[int] = (256, 128),
    combiner: str = "mean",
    dropout: float = 0.0,
    batch_norm: bool = False,
    second_hidden: Sequence[int] | None = None,
  ) -> None:
    super().__init__()
    both = [hidden, hidden if second_hidden is None else second_hidden]
    for name, widths in zip(("hidden", "second_hidden"), both):
      if widths[-1] % heads:
        raise ValueError(
          f"{name} ends in {widths[-1]}, which {heads} heads cannot share: make it a multiple."
        )
    # With mixed precision the networks compute in 16 bits; what is added up here does not.
    self.embedding = tfps.Embedding(table, slots, combiner=combiner, dtype="float32")
    width = len(slots) * self.embedding.mf_dim
    self.gate_places = [[slots.index(slot) for slot in selected] for selected in gates]
    self.gates = [layers.tower(gate) for _ in range(2)]
    for network in self.gates:
      network.add(keras.layers.Dense(width, "sigmoid"))
    self.towers = [layers.tower(widths, dropout, batch_norm) for widths in both]
    self.output_layer = keras.layers.Dense(1, dtype="float32")
    self.heads = heads
    self.constants = [
      self.add_weight(f"constant_{stream}", [1, self.embedding.mf_dim]) for stream in range(2)
    ]
    self.bilinear = self.add_weight("bilinear", [heads, *(widths[-1] // heads for widths in both)])

  def call(self, features: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
    embedded = self.embedding(features, training=training)
    mf = tf.cast(embedded.mf, self.compute_dtype)
    e = layers.flatten(mf)
    outputs = []
    for stream, places in enumerate(self.gate_places):
      x = tf.cast(self.constants[stream], e.dtype)
      if places:
        x = layers.flatten(tf.gather(mf, list(places), axis=1))
      outputs.append(self.towers[stream](e * 2 * self.gates[stream](x), training=training))
    first, second = (tf.reshape(o, [-1, self.heads, o.shape[1] // self.heads]) for o in outputs)
    fused = tf.einsum("bhi,hij,bhj->b", first, tf.cast(self.bilinear, e.dtype), second)
    logit = (
      self.output_layer(tf.concat(outputs, axis=1)) + tf.cast(fused, tf.float32)[:, tf.newaxis]
    )
    return tf.sigmoid(embedded.lr_logit + logit)
