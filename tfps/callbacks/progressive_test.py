"""ProgressiveTest: each day is tested before it is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfps.data.source import Source
from tfps.data.ticket import Day
from tfps.learning.outputs import OutputScores
from tfps.training.callback import Callback


class ProgressiveTest(Callback):
  """Tests each day before it is trained on (progressive validation; Blum, Kalai, Langford 1999).

  For models whose output is the click probability, or which have several such outputs: each output
  that has labels is scored, with its sample weights. Later epochs, which have seen the days, are
  not tested. All examples of a day are tested, also the negatives that the source samples.

  Args:
    source: the source that `fit` trains on.
    outputs: names of the outputs that are scored, where others are no probabilities; all by
      default.

  Attributes:
    days: for each tested day so far (`Day`, with the number of tested examples, its scores): a
      `tfps.learning.metrics.ClickScores`, or {output: `ClickScores`} of a model with several
      outputs.
    total: the scores of all tested examples, likewise.

  Examples:
    >>> test = tfps.callbacks.ProgressiveTest(source)
    >>> history = model.fit(source, callbacks=[test], verbose=0)
    >>> [day.name for day, scores in test.days], 0 <= test.total.auc <= 1
    (['day-0', 'day-1'], True)
  """

  def __init__(self, source: Source, outputs: Sequence[str] = ()):
    super().__init__()
    self._source = source.to_test()
    self._outputs = tuple(outputs)
    self._epochs_begun = 0
    self._total = OutputScores()
    self.days: list[tuple[Day, Any]] = []

  @property
  def total(self) -> Any:
    return self._total.public

  def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
    self._epochs_begun = 0

  def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
    self._epochs_begun += 1

  def on_day_begin(self, day: Day) -> None:
    if day.records and self._epochs_begun <= 1:
      self._test(day)

  def _test(self, day: Day) -> None:
    scores, tested = OutputScores(self._outputs, self.model.output_names), 0
    for scored in self.model.score(self._source.day(day.ordinal)):
      scores.update(scored)
      tested += len(tf.nest.flatten(scored["y_pred"])[0])
    if scores.of:
      self.days.append((day._replace(records=tested), scores.public))
      self._total.merge(scores)
