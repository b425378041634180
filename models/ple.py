"""PLE: several tasks with shared experts and some of their own, in levels (Tang et al. 2020)."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.models import layers


class PLE(tfps.Model):
  """p_k = sigmoid(h_k(x_k)), x = levels(x), progressive layered extraction.

  At first all x_k, and the shared x_s, are all mf vectors and lr weights of the slots. A level has
  experts of each task, which read x_k, and shared ones, which read x_s. Its next x_k is the sum of
  the outputs of the task's and the shared experts, weighted by the gate softmax(W_k x_k); the next
  x_s is that of all experts, by softmax(W_s x_s). No task disturbs another's experts,
  as it may in MMoE.

  It returns {task: [B, 1]}; train it with labels, and a loss if you like, by task.

  Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for
  Personalized Recommendations", RecSys 2020.

  Args:
    table: the `tfps.FeasignTable`.
    slots: names of the slots, keys of the input dict.
    tasks: names of the tasks; the first is the click that rows count.
    levels: number of levels; one is the paper's CGC.
    task_experts: number of experts that each task has at a level.
    shared_experts: number of experts that all tasks share at a level.
    expert: widths of an expert's layers.
    hidden: widths of the layers of a task's tower.
    combiner: how a slot with several feasigns is pooled.
    dropout: share of each layer's outputs that training drops.

  Examples:
    >>> ple = tfps.models.PLE(table, ["user_id", "item_id"], tasks=["click", "like"])
    >>> p = ple({"user_id": tf.constant(["u7", "u8"]), "item_id": tf.constant(["i1", "i2"])})
    >>> {task: p[task].shape for task in p}
    {'click': TensorShape([2, 1]), 'like': TensorShape([2, 1])}
  """

  def __init__(
    self,
    table: tfps.FeasignTable,
    slots: Sequence[str],
    tasks: Sequence[str] = ("click", "like"),
    levels: int = 2,
    task_experts: int = 2,
    shared_experts: int = 2,
    expert: Sequence[int] = (128,),
    hidden: Sequence[int] = (64,),
    combiner: str = "mean",
    dropout: float = 0.0,
  ) -> None:
    super().__init__()
    self.tasks, self.click_label = tuple(tasks), tasks[0]
    self.embedding = tfps.Embedding(table, slots, combiner=combiner, dtype="float32")
    experts = [task_experts] * len(tasks) + [shared_experts]
    self.levels = [
      _Level(experts, expert, dropout, is_last=level == levels - 1) for level in range(levels)
    ]
    self.towers = [layers.tower(hidden, dropout) for _ in tasks]
    self.output_layers = [keras.layers.Dense(1, "sigmoid", dtype="float32") for _ in tasks]

  def call(
    self, features: Mapping[str, tf.Tensor], training: bool | None = None
  ) -> dict[str, tf.Tensor]:
    embedded = self.embedding(features, training=training)
    x = tf.concat([layers.flatten(embedded.mf), embedded.lr], axis=1)
    inputs = [tf.cast(x, self.compute_dtype)] * (len(self.tasks) + 1)
    for level in self.levels:
      inputs = level(inputs, training=training)
    return {
      task: output_layer(tower(x, training=training))
      for task, x, tower, output_layer in zip(self.tasks, inputs, self.towers, self.output_layers)
    }


class _Level(keras.layers.Layer):
  """[x_1, ..., x_K, x_s] of the same; the last level leaves x_s out.

  `experts` are the numbers of experts of each task and, last, of the shared ones.
  """

  def __init__(
    self, experts: Sequence[int], expert: Sequence[int], dropout: float, is_last: bool
  ) -> None:
    super().__init__()
    self.experts = [[layers.tower(expert, dropout) for _ in range(count)] for count in experts]
    counts = [own + experts[-1] for own in experts[:-1]] + ([] if is_last else [sum(experts)])
    self.gates = [
      keras.layers.Dense(count, "softmax", use_bias=False, dtype="float32") for count in counts
    ]

  def call(self, inputs: Sequence[tf.Tensor], training: bool | None = None) -> list[tf.Tensor]:
    *own, shared = [
      [expert(x, training=training) for expert in group] for x, group in zip(inputs, self.experts)
    ]
    all_experts = [output for outputs in [*own, shared] for output in outputs]
    choices = [*(outputs + shared for outputs in own), all_experts]
    return [layers.mix(gate(x), outputs) for gate, x, outputs in zip(self.gates, inputs, choices)]
