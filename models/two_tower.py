"""Two towers for retrieval, trained by a softmax over the items of the batch (Yi et al. 2019)."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

import tfps


class Tower(tfps.Model):
  """v = tower(v_1, ..., v_S) / |tower(v_1, ..., v_S)|, with v_i the pooled mf vector of slot i.

  Args:
    table: the `tfps.FeasignTable`.
    slots: names of the slots, keys of the input dict.
    hidden: widths of the layers before the last.
    dim: length of the vector.
    combiner: how a slot with several feasigns is pooled.
    statistics: whether the shows of the rows are read, too; see `TwoTower`.
    share: {slot: the slot whose rows it reads}, as of `tfps.Embedding`.
  """

  def __init__(
    self,
    table: tfps.FeasignTable,
    slots: Sequence[str],
    hidden: Sequence[int] = (64,),
    dim: int = 32,
    combiner: str = "mean",
    statistics: bool = False,
    share: Mapping[str, str] | None = None,
  ) -> None:
    super().__init__()
    self.embedding = tfps.Embedding(
      table, slots, combiner, dtype="float32", statistics=statistics, share=share
    )
    layers = [keras.layers.Dense(width, "relu") for width in hidden]
    self.tower = keras.Sequential([*layers, keras.layers.Dense(dim, dtype="float32")])

  def embed(
    self, features: Mapping[str, Any], training: bool | None = None
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """(the vectors [B, dim], the embedding's statistics by slot)."""
    embedded = self.embedding(features, training=training)
    mf = embedded.mf
    vectors = self.tower(tf.reshape(mf, [-1, mf.shape[1] * mf.shape[2]]))
    return tf.math.l2_normalize(vectors, axis=1), embedded.statistics

  def call(self, features: Mapping[str, Any], training: bool | None = None) -> tf.Tensor:
    return self.embed(features, training)[0]


class TwoTower(tfps.Model):
  """score(user, item) = <user tower, item tower> / temperature.

  Each clicked example is a positive pair, and the items of the other examples are its negatives:

      loss_i = -label_i * log softmax_j(score(user_i, item_j) - log q_j)[j = i]

  q_j, how often item j is in a batch, is its id's share of all shows, as the table has them:
  popular items are not punished for being there often. An item that is in the batch again is no
  negative of its own. For negatives sampled from all items (Yang et al. 2020) see
  `tfps.data.Source.with_negatives`, for all else docs/retrieval.md.

  Args:
    table: the `tfps.FeasignTable`.
    user_slots: names of the user's slots.
    item_slots: names of the item's slots.
    item_id: the slot among these that says which item it is, one feasign per example.
    hidden: widths of each tower's layers before the last.
    dim: length of the vectors.
    temperature: what scores are divided by.
    log_q: whether log q is subtracted.
    prior_shows: what is added to each show: 1 for new items. If a share s of each batch is sampled
      uniformly from all items, s / (1 - s) times the mean show of an item: q is then of both.
    hard_negatives: the loss gains that of a softmax over the positive and this many of the
      negatives, those with the highest scores, which may be items that the user would click, too.
    hard_weight: the weight of that part.
    combiner: how a slot with several feasigns is pooled.
    history: the user's slots of items that the user chose before: they read the rows of `item_id`.

  Examples:
    >>> towers = tfps.models.TwoTower(table, ["user_id"], ["item_id"], dim=16)
    >>> towers.user({"user_id": tf.constant(["u7", "u8"])}).shape
    TensorShape([2, 16])
  """

  loss_reduction = "mean"  # Over the examples of the batch, as is the softmax.

  def __init__(
    self,
    table: tfps.FeasignTable,
    user_slots: Sequence[str],
    item_slots: Sequence[str],
    item_id: str = "item_id",
    hidden: Sequence[int] = (64,),
    dim: int = 32,
    temperature: float = 0.1,
    log_q: bool = True,
    prior_shows: float = 1.0,
    hard_negatives: int = 0,
    hard_weight: float = 0.2,
    combiner: str = "mean",
    history: Collection[str] = (),
  ) -> None:
    super().__init__()
    if item_id not in item_slots:
      raise ValueError(f"item_id is '{item_id}', which is not one of item_slots {item_slots}.")
    share = dict.fromkeys(history, item_id)
    self.user = Tower(table, user_slots, hidden, dim, combiner, share=share)
    self.item = Tower(table, item_slots, hidden, dim, combiner, statistics=log_q)
    self._item_id, self._temperature = item_id, temperature
    self._log_q, self._prior_shows = log_q, prior_shows
    self._hard_negatives, self._hard_weight = hard_negatives, hard_weight

  def served_models(self) -> dict[str, tfps.Model]:
    return {"user": self.user, "item": self.item}

  def call(self, features: Mapping[str, Any], training: bool | None = None) -> dict[str, tf.Tensor]:
    """{"user": [B, dim], "item": [B, dim], "log_q": [B]}, up to a constant in log_q."""
    user = self.user(features, training=training)
    item, statistics = self.item.embed(features, training=training)
    log_q = tf.zeros(tf.shape(item)[:1])
    if self._log_q:
      log_q = tf.math.log(tf.maximum(statistics[self._item_id][:, 0, 0], 0) + self._prior_shows)
    return {"user": user, "item": item, "log_q": log_q}

  def compute_loss(
    self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None
  ) -> tf.Tensor:
    logits = tf.matmul(y_pred["user"], y_pred["item"], transpose_b=True) / self._temperature
    logits -= y_pred["log_q"]
    size = tf.shape(logits)[0]
    ids = tf.reshape(x[self._item_id], [-1])
    same = tf.equal(ids[:, tf.newaxis], ids) & ~tf.eye(size, dtype=tf.bool)
    lowest = tf.constant(logits.dtype.min / 2, logits.dtype)
    logits = tf.where(same, lowest, logits)
    positive = tf.linalg.diag_part(logits)
    losses = tf.reduce_logsumexp(logits, axis=1) - positive
    if self._hard_negatives:
      negatives = tf.linalg.set_diag(logits, tf.fill([size], lowest))
      hardest = tf.math.top_k(negatives, tf.minimum(self._hard_negatives, size)).values
      among = tf.concat([positive[:, tf.newaxis], hardest], axis=1)
      losses += self._hard_weight * (tf.reduce_logsumexp(among, axis=1) - positive)
    for weight in (y, sample_weight):
      if weight is not None:
        losses *= tf.reshape(tf.cast(weight, losses.dtype), [-1])
    return tf.reduce_mean(losses)
