"""MMoE: several tasks that share experts, each by a gate of its own (Ma et al. 2018)."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.models import layers


class MMoE(tfps.Model):
  """p_k = sigmoid(h_k(sum of g_k(x)_i f_i(x) over the experts)), multi-gate mixture-of-experts.

  x is all mf vectors and lr weights of the slots, f_i is expert i, g_k(x) = softmax(W_k x) the gate
  of task k and h_k its tower. Tasks that conflict learn to use different experts.

  It returns {task: [B, 1]}; train it with labels, and a loss if you like, by task.

  Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
  Mixture-of-Experts", KDD 2018.

  Args:
    table: the `tfps.FeasignTable`.
    slots: names of the slots, keys of the input dict.
    tasks: names of the tasks; the first is the click that rows count.
    experts: number of experts.
    expert: widths of an expert's layers.
    hidden: widths of the layers of a task's tower.
    combiner: how a slot with several feasigns is pooled.
    dropout: share of each layer's outputs that training drops.

  Examples:
    >>> mmoe = tfps.models.MMoE(table, ["user_id", "item_id"], tasks=["click", "like"])
    >>> p = mmoe({"user_id": tf.constant(["u7", "u8"]), "item_id": tf.constant(["i1", "i2"])})
    >>> {task: p[task].shape for task in p}
    {'click': TensorShape([2, 1]), 'like': TensorShape([2, 1])}
  """

  def __init__(
    self,
    table: tfps.FeasignTable,
    slots: Sequence[str],
    tasks: Sequence[str] = ("click", "like"),
    experts: int = 4,
    expert: Sequence[int] = (128,),
    hidden: Sequence[int] = (64,),
    combiner: str = "mean",
    dropout: float = 0.0,
  ) -> None:
    super().__init__()
    self.tasks, self.click_label = tuple(tasks), tasks[0]
    self.embedding = tfps.Embedding(table, slots, combiner=combiner, dtype="float32")
    self.experts = [layers.tower(expert, dropout) for _ in range(experts)]
    self.gates = [
      keras.layers.Dense(experts, "softmax", use_bias=False, dtype="float32") for _ in tasks
    ]
    self.towers = [layers.tower(hidden, dropout) for _ in tasks]
    self.output_layers = [keras.layers.Dense(1, "sigmoid", dtype="float32") for _ in tasks]

  def call(
    self, features: Mapping[str, tf.Tensor], training: bool | None = None
  ) -> dict[str, tf.Tensor]:
    embedded = self.embedding(features, training=training)
    x = tf.concat([layers.flatten(embedded.mf), embedded.lr], axis=1)
    x = tf.cast(x, self.compute_dtype)
    experts = [expert(x, training=training) for expert in self.experts]
    return {
      task: output_layer(tower(layers.mix(gate(x), experts), training=training))
      for task, gate, tower, output_layer in zip(
        self.tasks, self.gates, self.towers, self.output_layers
      )
    }
