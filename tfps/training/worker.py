"""Training on tickets on a worker: pull, compute and push, on a copy of the dense weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf

from tfps.data import batching
from tfps.data.ticket import Ticket
from tfps.graph.loops import while_loop
from tfps.graph.traced import Traced, identity
from tfps.layers.exchange import Exchanged
from tfps.layers.lookup import Route
from tfps.training import dense, on_workers
from tfps.training import logs as logs_lib
from tfps.training import tickets as tickets_lib
from tfps.training.finite_step import Tally, no_tally
from tfps.training.gradient_sums import GradientSums
from tfps.training.learning_rates import follow_schedules
from tfps.training.logs import TracedStep
from tfps.training.routes import Routes

if TYPE_CHECKING:
  from tfps.data.source import Source
  from tfps.training.communication import Communication
  from tfps.training.model import Model

_ALL = 2**62  # batches: more than there are

# For each table, for each server uint8 [m]: the message that pushes.
Pushes = list[Any]


class _Batch(NamedTuple):
  """A batch and the pulls for it.

  Fields:
    data: the tensors of (x, y) or (x, y, weight).
    routes: the `Route` of each pull.
  """

  data: list[tf.Tensor]
  routes: list[Route]


class WorkerProgram:
  """Trains on tickets of a source as a `tfps.Communication` says; see docs/consistency.md.

  Args:
    model: the `tfps.Model`, built for the source.
    source: the `tfps.data` source.
    communication: the `tfps.Communication`.
    train_step: the function of a batch that trains.

  Attributes:
    run_ticket: the traced function of a ticket, its number, and the number below which all tickets
      are finished.
    tables: the `tfps.FeasignTable`s that are pulled from.
    pulls: the `Pull` of each pull of a forward pass, in order.
    route: the `Routes`: what the pulls of a batch want.
    step: the `TracedStep` of a batch and its pulled rows, which returns its pushes beside.
    train: its `Traced`.
    ahead: whether a batch's pull runs before the push of the one before it.
    window: pushes are sent with every Nth pull.
    gradient_sums: the `GradientSums` to which tickets add until the chief takes a step; None unless
      steps are synchronous.

  Raises:
    ValueError: the model cannot be trained on a cluster.
  """

  def __init__(
    self,
    model: Model,
    source: Source,
    communication: Communication,
    train_step: Callable[[Any], Any],
  ):
    self._model = model
    self.source = source
    self.communication = communication
    dense.check_optimizer(model.optimizer)
    synchronous = communication.consistency == "sync"
    if not synchronous:
      dense.check_local_steps(model.optimizer)
    merges = synchronous or not communication.dense_local_steps
    self._sums = GradientSums(model) if merges else None
    self.gradient_sums = self._sums if synchronous else None
    # Where others may not run ahead, a worker's own pulls do not run ahead of its pushes either.
    self.ahead = communication.prefetch and communication.consistency != "bounded"
    self.window = communication.push_window if communication.consistency == "async" else 1

    spec = source.element_spec
    self.route = Routes(model, spec)
    self.pulls = self.route.pulls
    if self.route.need_pulls:
      raise ValueError(
        f"model '{model.name}' computes the ids of one embedding layer from what another one "
        "pulled: on a cluster all of a batch is pulled at once, so give both layers features of "
        "the batch."
      )
    self.tables = list(dict.fromkeys(pull.table for pull in self.pulls))
    routes = self.route.spec
    replies = [[tf.TensorSpec([None], tf.uint8)] * len(route.keys) for route in routes]

    # Not a functools.partial, which AutoGraph would leave as it is, and what it calls.
    def trace(*batch: Any) -> tuple[tuple, Any]:
      return self._trace_step(model, train_step, *batch)

    self.step = TracedStep(trace, spec, routes, replies, tf.TensorSpec([3], tf.int64))
    self.train, self._after = self.step.in_loop(), self.step.after
    on_workers.check_captures(model, self.route.traced, self.train, self._after)
    logs_lib.warn_of_own_metrics(model, self.train)
    if self._sums is not None and not self._sums.was_given:
      raise ValueError(
        f"model '{model.name}' has a train_step that calls its optimizer itself: let it call "
        "self.apply_gradients, so that gradients can be merged."
      )
    strategy = model.distribute_strategy
    self._apply: Traced | None = None
    self._apply_sums: Any = None
    if self._sums is not None:
      sums = self._sums
      apply = lambda: strategy.run(sums.apply)
      if synchronous:
        self._apply_sums = tf.function(apply).get_concrete_function()
      else:
        self._apply = Traced(apply)
    self._place_dense(model)

    def train_ticket(ticket: Ticket, number: tf.Tensor, finished_below: tf.Tensor) -> tuple:
      reading = source.reading(ticket)
      logs, examples, tally = self._train_ticket(reading.batches, number, finished_below)
      return logs, examples, reading.skipped(examples), tally

    self.run_ticket = tickets_lib.training_function(train_ticket)

  def begin(self, first_number: int) -> None:
    """Forgets what a run that failed may have left; called at a moment, before any ticket.

    Args:
      first_number: all tickets of earlier runs have smaller ones.
    """
    for table in self.tables:
      table.set_clocks(first_number)
    if self.gradient_sums is not None:
      self.gradient_sums.clear()

  def read_ahead(self, ticket: Ticket) -> None:
    """Nothing: nobody knows which worker will be free for the ticket."""

  def end(self) -> None:
    """Nothing: what a failed run leaves is forgotten when the next one begins."""

  def apply_accumulated(self) -> None:
    """Takes one step with everything that tickets accumulated on the parameter servers.

    Nothing where steps are not synchronous.
    """
    if self.gradient_sums is not None:
      follow_schedules(self._model)
      for table in self.tables:
        table.apply_accumulated()
      self._apply_sums()

  def logs(self, of_ticket: Any) -> Any:
    """What the step of a ticket's last batch returned; see `trainer.Program`."""
    return self.step.logs(*of_ticket)

  def final(self, of_ticket: Any) -> Any:
    """The logs once all tickets are finished, of what `run_ticket` returned for the last."""
    carried, _ = of_ticket
    changed = {identity(variable) for variable in self.train.changed}
    logs = logs_lib.merged(self._model, self.step, carried, changed)
    return logs_lib.final(self._model, logs)

  def _trace_step(
    self,
    model: Model,
    train_step: Callable[[Any], Any],
    data: Any,
    routes: list[Route],
    replies: list,
    step: tf.Tensor,
  ) -> tuple[tuple, Any]:
    """One train step: ((its pushes, whether it was spoilt, or None), what it returns)."""

    def train(data: Any, routes: list[Route], replies: list, step: tf.Tensor) -> tuple:
      wire_dtype = self.communication.wire_dtype
      with Exchanged(zip(routes, replies), step, wire_dtype, self._sums) as exchanged:
        logs = train_step(data)
      return ([exchanged.pushes[table] for table in self.tables], exchanged.spoilt), logs

    return model.distribute_strategy.run(train, args=(data, routes, replies, step))

  def _place_dense(self, model: Model) -> None:
    """Finds the variables that a ticket reads and merges, and hands them to their servers."""
    traced = [part for part in (self.train, self._after, self._apply) if part is not None]
    unique = lambda lists: list({identity(v): v for part in lists for v in part}.values())
    self._variables = unique(part.variables for part in traced)
    changed = unique(part.changed for part in traced)
    sums = self._sums.variables if self._sums is not None else []
    of_sums = {identity(variable) for variable in sums}
    read = [variable for variable in self._variables if identity(variable) not in of_sums]
    self._shared = self._merged = dense.DenseVariables(read)
    self._changed = read
    if self.gradient_sums is not None:
      self._changed = changed
      self._merged = dense.DenseVariables(changed)
    # To what is only read, nothing is added.
    of_changed = {identity(variable) for variable in changed}
    only_read = [variable for variable in read if identity(variable) not in of_changed]
    self._decays = dense.Decays(model, [*sums, *only_read])

  def _train_ticket(
    self, dataset: tf.data.Dataset, number: tf.Tensor, finished_below: tf.Tensor
  ) -> tuple[tuple, tf.Tensor, Tally]:
    """Trains on one ticket; traced once, and run by a worker.

    Args:
      dataset: the ticket's, as the source opened it.
      number: int64 scalar, the ticket's own.
      finished_below: int64 scalar; all tickets with a smaller number are finished.

    Returns:
      (for `logs`: as the worker knows it, int64 scalar: the number of examples, its `Tally`).
    """
    batches = _Batches(self, iter(dataset), number, finished_below)
    zero = tf.zeros([], tf.int64)
    more, state = batches.begin()
    carried, after = self.step.none()
    _, _, examples, tally, carried, after, state = while_loop(
      lambda first, more, *_: more,
      lambda first, more, examples, tally, carried, after, state: self._group(
        batches, first, examples, tally, carried, state
      ),
      (zero, more, zero, no_tally(), carried, after, state),
    )
    batches.end(state)
    return (carried, after), examples, tally

  def _group(
    self,
    batches: _Batches,
    first: tf.Tensor,
    examples: tf.Tensor,
    tally: Tally,
    carried: list[tf.Tensor],
    state: tuple,
  ) -> tuple:
    """Trains on batches from `first` on with one copy of the dense weights, and merges changes."""
    before = self._shared.read()
    handles = dense.copies(self._variables, before)
    last = first + (self.communication.dense_sync_every or _ALL)
    following, more, examples, tally, carried, state = while_loop(
      lambda i, more, *_: more & (i < last),
      lambda i, more, examples, tally, carried, state: (
        i + 1,
        *batches.train(i, examples, tally, state, handles),
      ),
      (first, tf.ones([], tf.bool), examples, tally, carried, state),
    )
    steps = count = following - first
    if self._apply is not None:
      self._apply(handles=handles)
      steps = tf.ones([], tf.int64)
    for variable in self._changed:
      before.setdefault(identity(variable), tf.zeros(variable.shape, variable.dtype))
    decays = self._decays.after(self._changed, count, steps)
    after = self._after(handles=handles)
    self._merged.merge(before, handles, decays, batches.step(following - 1))
    return following, more, examples, tally, carried, after, state


class _Batches:
  """One ticket's batches: their state, and the exchange with the parameter servers."""

  def __init__(
    self, trainer: WorkerProgram, iterator: Any, number: tf.Tensor, finished_below: tf.Tensor
  ):
    self._trainer = trainer
    self._iterator = iterator
    self._spec = trainer.source.element_spec
    self._number = number
    self._finished_below = finished_below

  def step(self, i: tf.Tensor) -> tf.Tensor:
    """int64 [3]: what tells servers batch `i` from all others."""
    return tf.stack([self._number, i, self._finished_below])

  def begin(self) -> tuple:
    """(whether there is a batch, (that batch, the servers' replies for it, pushes)).

    Replies only where pulls run ahead.
    """
    pushes = [table.no_messages() for table in self._trainer.tables]
    nothing = lambda: tf.nest.flatten(batching.padding(self._spec), expand_composites=True)
    more, batch = self._next(nothing)
    replies = self._exchange(_wanted(batch, more), pushes) if self._trainer.ahead else ()
    return more, (batch, replies, pushes)

  def train(
    self, i: tf.Tensor, examples: tf.Tensor, tally: Tally, state: tuple, handles: dict
  ) -> tuple:
    """Trains on batch `i`.

    Returns:
      (whether there is another one, the number of examples trained on, the `Tally`, what is carried
      of the logs, the state).
    """
    trainer = self._trainer
    batch, replies, pushes = state
    send, pushes = self._split(i, pushes)
    if not trainer.ahead:
      replies = self._exchange(batch.routes, send)
    # After the last batch comes the same one again, for which nothing is pulled.
    more, following = self._next(lambda: batch.data)
    # The servers' replies for the next batch are on their way while this one computes.
    next_replies = self._exchange(_wanted(following, more), send) if trainer.ahead else ()
    data = self._packed(batch.data)
    flat = trainer.train(data, batch.routes, replies, self.step(i), handles=handles)
    (new, spoilt), carried = trainer.step.split(flat)
    pushes = tf.nest.map_structure(lambda held, one: tf.concat([held, one], 0), pushes, new)
    tally = tally.after(spoilt, data, examples)
    examples += batching.rows(tf.nest.flatten(data)[0])
    return more, examples, tally, carried, (following, next_replies, pushes)

  def end(self, state: tuple) -> None:
    """Sends the pushes that are left."""
    for table, pushes in zip(self._trainer.tables, state[2]):
      table.send(pushes, accumulate=self._trainer.gradient_sums is not None)

  def _next(self, otherwise: Callable[[], list[tf.Tensor]]) -> tuple[tf.Tensor, _Batch]:
    """(whether there is another batch, that batch or one with the data of `otherwise()`)."""
    following = self._iterator.get_next_as_optional()
    more = following.has_value()
    take = lambda: tf.nest.flatten(following.get_value(), expand_composites=True)
    data = tf.cond(more, take, otherwise)
    return more, _Batch(data, self._trainer.route(self._packed(data)))

  def _packed(self, data: list[tf.Tensor]) -> Any:
    return tf.nest.pack_sequence_as(self._spec, data, expand_composites=True)

  def _split(self, i: tf.Tensor, pushes: Pushes) -> tuple[Pushes, Pushes]:
    """(pushes that are sent with the next pull, those that wait for a later one)."""
    window = self._trainer.window
    nothing = [table.no_messages() for table in self._trainer.tables]
    if window <= 1:
      return pushes, nothing
    sends = (i + 1) % window == 0
    cut = lambda push: tf.where(sends, tf.size(push), 0)
    return (
      tf.nest.map_structure(lambda push: push[: cut(push)], pushes),
      tf.nest.map_structure(lambda push: push[cut(push) :], pushes),
    )

  def _exchange(self, routes: Sequence[Route], pushes: Pushes) -> list:
    """Sends pushes, one message to each server; returns the rows for `routes`, as replies."""
    trainer = self._trainer
    waiting = dict(zip(trainer.tables, pushes))
    replies = []
    for route, (table, row_width, statistics) in zip(routes, trainer.pulls):
      # Only the first of several lookups of a table carries its pushes.
      replies.append(
        table.exchange(
          route.keys,
          waiting.pop(table, table.no_messages()),
          row_width,
          wire_dtype=trainer.communication.wire_dtype,
          references=trainer.communication.row_references,
          counts=statistics,
          accumulate=trainer.gradient_sums is not None,
        )
      )
    return replies


def _wanted(batch: _Batch, more: tf.Tensor) -> list[Route]:
  """The pulls of a batch: none where there is no more batch."""
  return [
    route._replace(keys=[keys[: tf.where(more, tf.size(keys), 0)] for keys in route.keys])
    for route in batch.routes
  ]
