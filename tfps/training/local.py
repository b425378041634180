"""Training on tickets in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfps.data import batching
from tfps.data.ahead import Opened, ReadAhead
from tfps.data.source import Source
from tfps.data.ticket import TICKET_SPEC, Ticket
from tfps.graph.loops import while_loop
from tfps.graph.traced import pack
from tfps.layers.exchange import Direct, Routed
from tfps.training import logs as logs_lib
from tfps.training.finite_step import Tally, no_tally
from tfps.training.logs import TracedStep
from tfps.training.routes import Routes

if TYPE_CHECKING:
  from tfps.training.model import Model


class LocalProgram:
  """Trains batch after batch, each on what the one before it left.

  While a batch computes, the next one is read and, with `ahead`, its feasigns are made unique. The
  next ticket is read while one trains.

  Args:
    model: the `tfps.Model`, built for the source.
    source: the `tfps.data` source.
    train_step: the function of a batch that trains.
    ahead: whether the train step pulls what one forward pass on its batch pulls, in that order.

  Attributes:
    train: the traced function of a ticket and of what it is `Opened` as.
  """

  def __init__(self, model: Model, source: Source, train_step: Callable[[Any], Any], ahead: bool):
    self._model = model
    self._train_step = train_step
    self._spec = source.element_spec
    routes = Routes(model, self._spec) if ahead else None
    self._routes = routes if routes is not None and routes.are_of_batch else None
    route_spec = () if self._routes is None else self._routes.spec
    self._step = TracedStep(self._train, self._spec, route_spec)

    self._ahead = ReadAhead(source)

    @tf.function(input_signature=[*TICKET_SPEC, *self._ahead.spec])
    def train(*arguments: Any) -> tuple:
      fields = len(TICKET_SPEC)
      ticket, opened = Ticket(*arguments[:fields]), Opened(*arguments[fields:])
      logs, examples, tally = self._train_ticket(opened)
      return logs, examples, source.skipped(ticket, examples, opened.known), tally

    self.train = train

  def begin(self, first_number: int) -> None:
    """Nothing: no update is applied twice here."""

  def read_ahead(self, ticket: Ticket) -> None:
    """Begins to read a ticket that is to be trained next; see `trainer.Program`."""
    self._ahead.begin(ticket)

  def end(self) -> None:
    """Lets go of what was read ahead."""
    self._ahead.close()

  def run_ticket(self, *arguments: tf.Tensor) -> tuple:
    """Trains on a ticket; as `tickets.training_function` has it."""
    *fields, _, _ = arguments
    return self.train(*fields, *self._ahead.take(Ticket(*fields)))

  def apply_accumulated(self) -> None:
    """Nothing: each step is applied as it is made."""

  def logs(self, of_ticket: Any) -> Any:
    """What the step of a ticket's last batch returned; see `trainer.Program`."""
    return self._step.logs(*of_ticket)

  def final(self, of_ticket: Any) -> Any:
    """The logs once all tickets are finished, of what `run_ticket` returned for the last."""
    return logs_lib.final(self._model, self.logs(of_ticket))

  def _train_ticket(self, opened: Opened) -> tuple[Any, tf.Tensor, Tally]:
    """Trains on one ticket; traced once.

    Returns:
      (for `logs`, int64 scalar: the number of examples it trained on, its `Tally`).
    """

    def train(
      examples: tf.Tensor,
      tally: Tally,
      is_there: tf.Tensor,
      data: list,
      routes: Any,
      carried: list,
    ) -> tuple:
      del is_there, carried
      batch = tf.nest.pack_sequence_as(self._spec, data, expand_composites=True)
      beside, carried = self._step.local(batch, routes)
      gradients, spoilt = pack(self._step.others, beside)
      tally = tally.after(spoilt, batch, examples)
      examples += batching.rows(tf.nest.flatten(batch)[0])
      # The push leaves a processor free, on which the next batch is made ready: when the gradients
      # are there, not when all of the step is done.
      with tf.control_dependencies([tf.identity(gradient) for gradient in gradients]):
        following = opened.iterator.get_next_as_optional()
        return examples, tally, *self._next(following, data, routes), carried

    first = self._next(opened.first, *self._none())
    state = tf.zeros([], tf.int64), no_tally(), *first, self._step.none()[0]
    examples, tally, *_, carried = while_loop(lambda _, __, is_there, *___: is_there, train, state)
    return (carried, self._step.after_here()), examples, tally

  def _next(self, batch: Any, data: list, routes: Any) -> tuple:
    """(whether there is a batch, its tensors, its routes); without one, what is given."""

    def routed() -> tuple:
      value = batch.get_value()
      return tf.nest.flatten(value, expand_composites=True), self._route(value)

    is_there = batch.has_value()
    return is_there, *tf.cond(is_there, routed, lambda: (data, routes))

  def _route(self, batch: Any) -> Any:
    return () if self._routes is None else self._routes(batch)

  def _none(self) -> tuple:
    """Tensors like those of a batch and its routes, of no example."""
    routes = () if self._routes is None else self._routes.spec
    specs = tf.nest.flatten(self._spec, expand_composites=True), routes
    return tf.nest.map_structure(
      lambda spec: tf.zeros([size or 0 for size in spec.shape], spec.dtype), specs
    )

  def _train(self, batch: Any, routes: Any) -> tuple[tuple, Any]:
    """One train step.

    Returns:
      ((the gradients of the pulled rows, where these are known, whether it was spoilt, or None),
      what the train step returns).
    """

    def train(batch: Any, routes: Any) -> tuple[tuple, Any]:
      with Direct() if self._routes is None else Routed(routes) as exchange:
        logs = self._train_step(batch)
      return (getattr(exchange, "gradients", []), exchange.spoilt), logs

    return self._model.distribute_strategy.run(train, args=(batch, routes))


class EagerProgram:
  """Trains batch after batch in Python, where the model is to run eagerly.

  Args:
    model: the `tfps.Model`, built for the source.
    source: the `tfps.data` source.
    train_step: the function of a batch that trains.

  Attributes:
    run_ticket: a function of a ticket, as the others have it.
  """

  def __init__(self, model: Model, source: Source, train_step: Callable[[Any], Any]):
    self._model = model
    self._source = source
    self._train_step = train_step

  def begin(self, first_number: int) -> None:
    """Nothing: no update is applied twice here."""

  def read_ahead(self, ticket: Ticket) -> None:
    """Nothing: a ticket is read at its turn."""

  def end(self) -> None:
    """Nothing."""

  def apply_accumulated(self) -> None:
    """Nothing: each step is applied as it is made."""

  def logs(self, of_ticket: Any) -> Any:
    """What the step of a ticket's last batch returned; see `trainer.Program`."""
    return of_ticket

  def final(self, of_ticket: Any) -> Any:
    """The logs once all tickets are finished, of what `run_ticket` returned for the last."""
    return logs_lib.final(self._model, of_ticket)

  def run_ticket(self, *arguments: tf.Tensor) -> tuple:
    *fields, _, _ = arguments
    reading = self._source.reading(Ticket(*fields))
    logs, examples, tally = None, tf.zeros([], tf.int64), no_tally()
    for batch in reading.batches:
      with Direct() as exchange:
        logs = self._model.distribute_strategy.run(self._train_step, args=(batch,))
      tally = tally.after(exchange.spoilt, batch, examples)
      examples += batching.rows(tf.nest.flatten(batch)[0])
    return logs, examples, reading.skipped(examples), tally
