"""The inner loop of `fit` on a source: days, tickets, callbacks."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import tensorflow as tf
import tf_keras as keras

from tfps import native
from tfps.cluster import memory
from tfps.data import bad_records, batching
from tfps.data.source import Source
from tfps.data.ticket import Ticket
from tfps.graph import compat
from tfps.graph.autograph import traced, users
from tfps.layers import owner
from tfps.layers.embedding import tables_of
from tfps.training import feed
from tfps.training import logs as logs_lib
from tfps.training import tickets as tickets_lib
from tfps.training.arguments import is_eager, is_overridden, validates
from tfps.training.callback_list import CallbackList
from tfps.training.communication import Communication
from tfps.training.learning_rates import follow_schedules
from tfps.training.local import EagerProgram, LocalProgram
from tfps.training.nonfinite_steps import NonfiniteSteps
from tfps.training.position import Position
from tfps.training.schedule import Schedule
from tfps.training.scoring import Scorer
from tfps.training.trainable import Trainable
from tfps.training.worker import WorkerProgram

if TYPE_CHECKING:
  from tfps.training.model import Model


class Program(Protocol):
  """What trains on the tickets of a source.

  Attributes:
    run_ticket: the function of a ticket, as `tickets.training_function` returns it; returns (for
      `logs`, int64 scalar: the number of examples it trained on, its `bad_records.Skipped`, its
      `finite_step.Tally`).
  """

  @property
  def run_ticket(self) -> Any: ...

  def begin(self, first_number: int) -> None:
    """Called at a moment, before any ticket; all earlier tickets have smaller numbers."""

  def read_ahead(self, ticket: Ticket) -> None:
    """Begins to read a ticket, unless that has begun; those before it are trained first.

    It changes nothing that is trained, also where the ticket is never run.
    """

  def end(self) -> None:
    """Called when no ticket is running any more; also where one has failed."""

  def apply_accumulated(self) -> None:
    """Applies what the tickets of a synchronous step have accumulated, as one step."""

  def logs(self, of_ticket: Any) -> Any:
    """What the step of a ticket's last batch returned, of what `run_ticket` returned for it."""

  def final(self, of_ticket: Any) -> Any:
    """The logs once all tickets are finished, of what `run_ticket` returned for the last."""


class Trainer:
  """Trains and scores sources with one compiled model, and holds everything that is traced for it.

  A model makes it when it first meets a source, and drops it when it is compiled again.

  Args:
    model: the `tfps.Model`.
    ahead: whether its train step pulls what one forward pass on its batch pulls, in that order.

  Attributes:
    scorer: the `Scorer` of the model.
  """

  def __init__(self, model: Model, ahead: bool):
    self._model = model
    self._ahead = ahead
    self.scorer = Scorer(model)
    self._programs: dict[tuple, Program] = {}
    self._trainable = Trainable(model)
    self._next_ticket = 0
    self._is_built = False

  def build(self, source: Source) -> None:
    """Makes every variable of model, optimizer and metrics, as a trace on a batch makes them."""
    if self._is_built:
      return
    model = self._model
    if is_eager(model):
      # Of code that cannot be traced; a batch that is all padding.
      padding = batching.padding(source.element_spec)
      rows = functools.partial(batching.repeated, times=source.batch_size)
      self._forward(tf.nest.map_structure(rows, padding))
      model.reset_metrics()
    else:
      forward = lambda batch: model.distribute_strategy.run(self._forward, args=(batch,))
      traced(lambda: tf.function(forward).get_concrete_function(source.element_spec))
    # Legacy optimizers make theirs in the first step.
    if isinstance(model.optimizer, keras.optimizers.Optimizer):
      model.optimizer.build(model.trainable_variables)
    self._is_built = True

  def _forward(self, batch: Any) -> None:
    model = self._model
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    y_pred = model(x, training=False)
    # Steps of the user's own make what they use when they are traced, as in Keras.
    if compat.has_compiled_loss(model) and self._has_keras_steps():
      users(model.compute_loss)(x, y, y_pred, sample_weight)
      users(model.compute_metrics)(x, y, y_pred, sample_weight)

  def _has_keras_steps(self) -> bool:
    """Whether all that a step does with the compiled loss and metrics is what Keras's do."""
    kept = ("test_step", "compute_loss", "compute_metrics")
    return self._ahead and not any(is_overridden(self._model, name) for name in kept)

  def program(
    self,
    source: Source,
    communication: Communication,
    class_weight: dict[int, float] | None = None,
  ) -> Program:
    """The program that trains on tickets of `source`; on a cluster as `communication` says."""
    # All sources that open alike share one trace: each day of a calendar is trained by the same.
    weights = tuple(sorted(class_weight.items())) if class_weight else None
    eager = is_eager(self._model)
    key = source.opener, communication, weights, eager
    if key not in self._programs:
      # Keras would weigh by class before it traces, by any weights.
      function = "train_step", weights is None
      with self._trainable.when_traced(function, source.element_spec):
        train_step = _train_step(self._model, class_weight)
        self._programs[key] = traced(
          lambda: self._new_program(source, communication, train_step, eager)
        )
    return self._programs[key]

  def _new_program(
    self, source: Source, communication: Communication, train_step: Callable, eager: bool
  ) -> Program:
    if tickets_lib.is_cluster(self._model.distribute_strategy):
      return WorkerProgram(self._model, source, communication, train_step)
    if eager:
      return EagerProgram(self._model, source, train_step)
    # In one process there is nobody to agree with.
    return LocalProgram(self._model, source, train_step, self._ahead)

  def fit(
    self,
    source: Source,
    *,
    epochs: int,
    initial_epoch: int,
    verbose: int,
    callbacks: Any,
    validation_source: Source | None,
    validation_freq: int | list[int],
    class_weight: dict[int, float] | None,
    communication: Communication,
  ) -> keras.callbacks.History:
    """Trains on every ticket of `source`, day by day; see `tfps.Model.fit`."""
    if source.is_endless and epochs > 1:
      raise ValueError(f"epochs is {epochs}, but a stream is read once: leave it at 1.")
    model = self._model
    with model.distribute_strategy.scope():
      self.build(source)
      program = self.program(source, communication, class_weight)
      listed = CallbackList(
        callbacks,
        add_history=True,
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=feed.count_tickets(source),
      )
      model.stop_training = False
      listed.on_train_begin()
      resumed = listed.resume()
      schedule = self._schedule(communication, resumed)
      program.begin(schedule.next_ticket)
      fit = _Fit(model, source, program, schedule, listed, resumed)
      try:
        validation = validation_source, validation_freq
        epoch_logs = self._run(fit, range(initial_epoch, epochs), *validation)
      finally:
        self._next_ticket = schedule.next_ticket
        program.end()
      if epochs > 0 and isinstance(model.optimizer, keras.optimizers.Optimizer):
        model.optimizer.finalize_variable_values(model.trainable_variables)
      listed.on_train_end(epoch_logs)
    return model.history

  def _schedule(self, communication: Communication, resumed: Position | None) -> Schedule:
    """Numbers tickets as none was numbered before the checkpoint, or in an earlier `fit`."""
    numbers = [max(table.clocks()) for table in tables_of(self._model)]
    numbers.append(resumed.next_ticket if resumed is not None else 0)
    workers = tickets_lib.num_workers(self._model.distribute_strategy)
    return Schedule(communication, workers, max(self._next_ticket, *numbers))

  def _run(
    self,
    fit: _Fit,
    epochs: range,
    validation_source: Source | None,
    validation_freq: int | list[int],
  ) -> Any:
    """All epochs; returns the logs of the last."""
    model, logs = self._model, None
    for epoch in range(fit.first_epoch(epochs.start), epochs.stop):
      logs = fit.epoch(epoch)
      if validation_source is not None and validates(epoch, validation_freq):
        validation = self.scorer.evaluate(validation_source, verbose=0, callbacks=fit.callbacks)
        logs.update({f"val_{name}": value for name, value in validation.items()})
      fit.callbacks.on_epoch_end(epoch, logs)
      if model.stop_training:
        break
    return logs


class _Fit:
  """One call of `fit`: what is trained so far, and the loops over days and tickets."""

  def __init__(
    self,
    model: Model,
    source: Source,
    program: Program,
    schedule: Schedule,
    callbacks: CallbackList,
    resumed: Position | None,
  ):
    self.callbacks = callbacks
    self._model = model
    self._source = source
    self._program = program
    self._schedule = schedule
    self._resumed = resumed
    self._skipped = bad_records.SkippedRecords(source, resumed.skipped if resumed else None)
    self._nonfinite = NonfiniteSteps(
      model.max_nonfinite_steps, resumed.nonfinite_steps if resumed else 0
    )
    self._memory_watch = memory.MemoryWatch(tell=native.tell_memory_share)
    self._logs: Any = {} if resumed is None else logs_lib.metric_results(model)

  def first_epoch(self, initial_epoch: int) -> int:
    """The number of the epoch with which to begin."""
    return initial_epoch if self._resumed is None else max(initial_epoch, self._resumed.epoch)

  def epoch(self, epoch: int) -> Any:
    """Trains on what is left of an epoch, or until the model is told to stop; returns its logs."""
    if self._resumed is None or epoch > self._resumed.epoch:
      self._model.reset_metrics()
    self.callbacks.on_epoch_begin(epoch)
    step = 0
    for day_feed in feed.days(self._source, epoch, self._resumed):
      if day_feed.begins_at.ended:
        step += day_feed.tickets()
        continue
      position = self._day(day_feed, step)
      step += position.tickets
      if self._model.stop_training:
        break
    return copy.copy(self._logs)

  def _day(self, day_feed: feed.DayFeed, step: int) -> Position:
    """Trains on the rest of a day and ends it, or until the model is told to stop.

    Args:
      day_feed: the day.
      step: the number of tickets of the epoch before the day.

    Returns:
      The position afterwards.
    """
    day, position = day_feed.day, day_feed.begins_at
    if position.tickets:
      self.callbacks.call("on_day_resume", day, position.records)
    else:
      self.callbacks.call("on_day_begin", day)
      # A progressive test within the day's hook leaves its own state in the metrics.
      self._model.reset_metrics()
      self._skipped.add_day(day)
    position = self._train_day(day_feed, step + position.tickets)
    if position.ended:
      ended = day._replace(records=position.records)
      self.callbacks.call("on_day_trained", ended, self._logs)
      self.callbacks.call("on_day_end", ended, self._logs)
    self.callbacks.call("on_moment", position)
    return position

  def _train_day(self, day_feed: feed.DayFeed, step: int) -> Position:
    """Trains on the rest of a day, or until the model is told to stop.

    No ticket is outstanding between two tickets where a callback wants a moment, and where no
    ticket is there yet.

    Args:
      day_feed: the day.
      step: the number of tickets of the epoch that are finished.

    Returns:
      The position afterwards; ended if all tickets of the day are finished.
    """
    model = self._model
    last = None  # Of the last ticket that had examples, what the program's `final` takes.
    position = self._reached(day_feed.begins_at)
    while not day_feed.is_over and not model.stop_training:
      before = position
      results = tickets_lib.trained(
        self._program.run_ticket,
        self._tickets_to_moment(day_feed, lambda: position),  # noqa: B023 The one of that time.
        model.distribute_strategy,
        self._schedule,
        self._program.apply_accumulated,
        self._skipped.explain,
      )
      with contextlib.closing(results):
        for ticket, (values, examples, skipped, tally) in results:
          position = position.after(ticket)
          if examples:  # Else all of its records are skipped, and no step has returned anything.
            last = (values,)
            self._logs = self._program.logs(values)
            if self._logs is None:
              raise ValueError(
                "Unexpected result of `train_function` (Empty logs): let train_step return a dict."
              )
          self._nonfinite.add(
            int(tally.count), self._source.place_of_example, ticket, int(tally.first)
          )
          self._finish(ticket, int(examples), skipped, step, spoilt=int(tally.count) > 0)
          position = self._counted(position)
          step += 1
      # All that have begun are finished: these are the day's first tickets, in whatever order.
      position = day_feed.reached(self._reached(position))
      if day_feed.is_over or model.stop_training:
        break
      is_idle = position.tickets == before.tickets
      if not is_idle or self.callbacks.want_moment(position):
        self.callbacks.call("on_moment", position)
      if is_idle:
        self.callbacks.call("on_idle")
        if not day_feed.wait():
          model.stop_training = True
    if last is not None:
      # A ticket does not see what those beside it added to the metrics; now all of it is there.
      self._logs = self._program.final(*last)
    return position.end() if day_feed.is_over else position

  def _tickets_to_moment(self, day_feed: feed.DayFeed, position: Any) -> Iterator[Ticket]:
    """Tickets of the day, at least one, until training is to stop or a moment is wanted."""
    tickets = itertools.islice(day_feed, self.callbacks.tickets_to_moment(position().tickets))
    while not self._model.stop_training:
      ticket = next(tickets, None)
      if ticket is None:
        return
      follow_schedules(self._model)
      self._program.read_ahead(ticket)
      if day_feed.following is not None:
        self._program.read_ahead(day_feed.following)
      yield ticket
      if self.callbacks.want_moment(position()):
        return

  def _finish(
    self, ticket: Ticket, examples: int, skipped: bad_records.Skipped, step: int, spoilt: bool
  ) -> None:
    """Tells callbacks of a finished ticket; the loss of a spoilt one is NaN to them."""
    self._memory_watch.warn()
    counts = self._skipped.add_ticket(ticket, skipped)
    if counts:
      self.callbacks.call("on_records_skipped", counts)
    trained = self._source.own_examples(examples)
    if left_out := ticket.records - trained - sum(counts.values()):
      self.callbacks.call("on_examples_left_out", left_out)
    self.callbacks.call("on_ticket_end", ticket)
    # Several tickets run at once, so a ticket "begins" for callbacks when it is finished.
    self.callbacks.on_train_batch_begin(step)
    logs = logs_lib.with_nan_loss(self._logs) if spoilt else self._logs
    self.callbacks.on_train_batch_end(step, logs)

  def _reached(self, position: Position) -> Position:
    return self._counted(position.before_ticket(self._schedule.next_ticket))

  def _counted(self, position: Position) -> Position:
    """The position, after a run that has counted what is counted so far."""
    position = position.with_skipped(self._skipped.counts)
    return position.with_nonfinite_steps(self._nonfinite.count)


def _train_step(model: Model, class_weight: dict[int, float] | None) -> Callable[[Any], Any]:
  """The model's step, on batches that are weighted by class as Keras does."""
  weigh = compat.class_weighted(class_weight) if class_weight else None

  def train_step(batch: Any) -> Any:
    if weigh is not None:
      batch = weigh(*keras.utils.unpack_x_y_sample_weight(batch))
    with owner.calling(model):
      return users(model.train_step)(batch)

  return train_step
