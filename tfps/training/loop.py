"""The ticket loops behind `tfps.Model.fit`, `evaluate` and `predict` on a source."""

import contextlib

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfps.training import tickets as tickets_lib


class _CallbackList(keras.callbacks.CallbackList):
  """Keras's callbacks; batch-level ones too under a ParameterServerStrategy, once for each finished ticket."""

  def _disallow_batch_hooks_in_ps_strategy(self):
    # Keras refuses them there since its logs are remote values; those of a finished ticket are numbers.
    pass

  def call_day_hook(self, hook, *args):
    for callback in self.callbacks:
      if hasattr(callback, hook):
        getattr(callback, hook)(*args)


def fit(model, source, *, epochs, initial_epoch, verbose, callbacks, validation_source):
  """Trains on every ticket of `source`, day by day; see `tfps.Model.fit`."""
  strategy = model.distribute_strategy
  with strategy.scope():
    model.build_for(source)
    train_ticket = model.make_ticket_function("train", source)
    days = source.days()
    callbacks = _CallbackList(
      callbacks,
      add_history=True,
      add_progbar=bool(verbose),
      model=model,
      verbose=verbose,
      epochs=epochs,
      steps=sum(1 for _ in source.tickets()) if verbose else None,
    )
    model.stop_training = False
    callbacks.on_train_begin()
    logs, epoch_logs = {}, {}
    for epoch in range(initial_epoch, epochs):
      model.reset_metrics()
      callbacks.on_epoch_begin(epoch)
      epoch_source = source.with_epoch(epoch)
      step = 0
      for day in days:
        callbacks.call_day_hook("on_day_begin", day)
        # A progressive test within the day's hook leaves its own state in the metrics.
        model.reset_metrics()
        results = tickets_lib.finished(train_ticket, epoch_source.tickets(day), strategy)
        with contextlib.closing(results):
          for _, logs in results:
            # Several tickets run at once, so a ticket "begins" for callbacks when it is finished.
            callbacks.on_train_batch_begin(step)
            callbacks.on_train_batch_end(step, logs)
            step += 1
            if model.stop_training:
              break
        if model.stop_training:
          break  # in the middle of the day, which does not end
        callbacks.call_day_hook("on_day_end", day, logs)
      epoch_logs = {name: float(value) for name, value in logs.items()}
      if validation_source is not None:
        validation = evaluate(model, validation_source, verbose=0, callbacks=None)
        epoch_logs.update({f"val_{name}": value for name, value in validation.items()})
      callbacks.on_epoch_end(epoch, epoch_logs)
      if model.stop_training:
        break
    callbacks.on_train_end(epoch_logs)
  return model.history


def evaluate(model, source, *, verbose, callbacks):
  """Scores every example of `source` once and returns {metric name: float}; see `tfps.Model.evaluate`."""
  with model.distribute_strategy.scope():
    model.build_for(source)
    model.reset_metrics()
    steps = sum(1 for _ in source.tickets()) if verbose else None
    callbacks = _CallbackList(
      callbacks, add_progbar=bool(verbose), model=model, verbose=verbose, epochs=1, steps=steps
    )
    callbacks.on_test_begin()
    logs = {}
    for step, scored in enumerate(score(model, source)):
      # The chief counts finished tickets only, so that an example of a ticket that ran twice counts once.
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


def score(model, source):
  """Yields what was scored in one ticket after the other; see `tfps.Model.score`."""
  with model.distribute_strategy.scope():
    model.build_for(source)
    score_ticket = model.make_ticket_function("score", source)
  for _, scored in tickets_lib.finished(score_ticket, source.tickets(), model.distribute_strategy):
    yield scored
