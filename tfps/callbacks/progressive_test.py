"""ProgressiveTest: each day is tested before it is trained on."""

from __future__ import annotations

from typing import Any

from tfps.data.source import Source
from tfps.data.ticket import Day
from tfps.learning.metrics import ClickScores
from tfps.training.callback import Callback


class ProgressiveTest(Callback):
  """Tests each day before it is trained on (progressive validation; Blum, Kalai, Langford 1999).

  For models with one output, the click probability. Later epochs, which have seen the days, are not
  tested.

  Args:
    source: the source that `fit` trains on.

  Attributes:
    days: for each tested day so far (`Day`, `tfps.learning.metrics.ClickScores`).
    total: the `ClickScores` of all tested examples.

  Examples:
    >>> test = tfps.callbacks.ProgressiveTest(source)
    >>> history = model.fit(source, callbacks=[test], verbose=0)
    >>> [day.name for day, scores in test.days], 0 <= test.total.auc <= 1
    (['day-0', 'day-1'], True)
  """

  def __init__(self, source: Source):
    super().__init__()
    self._source = source
    self._epochs_begun = 0
    self.days: list[tuple[Day, ClickScores]] = []
    self.total = ClickScores()

  def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
    self._epochs_begun = 0

  def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
    self._epochs_begun += 1

  def on_day_begin(self, day: Day) -> None:
    if not day.records or self._epochs_begun > 1:
      return
    scores = ClickScores()
    for scored in self.model.score(self._source.day(day.ordinal)):
      scores.update(scored["y"], scored["y_pred"], scored.get("sample_weight"))
    self.days.append((day, scores))
    self.total.merge(scores)
