"""ESMM: conversions learnt from all impressions, not from clicks alone (Ma et al. 2018)."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.models import layers


class ESMM(tfps.Model):
  """pCTCVR = pCTR * pCVR, entire space multi-task model.

  pCTR = sigmoid(tower_ctr(x)) is the probability of a click, pCVR = sigmoid(tower_cvr(x)) that of a
  conversion after a click, and pCTCVR that of both; x is all mf vectors and lr weights of the
  slots. Both towers learn from every impression: the labels are "ctr", whether it was clicked, and
  "ctcvr", whether it was clicked and then converted. pCVR has no loss of its own, so it is not
  biased to what was clicked.

  It returns {"ctr": [B, 1], "ctcvr": [B, 1], "cvr": [B, 1]}; give losses for "ctr" and "ctcvr".

  Ma et al., "Entire Space Multi-Task Model: An Effective Approach for Estimating Post-Click
  Conversion Rate", SIGIR 2018.

  Args:
    table: the `tfps.FeasignTable`.
    slots: names of the slots, keys of the input dict.
    tasks: names of the labels: that of the click and that of the click with a conversion.
    hidden: widths of the layers of both towers.
    combiner: how a slot with several feasigns is pooled.
    dropout: share of each tower layer's outputs that training drops.

  Examples:
    >>> esmm = tfps.models.ESMM(table, ["user_id", "item_id"])
    >>> loss = "binary_crossentropy"
    >>> esmm.compile("adam", {"ctr": loss, "ctcvr": loss})
    >>> p = esmm({"user_id": tf.constant(["u7", "u8"]), "item_id": tf.constant(["i1", "i2"])})
    >>> {name: p[name].shape for name in p}
    {'ctr': TensorShape([2, 1]), 'ctcvr': TensorShape([2, 1]), 'cvr': TensorShape([2, 1])}
  """

  def __init__(
    self,
    table: tfps.FeasignTable,
    slots: Sequence[str],
    tasks: Sequence[str] = ("ctr", "ctcvr"),
    hidden: Sequence[int] = (256, 128),
    combiner: str = "mean",
    dropout: float = 0.0,
  ) -> None:
    super().__init__()
    self.tasks, self.click_label = tuple(tasks), tasks[0]
    self.embedding = tfps.Embedding(table, slots, combiner=combiner, dtype="float32")
    self.ctr_tower = layers.tower(hidden, dropout)
    self.cvr_tower = layers.tower(hidden, dropout)
    self.ctr_output = keras.layers.Dense(1, "sigmoid", dtype="float32")
    self.cvr_output = keras.layers.Dense(1, "sigmoid", dtype="float32")

  def call(
    self, features: Mapping[str, tf.Tensor], training: bool | None = None
  ) -> dict[str, tf.Tensor]:
    embedded = self.embedding(features, training=training)
    x = tf.concat([layers.flatten(embedded.mf), embedded.lr], axis=1)
    x = tf.cast(x, self.compute_dtype)
    ctr = self.ctr_output(self.ctr_tower(x, training=training))
    cvr = self.cvr_output(self.cvr_tower(x, training=training))
    click, conversion = self.tasks
    return {click: ctr, conversion: ctr * cvr, "cvr": cvr}
