"""ProgressiveRecall: what two towers find is tested with each day before it is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras as keras

from tfps.callbacks.progressive_test import ProgressiveTest
from tfps.data.source import Source
from tfps.data.ticket import Day
from tfps.export import trained
from tfps.layers.embedding import tables_of
from tfps.learning.recall import RecallScores

_BATCH = 4096


class ProgressiveRecall(ProgressiveTest):
  """Tests, with each day before it is trained on, how often the clicked item is among the first k.

  For models of two towers, `model.user` and `model.item`, whose prediction has the user's vector as
  "user", as that of `tfps.models.TwoTower`. All items are scored, as `tfps.evaluation.recall_at_k`
  does. In `tfps train` it takes the place of the usual test (`callbacks` of the config).

  Args:
    source: the source that `fit` trains on. Its examples with a label above 0 and a weight other
      than 0 are clicks.
    items: {slot: int64 feasigns [N], or [N, k] with padding 0} of all items, each once: what the
      item tower reads. A click of another item finds nothing.
    item_id: the slot that says which item it is, in `items` and in the source's x.
    ks: numbers of items.

  Attributes:
    days: for each tested day so far (`Day`, `tfps.learning.recall.RecallScores`).
    total: the `RecallScores` of all tested clicks.

  Raises:
    ValueError: `item_id` is no slot of `items`, or an item comes twice.

  Examples:
    >>> towers = tfps.models.TwoTower(table, ["user_id"], ["item_id"])
    >>> towers.compile("adam")
    >>> items = {"item_id": tfps.feasign("item_id", tf.range(1, 101, dtype=tf.int64))}
    >>> test = tfps.callbacks.ProgressiveRecall(source, items, ks=[50])
    >>> history = towers.fit(source, callbacks=[test], verbose=0)
    >>> [day.name for day, scores in test.days], 0 <= test.total.recall[50] <= 1
    (['day-0', 'day-1'], True)
  """

  def __init__(
    self,
    source: Source,
    items: Mapping[str, npt.ArrayLike],
    item_id: str = "item_id",
    ks: Sequence[int] = (10, 50),
  ):
    super().__init__(source)
    if item_id not in items:
      raise ValueError(f"item_id is '{item_id}', but items has {', '.join(items)}.")
    self._items = {slot: np.asarray(values) for slot, values in items.items()}
    self._item_id = item_id
    self._ids, self._numbers = np.unique(self._items[item_id], return_index=True)
    if len(self._ids) < len(self._items[item_id]):
      raise ValueError("items has an item twice: give each once.")
    self._ks = tuple(ks)
    self._recall = RecallScores()

  @property
  def total(self) -> Any:
    return self._recall

  def _test(self, day: Day) -> None:
    scores = RecallScores()
    items = np.concatenate(list(self._vectors()))
    source = self._source.day(day.ordinal)
    for scored in self.model.score(source, features=[self._item_id]):
      clicks = np.ones(len(scored["y_pred"]["user"]), bool)
      for weight in ("y", "sample_weight"):
        if weight in scored:
          clicks &= np.reshape(scored[weight], [-1]) > 0
      ids, _ = scored["features"][self._item_id]
      scores.update(scored["y_pred"]["user"][clicks], self._number_of(ids[clicks]), items, self._ks)
    self.days.append((day, scores))
    self._recall.merge(scores)

  def _vectors(self) -> Iterator[np.ndarray]:
    """The vectors of the items, of some at a time, from the rows that the tables hold."""
    tower: keras.Model = self.model.item
    for first in range(0, len(self._ids), _BATCH):
      batch = {
        slot: tf.constant(values[first : first + _BATCH]) for slot, values in self._items.items()
      }
      yield trained.predict(tower, batch, tables_of(tower), trained.AllRows).numpy()

  def _number_of(self, ids: np.ndarray) -> np.ndarray:
    """int [n]: the place of each item among the items, -1 for others."""
    at = np.searchsorted(self._ids, ids).clip(max=len(self._ids) - 1)
    return np.where(self._ids[at] == ids, self._numbers[at], -1)
