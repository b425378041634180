"""The ticket loops behind `tfps.Model.fit`, `evaluate` and `predict` on a source."""

import contextlib
import itertools

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfps import native
from tfps.cluster import memory
from tfps.data import bad_records
from tfps.layers.embedding import tables_of
from tfps.training import feed
from tfps.training import tickets as tickets_lib
from tfps.training.schedule import Schedule


class _CallbackList(keras.callbacks.CallbackList):
  """Keras's callbacks; batch-level ones too under a ParameterServerStrategy, once for each finished ticket."""

  def __init__(self, *args, **kwargs):
    super().__init__(*args, **kwargs)
    # Keras warns where callbacks take longer than a batch, and here all of it is behind a ticket when they are called.
    self._check_timing = False

  def _disallow_batch_hooks_in_ps_strategy(self):
    # Keras refuses them there since its logs are remote values; those of a finished ticket are numbers.
    pass

  def call_day_hook(self, hook, *args):
    for callback in self.callbacks:
      if hasattr(callback, hook):
        getattr(callback, hook)(*args)

  def tell_skipped(self, counts):
    """Tells callbacks what a ticket had that was skipped: {reason: how many}."""
    if counts:
      self.call_day_hook("on_records_skipped", counts)

  def resume(self):
    """The `Position` from which a callback says to go on, None to begin with the first ticket."""
    positions = [callback.resume() for callback in self.callbacks if hasattr(callback, "resume")]
    return next((position for position in positions if position is not None), None)

  def want_moment(self, position):
    """Whether a callback wants no ticket to be running, now that those up to `position` are finished."""
    wants = [
      callback.wants_moment for callback in self.callbacks if hasattr(callback, "wants_moment")
    ]
    return any([want(position) for want in wants])

  def tickets_to_moment(self, done):
    """How many tickets may run before a callback wants none to be running, after `done` of a day; None for all."""
    every = [getattr(callback, "moment_every_tickets", None) for callback in self.callbacks]
    return min((n - done % n for n in every if n), default=None)


def fit(
  model, source, *, epochs, initial_epoch, verbose, callbacks, validation_source, communication
):
  """Trains on every ticket of `source`, day by day; see `tfps.Model.fit`."""
  if source.is_endless and epochs > 1:
    raise ValueError(f"epochs is {epochs}, but a stream is read once: leave it at 1.")
  strategy = model.distribute_strategy
  with strategy.scope():
    model.build_for(source)
    train_ticket = model.make_ticket_function("train", source, communication)
    callbacks = _CallbackList(
      callbacks,
      add_history=True,
      add_progbar=bool(verbose),
      model=model,
      verbose=verbose,
      epochs=epochs,
      steps=_steps(source) if verbose else None,
    )
    model.stop_training = False
    callbacks.on_train_begin()
    resumed = callbacks.resume()
    first = _first_number(model, resumed)
    model.begin_tickets(first)
    schedule = Schedule(communication, tickets_lib.num_workers(strategy), first)
    model._schedule = schedule
    skipped = bad_records.SkippedRecords(source, resumed.skipped if resumed is not None else None)
    logs, epoch_logs = {}, {}
    if resumed is not None:
      initial_epoch = max(initial_epoch, resumed.epoch)
      logs = {metric.name: metric.result().numpy() for metric in model.metrics}
    for epoch in range(initial_epoch, epochs):
      if resumed is None or epoch > resumed.epoch:
        model.reset_metrics()
      callbacks.on_epoch_begin(epoch)
      step = 0
      for day_feed in feed.days(source, epoch, resumed):
        day, position = day_feed.day, day_feed.begins_at
        if position.ended:
          step += day_feed.tickets()
          continue
        position = position.with_skipped(skipped.counts)
        if position.tickets:
          callbacks.call_day_hook("on_day_resume", day, position.records)
        else:
          callbacks.call_day_hook("on_day_begin", day)
          # A progressive test within the day's hook leaves its own state in the metrics.
          model.reset_metrics()
          skipped.add_day(day)
        position, day_logs = _train_day(
          model, train_ticket, schedule, day_feed, step + position.tickets, callbacks, skipped
        )
        logs = day_logs or logs
        step += position.tickets
        if position.ended:
          ended = day._replace(records=position.records)
          callbacks.call_day_hook("on_day_end", ended, logs)
        callbacks.call_day_hook("on_moment", position)
        if model.stop_training:
          break
      epoch_logs = {name: float(value) for name, value in logs.items()}
      if validation_source is not None:
        validation = evaluate(model, validation_source, verbose=0, callbacks=None)
        epoch_logs.update({f"val_{name}": value for name, value in validation.items()})
      callbacks.on_epoch_end(epoch, epoch_logs)
      if model.stop_training:
        break
    callbacks.on_train_end(epoch_logs)
  return model.history


def _first_number(model, resumed):
  """A number that no ticket has had: neither before the checkpoint, nor in an earlier `fit` on the same tables."""
  numbers = [max(table.clocks()) for table in tables_of(model)]
  if (earlier := getattr(model, "_schedule", None)) is not None:
    numbers.append(earlier.next_ticket)
  numbers.append(resumed.next_ticket if resumed is not None else 0)
  return max(numbers)


def _train_day(model, train_ticket, schedule, day_feed, step, callbacks, skipped):
  """Trains on the rest of a day, or until the model is told to stop.

  Between two tickets where a callback wants a moment, and where no ticket is there yet, none is outstanding.

  Args:
    schedule: the fit's `Schedule`.
    day_feed: of `feed.days`, the day and its tickets that are not finished.
    step: how many tickets of the epoch are finished.
    skipped: the `bad_records.SkippedRecords` of the fit.

  Returns:
    (the `Position` afterwards, as ended if all of the day's tickets are finished; the metrics then).
  """
  logs = {}
  position = day_feed.begins_at.before_ticket(schedule.next_ticket).with_skipped(skipped.counts)
  memory_watch = memory.MemoryWatch(tell=native.tell_memory_share)
  while not day_feed.is_over and not model.stop_training:
    run = itertools.islice(day_feed, callbacks.tickets_to_moment(position.tickets))
    run = _until_stopped(model, run, lambda: callbacks.want_moment(position))
    results = tickets_lib.trained(
      train_ticket,
      run,
      model.distribute_strategy,
      schedule,
      model.apply_accumulated,
      skipped.explain,
    )
    before = position
    with contextlib.closing(results):
      for ticket, (logs, of_ticket) in results:
        memory_watch.warn()
        callbacks.tell_skipped(skipped.add_ticket(ticket, of_ticket))
        position = position.after(ticket).with_skipped(skipped.counts)
        callbacks.call_day_hook("on_ticket_end", ticket)
        # Several tickets run at once, so a ticket "begins" for callbacks when it is finished.
        callbacks.on_train_batch_begin(step)
        callbacks.on_train_batch_end(step, logs)
        step += 1
    # All that have begun are finished, so that the day's first tickets are, in whatever order.
    position = day_feed.reached(position.before_ticket(schedule.next_ticket))
    if day_feed.is_over or model.stop_training:
      break
    is_idle = position.tickets == before.tickets
    if not is_idle or callbacks.want_moment(position):
      callbacks.call_day_hook("on_moment", position)
    if is_idle:
      callbacks.call_day_hook("on_idle")
      if not day_feed.wait():
        model.stop_training = True
  if logs:
    # A ticket does not see what those beside it added to the metrics; now all is there.
    logs = {metric.name: metric.result().numpy() for metric in model.metrics}
  return (position.end() if day_feed.is_over else position), logs


def _until_stopped(model, tickets, wants_moment):
  """Yields tickets, at least one, until the model is told to stop or a moment is wanted."""
  while not model.stop_training:
    ticket = next(tickets, None)
    if ticket is None:
      return
    yield ticket
    if wants_moment():
      return


def _steps(source):
  """How many tickets a source has; None if it is endless."""
  return None if source.is_endless else sum(1 for _ in source.tickets())


def evaluate(model, source, *, verbose, callbacks):
  """Scores every example of `source` once and returns {metric name: float}; see `tfps.Model.evaluate`."""
  with model.distribute_strategy.scope():
    model.build_for(source)
    model.reset_metrics()
    steps = _steps(source) if verbose else None
    callbacks = _CallbackList(
      callbacks, add_progbar=bool(verbose), model=model, verbose=verbose, epochs=1, steps=steps
    )
    callbacks.on_test_begin()
    logs = {}
    for step, scored in enumerate(score(model, source)):
      # The chief counts finished tickets only, so that an example of a ticket that ran twice counts once.
      if len(tf.nest.flatten(scored["y_pred"])[0]):  # Not where all of its records are skipped.
        logs = model.count_scored(scored)
      callbacks.on_test_batch_begin(step)
      callbacks.on_test_batch_end(step, logs)
    logs = {name: float(value) for name, value in logs.items()}
    callbacks.on_test_end(logs)
  return logs


def predict(model, source):
  """Predictions for every example of `source`, in its order, as NumPy; see `tfps.Model.predict`."""
  predictions = [scored["y_pred"] for scored in score(model, source)]
  return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *predictions)


def score(model, source, tickets=None, features=()):
  """Yields what was scored in one ticket after the other; see `tfps.Model.score`."""
  with model.distribute_strategy.scope():
    model.build_for(source)
    score_ticket = model.make_ticket_function("score", source, tuple(features))
  tickets = source.tickets() if tickets is None else tickets
  for _, scored in tickets_lib.scored(
    score_ticket, tickets, model.distribute_strategy, source.explain
  ):
    yield scored
