"""Steps that push nothing, such as those of `evaluate` and `predict`, on each batch of a ticket."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfps.data import batching
from tfps.data.ticket import Ticket
from tfps.graph.loops import while_loop
from tfps.graph.traced import identity, local_variable
from tfps.training import logs as logs_lib
from tfps.training import on_workers
from tfps.training import tickets as tickets_lib
from tfps.training.logs import TracedStep, packed_arrays

if TYPE_CHECKING:
  from tfps.data.source import Source
  from tfps.training.model import Model

# A function of (model, batch): (what is kept of every batch, what is kept of the last one).
Step = Callable[[Any, Any], tuple[Any, Any]]


class _Kept(NamedTuple):
  """What is kept of a ticket's batches, of one of the tensors that a step returns.

  Fields:
    values: [n], the values of all batches, one after the other.
    shapes: int64 [m], likewise the shape of each.
  """

  values: Any
  shapes: Any


class Result(NamedTuple):
  """A finished ticket.

  Fields:
    examples: how many it has.
    kept: what is kept of each batch.
  """

  examples: int
  kept: list[Any]


class LocalSteps:
  """Runs a step on batch after batch, in this process.

  Args:
    model: the `tfps.Model`, built for the source.
    source: the `tfps.data` source.
    step: the `Step`.

  Attributes:
    run_ticket: the traced function of a ticket and of `arguments`.
    arguments: what `run_ticket` takes beside a ticket.
  """

  arguments: Sequence[tf.Tensor] = ()

  def __init__(self, model: Model, source: Source, step: Step):
    self._model = model
    self._source = source
    run = model.distribute_strategy.run
    self._step = TracedStep(lambda batch: run(step, args=(model, batch)), source.element_spec)
    self._prepare()

  def begin(self) -> None:
    """Called before the first ticket."""
    # Of a ticket: what is carried, and what is computed after its last batch.
    self._last: tuple | None = None

  def end(self) -> None:
    """Called when what finished tickets have changed is to be seen."""

  def finish(self, returned: Any) -> Result:
    """Called for each finished ticket, with what `run_ticket` returned for it, as NumPy."""
    examples, count, kept, carried, after = returned
    if count:  # Else all of its records are skipped.
      self._last = carried, after
    batches = zip(*[_parts(one, int(count)) for one in kept])
    return Result(int(examples), [self._pack(batch) for batch in batches])

  def logs(self) -> Any:
    """What is kept of the last batch, for callbacks."""
    return {} if self._last is None else self._step.logs(*self._last)

  def final(self) -> Any:
    """What is kept of the last batch, once all tickets are finished."""
    return logs_lib.final(self._model, self.logs())

  def nothing(self) -> Any:
    """What the step keeps of a batch of no example."""
    sizes = [[size or 0 for size in tensor.shape] for tensor in self._beside]
    return self._pack(
      np.zeros(size, tensor.dtype.as_numpy_dtype) for size, tensor in zip(sizes, self._beside)
    )

  @property
  def _beside(self) -> list[tf.Tensor]:
    """The tensors that are kept of each batch."""
    return self._step.concrete.graph.outputs[: self._step.beside]

  def _pack(self, arrays: Any) -> Any:
    return packed_arrays(self._step.others, arrays)

  def _prepare(self) -> None:
    self.run_ticket = tickets_lib.scoring_function(self._run)

  def _run(self, ticket: Ticket) -> tuple:
    return *self._loop(ticket, self._step.local), self._step.after_here()

  def _loop(self, ticket: Ticket, step: Callable[[Any], tuple]) -> tuple:
    """Runs the step on each batch of a ticket; returns what `finish` takes before `after`."""
    iterator = iter(self._source.open(ticket))
    keep = lambda dtype: tf.TensorArray(dtype, 0, dynamic_size=True, infer_shape=False,
                                        element_shape=[None])  # fmt: skip
    kept = [_Kept(keep(tensor.dtype), keep(tf.int64)) for tensor in self._beside]

    def run(examples: tf.Tensor, count: tf.Tensor, batch: Any, kept: list, carried: list) -> tuple:
      del carried
      data = batch.get_value()
      tensors, carried = step(data)
      kept = [
        _Kept(
          one.values.write(count, tf.reshape(tensor, [-1])),
          one.shapes.write(count, tf.shape(tensor, tf.int64)),
        )
        for one, tensor in zip(kept, tensors)
      ]
      examples += batching.rows(tf.nest.flatten(data)[0])
      return examples, count + 1, iterator.get_next_as_optional(), kept, carried

    state = tf.zeros([], tf.int64), tf.zeros([], tf.int32), iterator.get_next_as_optional()
    examples, count, _, kept, carried = while_loop(
      lambda examples, count, batch, *_: batch.has_value(),
      run,
      (*state, kept, self._step.none()[0]),
    )
    kept = [_Kept(one.values.concat(), one.shapes.concat()) for one in kept]
    return examples, count, kept, carried


class WorkerSteps(LocalSteps):
  """Runs a step on workers, each with a copy of every variable that lives for one ticket.

  A copy of a variable that the step changes begins as the variable was at `begin`. The chief adds
  what the copies of finished tickets have changed by: a ticket that ran twice counts once. What
  cannot be added, such as a bool, is that of the last ticket.
  """

  def _prepare(self) -> None:
    self._traced = self._step.in_loop()
    on_workers.check_captures(self._model, self._traced, self._step.after)
    logs_lib.warn_of_own_metrics(self._model, self._traced)
    variables = [*self._traced.variables, *self._step.after.variables]
    self._variables = list({identity(variable): variable for variable in variables}.values())
    self._written = list(self._traced.changed)
    specs = [tf.TensorSpec(variable.shape, variable.dtype) for variable in self._written]
    self.run_ticket = tickets_lib.scoring_function(self._run_on_worker, specs)

  def begin(self) -> None:
    super().begin()
    self._start = [variable.numpy() for variable in self._written]
    self._now = [_summand(value) for value in self._start]
    self.arguments = [tf.constant(value) for value in self._start]

  def finish(self, returned: Any) -> Result:
    *returned, values = returned
    result = super().finish(returned)
    if result.examples:
      for i, (before, value) in enumerate(zip(self._start, values)):
        self._now[i] = self._now[i] + (_summand(value) - before) if _adds_up(before) else value
    return result

  def end(self) -> None:
    for variable, value in zip(self._written, self._now):
      variable.assign(tf.cast(value, variable.dtype))

  def logs(self) -> Any:
    if self._last is None:
      return {}
    self.end()
    changed = {identity(variable) for variable in self._written}
    return logs_lib.merged(self._model, self._step, self._last[0], changed)

  def final(self) -> Any:
    return logs_lib.final(self._model, self.logs())

  def _run_on_worker(self, ticket: Ticket, *start: tf.Tensor) -> tuple:
    values = {identity(variable): value for variable, value in zip(self._written, start)}
    handles = {}
    for variable in self._variables:
      value = values.get(identity(variable))
      value = variable.read_value() if value is None else value
      handles[identity(variable)] = local_variable(variable, value)

    def step(batch: Any) -> tuple:
      flat = self._traced(batch, handles=handles)
      return flat[: self._step.beside], flat[self._step.beside :]

    returned = self._loop(ticket, step)
    after = self._step.after(handles=handles)
    read = [
      tf.raw_ops.ReadVariableOp(resource=handles[identity(variable)], dtype=variable.dtype)
      for variable in self._written
    ]
    return *returned, after, read


class EagerSteps:
  """Runs a step on batch after batch in Python, where the model is to run eagerly.

  Args:
    model, source, step: as of `LocalSteps`, whose methods it has.
  """

  arguments: Sequence[tf.Tensor] = ()

  def __init__(self, model: Model, source: Source, step: Step):
    self._model = model
    self._source = source
    self._step = step

  def begin(self) -> None:
    """Called before the first ticket."""
    self._logs: Any = {}

  def end(self) -> None:
    """Nothing: a step changes the variables themselves."""

  def finish(self, returned: Any) -> Result:
    """Called for each finished ticket, with what `run_ticket` returned for it, as NumPy."""
    examples, kept, logs = returned
    if examples:
      self._logs = logs
    return Result(int(examples), kept)

  def logs(self) -> Any:
    """What is kept of the last batch, for callbacks."""
    return self._logs

  def final(self) -> Any:
    """What is kept of the last batch, once all tickets are finished."""
    return logs_lib.final(self._model, self._logs)

  def nothing(self) -> Any:
    """What the step keeps of a batch of no example."""
    kept, _ = self._step(self._model, batching.padding(self._source.element_spec))
    return tf.nest.map_structure(lambda value: value[:0].numpy(), kept)

  def run_ticket(self, *fields: tf.Tensor) -> tuple:
    examples, kept, logs = tf.zeros([], tf.int64), [], None
    for batch in self._source.open(Ticket(*fields)):
      of_batch, logs = self._step(self._model, batch)
      kept.append(of_batch)
      examples += batching.rows(tf.nest.flatten(batch)[0])
    return examples, kept, logs


def _parts(kept: _Kept, count: int) -> list[np.ndarray]:
  """The array of each batch."""
  rank = kept.shapes.size // max(count, 1)
  shapes = kept.shapes.reshape([count, rank]).tolist()
  ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
  return [part.reshape(shape) for part, shape in zip(np.split(kept.values, ends), shapes)]


def _summand(value: Any) -> Any:
  """The value in a dtype that loses nothing when many are added."""
  value = np.asarray(value)
  return value.astype(np.float64) if _adds_up(value) and value.dtype.kind not in "iuc" else value


def _adds_up(value: Any) -> bool:
  return tf.as_dtype(np.asarray(value).dtype) not in (tf.bool, tf.string)
