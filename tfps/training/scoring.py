"""`evaluate`, `predict` and `score` on a source: every example of its tickets is scored once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfps.data.source import Source
from tfps.data.ticket import Ticket
from tfps.graph import compat
from tfps.graph.autograph import traced, users
from tfps.layers.bags import read_values
from tfps.training import feed
from tfps.training import logs as logs_lib
from tfps.training import tickets as tickets_lib
from tfps.training.arguments import is_eager
from tfps.training.callback_list import CallbackList
from tfps.training.steps import EagerSteps, LocalSteps, Result, Step, WorkerSteps
from tfps.training.trainable import Trainable

if TYPE_CHECKING:
  from tfps.training.model import Model


class Scorer:
  """Scores sources with one compiled model.

  The chief counts finished tickets only: an example of a ticket that ran twice counts once.

  Args:
    model: the `tfps.Model`.
  """

  def __init__(self, model: Model):
    self._model = model
    self._programs: dict[tuple, Any] = {}
    self._trainable = Trainable(model)

  def evaluate(self, source: Source, *, verbose: int, callbacks: Any) -> Any:
    """Runs `test_step` on every batch of `source`; returns the logs.

    Args:
      source: the `tfps.data` source.
      verbose: 0, 1 or 2, as in Keras.
      callbacks: Keras callbacks, or the `CallbackList` of the `fit` that validates.
    """
    model = self._model
    with model.distribute_strategy.scope():
      program = self._program("test_step", source, _test_batch)
      listed = self._listed(callbacks, verbose, lambda: feed.count_tickets(source))
      listed.on_test_begin()
      model.reset_metrics()
      logs: Any = {}
      for step, _ in enumerate(self._results(program, source)):
        if listed.sees_test_batches:
          logs = program.logs()
        listed.on_test_batch_begin(step)
        listed.on_test_batch_end(step, logs)
      logs = program.final()
      listed.on_test_end(logs)
    return logs

  def predict(self, source: Source, *, verbose: int, callbacks: Any) -> Any:
    """What `predict_step` returns for every batch of `source`, joined, as NumPy."""
    with self._model.distribute_strategy.scope():
      program = self._program("predict_step", source, _predict_batch)
      listed = self._listed(callbacks, verbose, lambda: _count_batches(source))
      listed.on_predict_begin()
      outputs: list[Any] = []
      for result in self._results(program, source):
        for output in result.kept:
          listed.on_predict_batch_begin(len(outputs))
          listed.on_predict_batch_end(len(outputs), {"outputs": output})
          outputs.append(output)
      if not outputs:
        raise ValueError(
          "Unexpected result of `predict_function` (Empty batch_outputs): the source is empty."
        )
      listed.on_predict_end()
    return logs_lib.plain(_joined(outputs))

  def score(
    self, source: Source, tickets: Iterable[Ticket] | None = None, features: Sequence[str] = ()
  ) -> Iterator[dict[str, Any]]:
    """Yields what was scored in one ticket after the other; see `tfps.Model.score`."""

    def score_batch(model: Model, batch: Any) -> tuple[dict[str, Any], None]:
      x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
      scored = {"y": y, "y_pred": model(x, training=False), "sample_weight": sample_weight}
      scored = {name: value for name, value in scored.items() if value is not None}
      if features:
        scored["features"] = {name: read_values(name, x[name]) for name in features}
      return scored, None

    with self._model.distribute_strategy.scope():
      program = self._program(("score", *features), source, score_batch)
    for result in self._results(program, source, tickets):
      yield _joined(result.kept) if result.kept else program.nothing()

  def _listed(self, callbacks: Any, verbose: int, steps: Callable[[], Any]) -> CallbackList:
    if isinstance(callbacks, CallbackList):
      return callbacks
    return CallbackList(
      callbacks, add_progbar=verbose != 0, model=self._model, verbose=verbose, epochs=1,
      steps=steps(),
    )  # fmt: skip

  def _program(self, name: Any, source: Source, step: Step) -> Any:
    """What runs the step on tickets of `source`; made once for each `name`."""
    model, eager = self._model, is_eager(self._model)
    model.build_for(source)
    # All sources that open alike share one trace: each day of a calendar is scored by the same.
    key = name, source.opener, eager
    if key not in self._programs:
      kind = EagerSteps if eager else LocalSteps
      if tickets_lib.is_cluster(model.distribute_strategy):
        kind = WorkerSteps
      with self._trainable.when_traced(name, source.element_spec):
        self._programs[key] = traced(lambda: kind(model, source, step))
    return self._programs[key]

  def _results(
    self, program: Any, source: Source, tickets: Iterable[Ticket] | None = None
  ) -> Iterator[Result]:
    """The `Result` of one ticket after the other; in the end variables are what all have made."""
    tickets = source.tickets() if tickets is None else tickets
    strategy = self._model.distribute_strategy
    program.begin()
    finished = tickets_lib.scored(
      program.run_ticket, tickets, strategy, source.explain, program.arguments
    )
    for _, returned in finished:
      yield program.finish(returned)
    program.end()


def _test_batch(model: Model, batch: Any) -> tuple[None, Any]:
  return None, users(model.test_step)(batch)


def _predict_batch(model: Model, batch: Any) -> tuple[Any, None]:
  return users(model.predict_step)(batch), None


def _count_batches(source: Source) -> int | None:
  if source.is_endless:
    return None
  return sum(-(-ticket.records // source.batch_size) for ticket in source.tickets())


def _joined(outputs: list[Any]) -> Any:
  """Joins what a step has returned for several batches, as Keras joins predictions."""
  structure = tf.nest.map_structure(lambda _: 0, outputs[0])
  columns = zip(*[tf.nest.flatten(output) for output in outputs])
  return tf.nest.pack_sequence_as(structure, [_join(list(parts)) for parts in columns])


def _join(parts: list[Any]) -> Any:
  if parts[0] is None:
    return None
  is_dense = all(isinstance(part, np.ndarray) and part.ndim for part in parts)
  if is_dense and len({part.shape[1:] for part in parts}) == 1:
    return np.concatenate(parts)
  composite = (tf.RaggedTensor, tf.SparseTensor)
  parts = [part if isinstance(part, composite) else tf.constant(part) for part in parts]
  joined = compat.join_outputs(parts)
  return joined.numpy() if isinstance(joined, tf.Tensor) else joined


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
