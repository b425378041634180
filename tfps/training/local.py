"""Training on tickets in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfps.data import batching
from tfps.data.source import Source
from tfps.data.ticket import Ticket
from tfps.graph.autograph import users
from tfps.graph.loops import while_loop
from tfps.layers.exchange import Routed
from tfps.training import tickets as tickets_lib
from tfps.training.routes import Routes

if TYPE_CHECKING:
  from tfps.training.model import Model


class LocalProgram:
  """Trains batch after batch, each on what the one before it left.

  While a batch computes, the next one is read and, with `ahead`, its feasigns are made unique.

  Args:
    model: the `tfps.Model`, built for the source.
    source: the `tfps.data` source.
    ahead: whether the train step pulls what one forward pass on its batch pulls, in that order.

  Attributes:
    run_ticket: the traced function of a ticket.
  """

  def __init__(self, model: Model, source: Source, ahead: bool):
    self._model = model
    self._spec = source.element_spec
    routes = Routes(model, self._spec) if ahead and not tf.config.functions_run_eagerly() else None
    self._routes = routes if routes is not None and routes.are_of_batch else None

    def train(ticket: Ticket, *_: tf.Tensor) -> tuple:
      reading = source.reading(ticket)
      logs, examples = self._train_ticket(reading.batches)
      return logs, reading.skipped(examples)

    self.run_ticket = tickets_lib.training_function(train)

  def begin(self, first_number: int) -> None:
    """Nothing: no update is applied twice here."""

  def apply_accumulated(self) -> None:
    """Nothing: each step is applied as it is made."""

  def _train_ticket(self, dataset: tf.data.Dataset) -> tuple[dict[str, Any], tf.Tensor]:
    """Trains on one ticket, as the source opened it; traced once.

    Returns:
      ({metric name: value}, int64 scalar: the number of examples it trained on).
    """
    iterator = iter(dataset)

    def train(examples: tf.Tensor, is_there: tf.Tensor, data: list, routes: Any) -> tuple:
      del is_there
      batch = tf.nest.pack_sequence_as(self._spec, data, expand_composites=True)
      examples += batching.rows(tf.nest.flatten(batch)[0])
      # The push leaves a processor free, on which the next batch is made ready.
      with tf.control_dependencies(self._train(batch, routes)):
        return examples, *self._next(iterator, data, routes)

    state = tf.zeros([], tf.int64), *self._next(iterator, *self._none())
    examples, *_ = while_loop(lambda examples, is_there, *_: is_there, train, state)
    return {metric.name: metric.result() for metric in self._model.metrics}, examples

  def _next(self, iterator: Any, data: list, routes: Any) -> tuple:
    """(whether there is another batch, its tensors, its routes); without one, what is given."""
    batch = iterator.get_next_as_optional()

    def routed() -> tuple:
      value = batch.get_value()
      return tf.nest.flatten(value, expand_composites=True), self._route(value)

    is_there = batch.has_value()
    return is_there, *tf.cond(is_there, routed, lambda: (data, routes))

  def _route(self, batch: Any) -> Any:
    return () if self._routes is None else self._routes(batch)

  def _none(self) -> tuple:
    """Tensors like those of a batch and its routes, of no example."""
    routes = () if self._routes is None else self._routes.traced.concrete.structured_outputs
    specs = tf.nest.flatten(self._spec, expand_composites=True), routes
    return tf.nest.map_structure(
      lambda spec: tf.zeros([size or 0 for size in spec.shape], spec.dtype), specs
    )

  def _train(self, batch: Any, routes: Any) -> list[tf.Tensor]:
    """One train step; returns the gradients of the pulled rows, where these are known."""
    run, train_step = self._model.distribute_strategy.run, users(self._model.train_step)
    if self._routes is None:
      run(train_step, args=(batch,))
      return []

    def train(batch: Any, routes: Any) -> list[tf.Tensor]:
      with Routed(routes) as routed:
        train_step(batch)
      return routed.gradients

    return run(train, args=(batch, routes))
