"""The base class of callbacks that follow the training calendar of a source."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import tf_keras as keras

if TYPE_CHECKING:
  from tfps.data.ticket import Day, Ticket
  from tfps.training.position import Position

Logs = dict[str, Any] | None


class Callback(keras.callbacks.Callback):
  """A Keras callback with the hooks of `fit` on a source; override those that are needed.

  Besides Keras's own hooks, whose batch-level ones are called once for each finished ticket, `fit`
  on a `tfps.data` source calls these, in this order:

  * `on_day_begin`, or `on_day_resume` where a run goes on within a day from a checkpoint;
  * `on_records_skipped`, `on_examples_left_out`, `on_ticket_end` and Keras's batch hooks, after
    each ticket;
  * `on_moment`, and on a stream without new samples `on_idle`, when no ticket is running;
  * `on_day_trained` of all callbacks, then `on_day_end` of all callbacks, then `on_moment`.

  A method named `on_...` that is none of Keras's hooks and none of these is an error, so that a
  misspelt hook cannot go unnoticed. In `fit` on arrays only Keras's hooks are called.

  Attributes:
    moment_every_tickets: how many tickets of a day lie between two moments that the callback asks
      for; None for no moments within a day.

  Raises:
    TypeError: (when a subclass is defined) a method is named like a hook, but is none.

  Examples:
    >>> class Days(tfps.callbacks.Callback):
    ...   def on_day_end(self, day, logs=None):
    ...     print(day.name)
    >>> history = model.fit(source, callbacks=[Days()], verbose=0)
    day-0
    day-1
    >>> class Misspelt(tfps.callbacks.Callback):
    ...   def on_day_ended(self, day, logs=None):
    ...     print(day.name)
    Traceback (most recent call last):
    TypeError: Misspelt.on_day_ended is no hook of a callback: did you mean on_day_end?
  """

  moment_every_tickets: int | None = None

  def __init_subclass__(cls, **kwargs: Any) -> None:
    super().__init_subclass__(**kwargs)
    for name in vars(cls):
      if name.startswith("on_") and name not in HOOKS:
        raise TypeError(f"{cls.__name__}.{name} is no hook of a callback: {_remedy(name, HOOKS)}")

  def on_day_begin(self, day: Day) -> None:
    """Called before the first ticket of `day`."""

  def on_day_resume(self, day: Day, records: int) -> None:
    """Called instead of `on_day_begin` where a run goes on in the middle of `day`.

    Args:
      day: the day.
      records: the number of its examples that were trained before the checkpoint.
    """

  def on_ticket_end(self, ticket: Ticket) -> None:
    """Called when a ticket is finished, in the order in which tickets finish."""

  def on_records_skipped(self, counts: dict[str, int]) -> None:
    """Called after a ticket some of whose records were bad and skipped: {reason: number}."""

  def on_examples_left_out(self, count: int) -> None:
    """Called after a ticket with examples that a split or down-sampling of the source left out."""

  def on_moment(self, position: Position) -> None:
    """Called when no ticket is running; everything before `position` is trained, nothing after."""

  def on_idle(self) -> None:
    """Called whenever a stream was read and had nothing new."""

  def on_day_trained(self, day: Day, logs: Logs = None) -> None:
    """Called when all tickets of `day` are finished, before any callback's `on_day_end`.

    The tables still hold what the day has trained: nothing is evicted or decayed yet.
    """

  def on_day_end(self, day: Day, logs: Logs = None) -> None:
    """Called when `day` ends, with the day's metrics as `logs`."""

  def resume(self) -> Position | None:
    """Called before the first ticket: the position from which `fit` goes on, None to begin."""
    return None

  def wants_moment(self, position: Position) -> bool:
    """Called between tickets: whether `fit` waits until no ticket is running."""
    del position
    return False


def _hooks_of(cls: type) -> tuple[str, ...]:
  return tuple(name for name in dir(cls) if name.startswith("on_"))


HOOKS = frozenset(_hooks_of(Callback))
_OWN_HOOKS = sorted(HOOKS - set(_hooks_of(keras.callbacks.Callback)))
_LIKE_OWN = ("on_day", "on_moment", "on_ticket", "on_idle", "on_record", "on_example")


def check_hooks(callbacks: Iterable[keras.callbacks.Callback]) -> None:
  """Raises ValueError for a method of a plain Keras callback that looks like one of our hooks."""
  for callback in callbacks:
    for name in _hooks_of(callback):
      if name not in HOOKS and _looks_like_own(name):
        raise ValueError(
          f"{type(callback).__name__}.{name} is no hook of a callback: {_remedy(name, _OWN_HOOKS)}"
        )


def _looks_like_own(name: str) -> bool:
  return name.startswith(_LIKE_OWN) or bool(difflib.get_close_matches(name, _OWN_HOOKS, 1, 0.85))


def _remedy(name: str, hooks: Iterable[str]) -> str:
  near = difflib.get_close_matches(name, hooks, 1)
  if near:
    return f"did you mean {near[0]}?"
  return "rename it; a source has " + ", ".join(_OWN_HOOKS) + "."
