"""The callbacks of one `fit` or `evaluate` on a source."""

from __future__ import annotations

from typing import Any

import tf_keras as keras

from tfps.graph import compat
from tfps.training.callback import check_hooks
from tfps.training.labels import LabelCheck
from tfps.training.position import Position
from tfps.training.without_rows import check_callbacks


# The logs of a finished ticket are numbers, and hooks may take longer than a batch.
@compat.with_batch_hooks
class CallbackList(keras.callbacks.CallbackList):
  """Keras's list of callbacks, which also calls the hooks of `tfps.callbacks.Callback`.

  Batch-level hooks are called under a ParameterServerStrategy, too: once for each finished ticket.

  Args:
    callbacks: Keras callbacks or a `CallbackList`, as `keras.Model.fit` takes them; plain Keras
      callbacks may have hooks of `tfps.callbacks.Callback`.
    **kwargs: as `keras.callbacks.CallbackList` takes them.

  Raises:
    ValueError: a callback has a method that looks like a hook of `tfps.callbacks.Callback`, or
      keeps dense weights without the rows or the position that belong to them.
  """

  def __init__(self, callbacks: Any, **kwargs: Any):
    if isinstance(callbacks, keras.callbacks.CallbackList):
      callbacks = callbacks.callbacks
    super().__init__(callbacks, **kwargs)
    check_hooks(self.callbacks)
    check_callbacks(self.model, self.callbacks, on_source=True)
    boards = keras.callbacks.TensorBoard
    self._counts = any(isinstance(callback, boards) for callback in self.callbacks)
    self._trained = 0
    self._labels = LabelCheck()
    self._labels.set_model(self.model)

  def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
    self._trained += 1
    if self._counts:
      compat.count_trained(self.model, self._trained)
    super().on_train_batch_end(batch, logs)
    if self._trained == 1:
      self._labels.look()

  def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
    self._labels.look()
    super().on_epoch_end(epoch, logs)

  @property
  def sees_test_batches(self) -> bool:
    """Whether a callback has a hook for the batches of an evaluation."""
    hooks = ("on_test_batch_begin", "on_test_batch_end")
    return any(
      getattr(getattr(callback, hook), "__func__", None)
      is not getattr(keras.callbacks.Callback, hook)
      for callback in self.callbacks
      for hook in hooks
    )

  def call(self, hook: str, *args: Any) -> None:
    """Calls a hook of all callbacks that have it, in order."""
    for callback in self.callbacks:
      if hasattr(callback, hook):
        getattr(callback, hook)(*args)

  def resume(self) -> Position | None:
    """The position from which a callback says to go on; None to begin with the first ticket."""
    positions = [callback.resume() for callback in self.callbacks if hasattr(callback, "resume")]
    return next((position for position in positions if position is not None), None)

  def want_moment(self, position: Position) -> bool:
    """Whether a callback wants no ticket to be running, now that `position` is reached."""
    wants = [
      callback.wants_moment for callback in self.callbacks if hasattr(callback, "wants_moment")
    ]
    return any([want(position) for want in wants])

  def tickets_to_moment(self, done: int) -> int | None:
    """How many tickets may run before a callback wants a moment; None for all.

    Args:
      done: the number of the day's tickets that are finished.
    """
    every = [getattr(callback, "moment_every_tickets", None) for callback in self.callbacks]
    return min((n - done % n for n in every if n), default=None)
