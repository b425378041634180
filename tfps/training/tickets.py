"""Running tickets: in this process, or as closures on whichever worker is free."""

import collections

import tensorflow as tf

from tfps import placement
from tfps.data.ticket import TICKET_SPEC, Ticket, as_tensors


def ticket_function(function):
  """A tf.function of one ticket, whose fields are scalar tensors inside."""

  @tf.function(input_signature=list(TICKET_SPEC))
  def run_ticket(*fields):
    return function(Ticket(*fields))

  return run_ticket


def finished(run_ticket, tickets, strategy):
  """Runs tickets and hands them on as they finish, in order.

  On a cluster a small number of tickets, two for each worker, is outstanding at any time; a ticket whose worker dies
  is run again on another.

  Args:
    run_ticket: what `ticket_function` returned.
    tickets: an iterable of `Ticket`.
    strategy: the `tf.distribute.Strategy` in whose scope the model was made.

  Yields:
    (ticket, what `run_ticket` returned, as NumPy), each ticket once, in the order of `tickets`.
  """
  if not isinstance(strategy, tf.distribute.ParameterServerStrategy):
    for ticket in tickets:
      yield ticket, _to_numpy(run_ticket(*as_tensors(ticket)))
    return
  coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
  most_outstanding = 2 * len(placement.cluster_devices("worker"))
  outstanding = collections.deque()
  try:
    for ticket in tickets:
      result = coordinator.schedule(run_ticket, args=tuple(as_tensors(ticket)))
      outstanding.append((ticket, result))
      if len(outstanding) > most_outstanding:
        yield _fetch(outstanding)
    while outstanding:
      yield _fetch(outstanding)
  except GeneratorExit:
    coordinator.join()
    raise


def _fetch(outstanding):
  ticket, result = outstanding.popleft()
  return ticket, tf.nest.map_structure(lambda value: value.fetch(), result)


def _to_numpy(result):
  return tf.nest.map_structure(lambda tensor: tensor.numpy(), result)
