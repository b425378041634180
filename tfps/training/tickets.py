"""Running tickets: in this process, or as closures on whichever worker is free."""

from __future__ import annotations

import collections
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfps.cluster import failures
from tfps.data.ticket import TICKET_SPEC, Ticket, as_tensors
from tfps.table import placement
from tfps.training.schedule import Schedule

_NUMBER_SPEC = tf.TensorSpec([], tf.int64)
_SETTLING_SECONDS = 0.2


Explain = Callable[[Ticket, BaseException], BaseException]
# Of a ticket: its number, its result as NumPy or None, its error or None.
Finished = tuple[int, Any, Exception | None]


def _as_it_is(ticket: Ticket, error: BaseException) -> BaseException:
  del ticket
  return error


def scoring_function(function: Callable[..., Any], specs: Sequence[tf.TensorSpec] = ()) -> Any:
  """A tf.function of one ticket, whose fields are scalar tensors inside, and of other tensors."""

  @tf.function(input_signature=[*TICKET_SPEC, *specs])
  def run_ticket(*arguments: tf.Tensor) -> Any:
    fields = len(TICKET_SPEC)
    return function(Ticket(*arguments[:fields]), *arguments[fields:])

  return run_ticket


def training_function(function: Callable[..., Any]) -> Any:
  """A tf.function of a ticket, its number, and the number below which all are finished."""

  @tf.function(input_signature=[*TICKET_SPEC, _NUMBER_SPEC, _NUMBER_SPEC])
  def run_ticket(*arguments: tf.Tensor) -> Any:
    *fields, number, finished_below = arguments
    return function(Ticket(*fields), number, finished_below)

  return run_ticket


def scored(
  run_ticket: Any,
  tickets: Iterable[Ticket],
  strategy: tf.distribute.Strategy,
  explain: Explain = _as_it_is,
  arguments: Sequence[tf.Tensor] = (),
) -> Iterator[tuple[Ticket, Any]]:
  """Runs tickets that change nothing and yields them as they finish, in order.

  On a cluster a small number of tickets, two for each worker, is outstanding at any time; a ticket
  whose worker dies is run again on another.

  Args:
    run_ticket: what `scoring_function` returned.
    tickets: an iterable of `Ticket`.
    strategy: the `tf.distribute.Strategy` in whose scope the model was made.
    explain: a function of a ticket and the TensorFlow error with which it failed; returns the error
      that is raised.
    arguments: what `run_ticket` takes beside a ticket.

  Yields:
    (ticket, what `run_ticket` returned, as NumPy), each ticket once, in the order of `tickets`.
  """
  if not is_cluster(strategy):
    for ticket in tickets:
      with _explained(explain, ticket):
        result = _to_numpy(run_ticket(*as_tensors(ticket), *arguments))
      yield ticket, result
    return
  coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
  most_outstanding = 2 * num_workers(strategy)
  outstanding: collections.deque = collections.deque()
  try:
    for ticket in tickets:
      result = coordinator.schedule(run_ticket, args=(*as_tensors(ticket), *arguments))
      outstanding.append((ticket, result))
      if len(outstanding) > most_outstanding:
        yield _fetched(outstanding, explain)
    while outstanding:
      yield _fetched(outstanding, explain)
  except GeneratorExit:
    coordinator.join()
    raise


def trained(
  run_ticket: Any,
  tickets: Iterable[Ticket],
  strategy: tf.distribute.Strategy,
  schedule: Schedule,
  apply: Callable[[], Any],
  explain: Explain = _as_it_is,
) -> Generator[tuple[Ticket, Any], None, None]:
  """Runs tickets when `schedule` lets them, and yields them as they finish, in whatever order.

  In sync the tickets of a round are yielded once they are applied. When `tickets` ends, so does the
  round. A ticket whose worker dies is run again on another, with the same number.

  Args:
    run_ticket: what `training_function` returned.
    tickets: an iterable of `Ticket`.
    strategy: the `tf.distribute.Strategy` in whose scope the model was made.
    schedule: a `tfps.training.schedule.Schedule` that has no ticket running.
    apply: a function that applies the sums that a round's tickets have accumulated; of sync.
    explain: a function of a ticket and the TensorFlow error with which it failed; returns the error
      that is raised.

  Yields:
    (ticket, what `run_ticket` returned, as NumPy), each ticket once.
  """
  remaining = iter(tickets)
  runner: _Runner = (
    _OnWorkers(run_ticket, strategy) if is_cluster(strategy) else _InProcess(run_ticket)
  )
  running: dict[int, Ticket] = {}
  finished: list[tuple[Ticket, Any]] = []
  is_last = False
  try:
    while not is_last or running:
      while not is_last and schedule.may_begin():
        ticket = next(remaining, None)
        if ticket is None:
          is_last = True
          break
        finished_below, number = schedule.finished_below, schedule.begin()
        running[number] = ticket
        numbers = tf.constant(number, tf.int64), tf.constant(finished_below, tf.int64)
        runner.start(number, (*as_tensors(ticket), *numbers))
      for number, result, error in runner.wait() if running else ():
        if error is not None:
          with _explained(explain, running[number]):
            raise error
        schedule.finish(number)
        finished.append((running.pop(number), result))
      if schedule.step_is_due:
        apply()
        schedule.step()
      if not schedule.is_accumulating:
        yield from finished
        finished.clear()
  except GeneratorExit:
    runner.join()
    raise


@contextlib.contextmanager
def _explained(explain: Explain, ticket: Ticket) -> Iterator[None]:
  """Explains a TensorFlow error of a ticket; errors of a lost or busy cluster pass as they are."""
  try:
    yield
  except (tf.errors.InvalidArgumentError, tf.errors.DataLossError, UnicodeDecodeError) as error:
    raise explain(ticket, failures.readable(error)) from error


def _fetched(outstanding: collections.deque, explain: Explain) -> tuple[Ticket, Any]:
  ticket, result = outstanding.popleft()
  with _explained(explain, ticket):
    return ticket, _fetch(result)


def is_cluster(strategy: tf.distribute.Strategy) -> bool:
  """Whether tickets run on workers."""
  return isinstance(strategy, tf.distribute.ParameterServerStrategy)


def num_workers(strategy: tf.distribute.Strategy) -> int:
  """The number of workers that run tickets; 0: this process does."""
  return len(placement.cluster_devices("worker")) if is_cluster(strategy) else 0


class _Runner:
  """Runs tickets that are told apart by their numbers."""

  def start(self, number: int, arguments: tuple) -> None:
    """Starts a ticket."""

  def wait(self) -> list[Finished]:
    """Those that have finished since the last call, at least one; errors of their own first."""
    return []

  def join(self) -> None:
    """Waits until none is running."""


class _InProcess(_Runner):
  """Runs tickets one after the other, here."""

  def __init__(self, run_ticket: Any):
    self._run_ticket = run_ticket
    self._finished: list[Finished] = []

  def start(self, number: int, arguments: tuple) -> None:
    result: Any = None
    error: Exception | None = None
    try:
      result = _to_numpy(self._run_ticket(*arguments))
    except (tf.errors.OpError, UnicodeDecodeError) as failure:
      error = failure
    self._finished.append((number, result, error))

  def wait(self) -> list[Finished]:
    finished, self._finished = self._finished, []
    return finished


class _OnWorkers(_Runner):
  """Runs tickets on whichever worker is free."""

  def __init__(self, run_ticket: Any, strategy: tf.distribute.Strategy):
    self._run_ticket = run_ticket
    self._coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    self._finished: queue.SimpleQueue[Finished] = queue.SimpleQueue()

  def start(self, number: int, arguments: tuple) -> None:
    try:
      result = self._coordinator.schedule(self._run_ticket, args=arguments)
    except (tf.errors.OpError, UnicodeDecodeError) as error:  # That of an earlier one.
      self._finished.put((number, None, tf.errors.CancelledError(None, None, str(error))))
      return
    # A daemon, as the threads of the coordinator: a lost cluster must not keep the process.
    threading.Thread(target=self._await, args=(number, result), daemon=True).start()

  def wait(self) -> list[Finished]:
    finished = [self._finished.get()]
    while not self._finished.empty():
      finished.append(self._finished.get())
    # A ticket that failed comes before those that the coordinator cancelled for its sake.
    errors = [error for _, _, error in finished if error is not None]
    while errors and all(map(_is_cancelled, errors)):
      try:
        finished.append(self._finished.get(timeout=10 * _SETTLING_SECONDS))
      except queue.Empty:
        break
      errors = [error for _, _, error in finished if error is not None]
    return sorted(finished, key=lambda entry: entry[2] is None or _is_cancelled(entry[2]))

  def join(self) -> None:
    self._coordinator.join()

  def _await(self, number: int, result: Any) -> None:
    try:
      self._finished.put((number, _fetch(result), None))
    except Exception as error:  # Whatever it is, it is raised where the ticket is awaited.
      self._finished.put((number, None, error))


def _is_cancelled(error: Exception | None) -> bool:
  return isinstance(error, tf.errors.CancelledError)


def _fetch(result: Any) -> Any:
  """What a scheduled ticket returned, as NumPy.

  A worker that dies while its result is being copied fails the copy, and the coordinator runs the
  ticket again. The error with which a ticket has failed for good is the same object every time; the
  first call may miss it and find nothing.
  """
  last = None
  while True:
    try:
      if (values := result.fetch()) is not None:
        return values
    except tf.errors.OpError as error:
      if error is last:
        raise
      last = error
    time.sleep(_SETTLING_SECONDS)


def _to_numpy(result: Any) -> Any:
  to_numpy = lambda value: value.numpy() if isinstance(value, (tf.Tensor, tf.Variable)) else value
  return tf.nest.map_structure(to_numpy, result)
