"""`evaluate`, `predict` and `score` on a source: every example of its tickets is scored once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfps.data.source import Source
from tfps.data.ticket import Ticket
from tfps.layers.bags import read_values
from tfps.training import feed
from tfps.training import tickets as tickets_lib
from tfps.training.callback_list import CallbackList

if TYPE_CHECKING:
  from tfps.training.model import Model


class Scorer:
  """Scores sources with one compiled model.

  Args:
    model: the `tfps.Model`.
  """

  def __init__(self, model: Model):
    self._model = model
    self._functions: dict[tuple, Any] = {}
    self._count = tf.function(self._count_scored, reduce_retracing=True)

  def evaluate(self, source: Source, *, verbose: int, callbacks: Any) -> dict[str, float]:
    """Scores every example of `source` once and returns {metric name: value}."""
    model = self._model
    with model.distribute_strategy.scope():
      model.build_for(source)
      model.reset_metrics()
      listed = CallbackList(
        callbacks, add_progbar=bool(verbose), model=model, verbose=verbose, epochs=1,
        steps=feed.count_tickets(source) if verbose else None,
      )  # fmt: skip
      listed.on_test_begin()
      logs: dict[str, Any] = {}
      for step, scored in enumerate(self.score(source)):
        # The chief counts finished tickets only: an example of a ticket that ran twice counts once.
        if len(tf.nest.flatten(scored["y_pred"])[0]):  # Not where all of its records are skipped.
          logs = self._count(scored)
        listed.on_test_batch_begin(step)
        listed.on_test_batch_end(step, logs)
      logs = {name: float(value) for name, value in logs.items()}
      listed.on_test_end(logs)
    return logs

  def predict(self, source: Source) -> Any:
    """Predictions for every example of `source`, in its order, as NumPy."""
    predictions = [scored["y_pred"] for scored in self.score(source)]
    return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *predictions)

  def score(
    self, source: Source, tickets: Iterable[Ticket] | None = None, features: Sequence[str] = ()
  ) -> Iterator[dict[str, Any]]:
    """Yields what was scored in one ticket after the other; see `tfps.Model.score`."""
    with self._model.distribute_strategy.scope():
      self._model.build_for(source)
      run_ticket = self._function(source, tuple(features))
    tickets = source.tickets() if tickets is None else tickets
    strategy = self._model.distribute_strategy
    for _, scored in tickets_lib.scored(run_ticket, tickets, strategy, source.explain):
      yield scored

  def _function(self, source: Source, features: tuple[str, ...]) -> Any:
    # All sources that open alike share one trace: each day of a calendar is scored by the same.
    key = source.opener, features
    if key not in self._functions:
      self._functions[key] = tickets_lib.scoring_function(
        lambda ticket: self._score_ticket(source, ticket, features)
      )
    return self._functions[key]

  def _score_ticket(self, source: Source, ticket: Ticket, features: tuple[str, ...]) -> Any:
    """All that is scored in the ticket: {"y", "y_pred", "sample_weight"}, where there is one."""
    batches = source.open(ticket)
    strategy = self._model.distribute_strategy
    score = tf.function(lambda batch: strategy.run(self._score_batch, args=(batch, features)))
    specs = score.get_concrete_function(batches.element_spec).structured_outputs
    parts = [
      tf.TensorArray(spec.dtype, 0, dynamic_size=True, infer_shape=False, element_shape=spec.shape)
      for spec in tf.nest.flatten(specs)
    ]
    iterator = iter(batches)

    def score_next(count: tf.Tensor, batch: Any, parts: list) -> tuple:
      scored = tf.nest.flatten(score(batch.get_value()))
      parts = [part.write(count, value) for part, value in zip(parts, scored)]
      return count + 1, iterator.get_next_as_optional(), parts

    state = tf.constant(0), iterator.get_next_as_optional(), parts
    *_, parts = tf.while_loop(lambda count, batch, parts: batch.has_value(), score_next, state)
    return tf.nest.pack_sequence_as(specs, [part.concat() for part in parts])

  def _score_batch(self, batch: Any, features: tuple[str, ...]) -> dict[str, Any]:
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    scored = {"y": y, "y_pred": self._model(x, training=False), "sample_weight": sample_weight}
    scored = {name: value for name, value in scored.items() if value is not None}
    if features:
      scored["features"] = {name: read_values(name, x[name]) for name in features}
    return scored

  def _count_scored(self, scored: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Adds what `_score_ticket` returned to the metrics; returns {metric name: value}."""
    y, y_pred, sample_weight = scored["y"], scored["y_pred"], scored.get("sample_weight")
    self._model.compute_loss(None, y, y_pred, sample_weight)
    return self._model.compute_metrics(None, y, y_pred, sample_weight)


def check_features(source: Source, names: Iterable[str]) -> None:
  """Raises ValueError unless the examples of `source` have features of all these names."""
  x, _, _ = keras.utils.unpack_x_y_sample_weight(source.element_spec)
  there = list(x) if isinstance(x, dict) else []
  for name in names:
    if name not in there:
      near = difflib.get_close_matches(name, there, 1)
      hint = f" (did you mean '{near[0]}'?)" if near else ""
      raise ValueError(
        f"the source's examples have no feature '{name}'{hint}; they have "
        f"{', '.join(there) or 'none'}."
      )
