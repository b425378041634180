"""Running tickets: in this process, or as closures on whichever worker is free."""

import collections
import contextlib
import queue
import threading
import time

import tensorflow as tf

from tfps.cluster import failures
from tfps.data.ticket import TICKET_SPEC, Ticket, as_tensors
from tfps.table import placement

_NUMBER_SPEC = tf.TensorSpec([], tf.int64)
_SETTLING_SECONDS = 0.2


def _as_it_is(ticket, error):
  del ticket
  return error


def scoring_function(function):
  """A tf.function of one ticket, whose fields are scalar tensors inside."""

  @tf.function(input_signature=list(TICKET_SPEC))
  def run_ticket(*fields):
    return function(Ticket(*fields))

  return run_ticket


def training_function(function):
  """The same of a ticket, its number, and the number below which all tickets are finished everywhere."""

  @tf.function(input_signature=[*TICKET_SPEC, _NUMBER_SPEC, _NUMBER_SPEC])
  def run_ticket(*arguments):
    *fields, number, finished_below = arguments
    return function(Ticket(*fields), number, finished_below)

  return run_ticket


def scored(run_ticket, tickets, strategy, explain=_as_it_is):
  """Runs tickets that change nothing and hands them on as they finish, in order.

  On a cluster a small number of tickets, two for each worker, is outstanding at any time; a ticket whose worker dies
  is run again on another.

  Args:
    run_ticket: what `scoring_function` returned.
    tickets: an iterable of `Ticket`.
    strategy: the `tf.distribute.Strategy` in whose scope the model was made.
    explain: a function of a ticket and the error of TensorFlow's with which it failed; returns what is raised.

  Yields:
    (ticket, what `run_ticket` returned, as NumPy), each ticket once, in the order of `tickets`.
  """
  if not is_cluster(strategy):
    for ticket in tickets:
      with _explained(explain, ticket):
        result = _to_numpy(run_ticket(*as_tensors(ticket)))
      yield ticket, result
    return
  coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
  most_outstanding = 2 * num_workers(strategy)
  outstanding = collections.deque()
  try:
    for ticket in tickets:
      result = coordinator.schedule(run_ticket, args=tuple(as_tensors(ticket)))
      outstanding.append((ticket, result))
      if len(outstanding) > most_outstanding:
        yield _fetched(outstanding, explain)
    while outstanding:
      yield _fetched(outstanding, explain)
  except GeneratorExit:
    coordinator.join()
    raise


def trained(run_ticket, tickets, strategy, schedule, apply, explain=_as_it_is):
  """Runs tickets when `schedule` lets them, and hands them on as they finish, in whatever order that is.

  In sync the tickets of a round are handed on once they are applied. When `tickets` ends, so does the round. A ticket
  whose worker dies is run again on another, with the same number.

  Args:
    run_ticket: what `training_function` returned.
    tickets: an iterable of `Ticket`.
    strategy: the `tf.distribute.Strategy` in whose scope the model was made.
    schedule: a `tfps.training.schedule.Schedule` that has no ticket running.
    apply: function that applies what the tickets of a round have accumulated; only called in sync.
    explain: a function of a ticket and the error of TensorFlow's with which it failed; returns what is raised.

  Yields:
    (ticket, what `run_ticket` returned, as NumPy), each ticket once.
  """
  tickets = iter(tickets)
  runner = _OnWorkers(run_ticket, strategy) if is_cluster(strategy) else _InProcess(run_ticket)
  running, finished = {}, []
  is_last = False
  try:
    while not is_last or running:
      while not is_last and schedule.may_begin():
        ticket = next(tickets, None)
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
def _explained(explain, ticket):
  """Has an error of TensorFlow's explained; not those of a lost or busy cluster, which are none of the ticket."""
  try:
    yield
  except (tf.errors.InvalidArgumentError, tf.errors.DataLossError, UnicodeDecodeError) as error:
    raise explain(ticket, failures.readable(error)) from error


def _fetched(outstanding, explain):
  ticket, result = outstanding.popleft()
  with _explained(explain, ticket):
    return ticket, _fetch(result)


def is_cluster(strategy):
  """Whether tickets run on workers."""
  return isinstance(strategy, tf.distribute.ParameterServerStrategy)


def num_workers(strategy):
  """How many workers run tickets; 0: this process does."""
  return len(placement.cluster_devices("worker")) if is_cluster(strategy) else 0


class _InProcess:
  """Runs tickets one after the other, here."""

  def __init__(self, run_ticket):
    self._run_ticket = run_ticket
    self._finished = []

  def start(self, number, arguments):
    result = error = None
    try:
      result = _to_numpy(self._run_ticket(*arguments))
    except (tf.errors.OpError, UnicodeDecodeError) as failure:
      error = failure
    self._finished.append((number, result, error))

  def wait(self):
    finished, self._finished = self._finished, []
    return finished

  def join(self):
    pass


class _OnWorkers:
  """Runs tickets on whichever worker is free."""

  def __init__(self, run_ticket, strategy):
    self._run_ticket = run_ticket
    self._coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    self._finished = queue.SimpleQueue()

  def start(self, number, arguments):
    try:
      result = self._coordinator.schedule(self._run_ticket, args=arguments)
    except (tf.errors.OpError, UnicodeDecodeError) as error:  # That of an earlier one.
      self._finished.put((number, None, tf.errors.CancelledError(None, None, str(error))))
      return
    # A daemon, as the coordinator's own threads: what a lost cluster never answers does not keep the process.
    threading.Thread(target=self._await, args=(number, result), daemon=True).start()

  def wait(self):
    """[(number, what it returned, None or its error)] of those that are finished, at least one."""
    finished = [self._finished.get()]
    while not self._finished.empty():
      finished.append(self._finished.get())
    # One that failed by itself comes before those that the coordinator cancelled for its sake.
    errors = [error for _, _, error in finished if error is not None]
    while errors and all(map(_is_cancelled, errors)):
      try:
        finished.append(self._finished.get(timeout=10 * _SETTLING_SECONDS))
      except queue.Empty:
        break
      errors = [error for _, _, error in finished if error is not None]
    return sorted(finished, key=lambda entry: entry[2] is None or _is_cancelled(entry[2]))

  def join(self):
    self._coordinator.join()

  def _await(self, number, result):
    try:
      self._finished.put((number, _fetch(result), None))
    except Exception as error:  # Whatever it is, it is raised where the ticket is awaited.
      self._finished.put((number, None, error))


def _is_cancelled(error):
  return isinstance(error, tf.errors.CancelledError)


def _fetch(result):
  """What a scheduled ticket returned, as NumPy.

  A worker that dies while its result is being copied fails the copy, and the coordinator runs the ticket again. The
  error with which a ticket has failed for good is the same object every time; the first call may miss it and find
  nothing.
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


def _to_numpy(result):
  return tf.nest.map_structure(lambda tensor: tensor.numpy(), result)
