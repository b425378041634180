"""What a worker does with a ticket: pull, compute and push batch after batch, on a copy of the dense weights."""

import functools
from typing import NamedTuple

import tensorflow as tf

from tfps.lookup import Lookup
from tfps.step import Exchanged
from tfps.traced import Traced, identity
from tfps.training import dense
from tfps.training.gradient_sums import GradientSums
from tfps.training.loops import while_loop
from tfps.training.routes import Routes


class _Batch(NamedTuple):
  """A batch with what is to be pulled for it."""

  data: list  # the tensors of (x, y) or (x, y, weight)
  routes: list  # for each pull (keys by server, slots by server, positions)


class TicketTrainer:
  """Trains on tickets of a source as a `tfps.Communication` says; see docs/consistency.md.

  Args:
    model: the `tfps.Model`, built for the source.
    source: the `tfps.data` source.
    communication: the `tfps.Communication`.

  Attributes:
    tables: the `tfps.FeasignTable`s that are pulled from.
    lookups: (table, row width) for each pull of a forward pass, in order.
    route: the `Routes`: what the pulls of a batch want.
    train: the `Traced` train step of a batch and what was pulled for it; returns the pushes.
    ahead: whether a batch's pull runs before the push of the one before it.
    window: pushes are sent with every so manyth pull.
    gradient_sums: the `GradientSums` that hold what tickets add until the chief takes a step; None unless steps are
      synchronous.

  Raises:
    ValueError: the model cannot be trained so.
  """

  def __init__(self, model, source, communication):
    self.source = source
    self.communication = communication
    synchronous = communication.consistency == "sync"
    self._merges = synchronous or not communication.dense_local_steps
    self._sums = GradientSums(model) if self._merges else None
    self.gradient_sums = self._sums if synchronous else None
    # Where others may not run ahead, a worker's own pulls do not run ahead of its pushes either.
    self.ahead = communication.prefetch and communication.consistency != "bounded"
    self.window = communication.push_window if communication.consistency == "async" else 1

    spec = source.element_spec
    self.route = Routes(model, spec)
    self.lookups = self.route.lookups
    if self.route.need_pulls:
      raise ValueError(
        f"model '{model.name}' computes the ids of one embedding layer from what another one pulled: on a cluster all of a "
        "batch is pulled at once, so give both layers features of the batch."
      )
    self.tables = list(dict.fromkeys(table for table, _ in self.lookups))
    routes = tf.nest.map_structure(
      tf.TensorSpec.from_tensor, self.route.traced.concrete.structured_outputs
    )
    replies = [[tf.TensorSpec([None], tf.uint8)] * len(keys) for keys, _, _ in routes]
    trace = functools.partial(self._trace_step, model)
    self.train = Traced(trace, spec, routes, replies, tf.TensorSpec([3], tf.int64))
    if self._sums is not None and not self._sums.was_given:
      raise ValueError(
        f"model '{model.name}' has a train_step that calls its optimizer itself: let it call self.apply_gradients, so that "
        "gradients can be merged."
      )
    self._results = Traced(functools.partial(_results, model), side_effects=False)
    strategy = model.distribute_strategy
    apply = lambda: strategy.run(self._sums.apply)  # noqa: E731
    self._apply = Traced(apply) if self._merges and not synchronous else None
    self._apply_sums = tf.function(apply) if synchronous else None
    self._place_dense(model)

  def begin(self, first_number):
    """Called at a moment, before any ticket: forgets what a run that failed may have left.

    Args:
      first_number: all tickets of earlier runs have smaller ones.
    """
    for table in self.tables:
      table.set_clocks(first_number)
    if self.gradient_sums is not None:
      self.gradient_sums.clear()

  def apply_accumulated(self):
    """One step with everything that the tickets since the last one accumulated on the parameter servers.

    Nothing where steps are not synchronous.
    """
    if self.gradient_sums is not None:
      for table in self.tables:
        table.apply_accumulated()
      self._apply_sums()

  def _trace_step(self, model, data, routes, replies, step):
    """One train step; what it pushes, for each table by server."""

    def train(data, routes, replies, step):
      lookups = [Lookup(None, *route, None, None, reply) for route, reply in zip(routes, replies)]
      wire_dtype = self.communication.wire_dtype
      with Exchanged(lookups, step, wire_dtype, self._sums) as exchanged:
        model.train_step(data)
      return [exchanged.pushes[table] for table in self.tables]

    return model.distribute_strategy.run(train, args=(data, routes, replies, step))

  def _place_dense(self, model):
    """Says which variables a ticket reads and which it merges, and puts them in the servers' hands."""
    traced = [part for part in (self.train, self._results, self._apply) if part is not None]
    unique = lambda lists: list({identity(v): v for part in lists for v in part}.values())  # noqa: E731
    self._variables = unique(part.variables for part in traced)
    changed = unique(part.changed for part in traced)
    sums = self._sums.variables if self._merges else []
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

  @tf.autograph.experimental.do_not_convert
  def __call__(self, dataset, records, number, finished_below):
    """Trains on one ticket; traced once, and run by a worker.

    Args:
      dataset: the ticket's, as the source opened it.
      records: int64 scalar, how many examples it holds.
      number: int64 scalar, the ticket's own.
      finished_below: int64 scalar; all tickets with a smaller number are finished.

    Returns:
      {metric name: value} as the worker knows it.
    """
    count = -(-records // self.source.batch_size)
    every = self.communication.dense_sync_every
    batches = _Batches(self, iter(dataset), count, number, finished_below)
    state = batches.begin()
    if not every:
      logs, state = self._group(batches, tf.zeros([], tf.int64), count, state)
    else:
      logs = {
        name: tf.zeros(t.shape, t.dtype)
        for name, t in self._results.concrete.structured_outputs.items()
      }
      first = tf.zeros([], tf.int64)

      def group(first, logs, state):
        last = tf.minimum(first + every, count)
        return last, *self._group(batches, first, last, state)

      _, logs, state = while_loop(lambda first, *_: first < count, group, (first, logs, state))
    batches.end(state)
    return logs

  def _group(self, batches, first, last, state):
    """Trains on batches [first, last) with one copy of the dense weights, and merges what they changed."""
    before = self._shared.read()
    handles = dense.copies(self._variables, before)
    _, state = while_loop(
      lambda i, _: i < last,
      lambda i, state: (i + 1, batches.train(i, state, handles)),
      (first, state),
    )
    steps = last - first
    if self._apply is not None:
      self._apply(handles=handles)
      steps = tf.ones([], tf.int64)
    for variable in self._changed:
      before.setdefault(identity(variable), tf.zeros(variable.shape, variable.dtype))
    decays = self._decays.after(self._changed, last - first, steps)
    logs = self._results(handles=handles)
    self._merged.merge(before, handles, decays, batches.step(last - 1))
    return logs, state


class _Batches:
  """One ticket's batches: what is carried from one to the next, and the exchange with the parameter servers."""

  def __init__(self, trainer, iterator, count, number, finished_below):
    self._trainer = trainer
    self._iterator = iterator
    self._count = count
    self._number = number
    self._finished_below = finished_below

  def step(self, i):
    """int64 [3]: what batch `i` is to the servers."""
    return tf.stack([self._number, i, self._finished_below])

  def begin(self):
    """(the batch that comes next, the servers' replies for it, what is to be pushed).

    Only the last unless pulls run ahead.
    """
    pushes = [table.no_messages() for table in self._trainer.tables]
    if not self._trainer.ahead:
      return (), (), pushes
    batch = self._next()
    return batch, self._exchange(batch.routes, pushes), pushes

  def train(self, i, state, handles):
    """Trains on batch `i`; returns the state for the next."""
    trainer = self._trainer
    batch, replies, pushes = state
    send, pushes = self._split(i, pushes)
    if trainer.ahead:
      # The servers' replies for the next batch are on their way while this one computes.
      following, next_replies = self._pull_next(i, batch, send)
    else:
      batch = self._next()
      replies = self._exchange(batch.routes, send)
      following, next_replies = (), ()
    data = tf.nest.pack_sequence_as(trainer.source.element_spec, batch.data, expand_composites=True)
    new = trainer.train(data, batch.routes, replies, self.step(i), handles=handles)
    pushes = tf.nest.map_structure(lambda held, one: tf.concat([held, one], 0), pushes, new)
    return following, next_replies, pushes

  def end(self, state):
    """Pushes what is left."""
    for table, pushes in zip(self._trainer.tables, state[2]):
      table.send(pushes, accumulate=self._trainer.gradient_sums is not None)

  def _next(self):
    return self._routed(self._get_next())

  def _get_next(self):
    return tf.nest.flatten(self._iterator.get_next(), expand_composites=True)

  def _routed(self, data):
    spec = self._trainer.source.element_spec
    packed = tf.nest.pack_sequence_as(spec, data, expand_composites=True)
    return _Batch(data, self._trainer.route(packed))

  def _pull_next(self, i, batch, send):
    is_last = i + 1 >= self._count
    # After the last batch comes that same one again, of which nothing is pulled.
    following = self._routed(tf.cond(is_last, lambda: batch.data, self._get_next))
    wanted = [
      ([keys[: tf.where(is_last, 0, tf.size(keys))] for keys in by_server], slots, positions)
      for by_server, slots, positions in following.routes
    ]
    return following, self._exchange(wanted, send)

  def _split(self, i, pushes):
    """(what is sent with the next pull, what waits for a later one)."""
    window = self._trainer.window
    nothing = [table.no_messages() for table in self._trainer.tables]
    if window <= 1:
      return pushes, nothing
    sends = (i + 1) % window == 0
    cut = lambda push: tf.where(sends, tf.size(push), 0)  # noqa: E731
    return (
      tf.nest.map_structure(lambda push: push[: cut(push)], pushes),
      tf.nest.map_structure(lambda push: push[cut(push) :], pushes),
    )

  def _exchange(self, routes, pushes):
    """One message to each server and back: pushes, and the rows for `routes` as replies for each lookup."""
    trainer = self._trainer
    waiting = dict(zip(trainer.tables, pushes))
    replies = []
    for (keys, _, _), (table, row_width) in zip(routes, trainer.lookups):
      # Only the first of several lookups of a table carries its pushes.
      replies.append(
        table.exchange(
          keys,
          waiting.pop(table, table.no_messages()),
          row_width,
          wire_dtype=trainer.communication.wire_dtype,
          references=trainer.communication.row_references,
          accumulate=trainer.gradient_sums is not None,
        )
      )
    return replies


def _results(model):
  return {metric.name: metric.result() for metric in model.metrics}
