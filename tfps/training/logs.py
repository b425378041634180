"""What a step returns, and what `history` and callbacks see of it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfps.graph.traced import Traced, identity, lasting, pack

if TYPE_CHECKING:
  from tfps.training.model import Model


class TracedStep:
  """A traced step, and how its ticket finds what the step of the last batch returned.

  What can be computed once more from variables, such as a metric's result, is computed when the
  last batch is done; anything else is carried from batch to batch. So a metric's result costs no
  time in the loop.

  Args:
    function: a Python function that returns (a list or tuple of tensors, what the step returns).
    *specs: nested tf.TypeSpecs of its arguments.

  Attributes:
    concrete: the ConcreteFunction.
    others: what the function returned beside.
    beside: of how many tensors that consists.
  """

  def __init__(self, function: Callable, *specs: Any):
    self.concrete = tf.function(function).get_concrete_function(*specs)
    self.others, self._logs = self.concrete.graph.structured_outputs
    outputs = self.concrete.graph.outputs
    self.beside = len(_tensors(self.others))
    lasts = lasting(self.concrete)
    places = range(self.beside, len(outputs))
    self._carried = [place for place in places if not lasts[place]]
    self._lasting = [place for place in places if lasts[place]]
    self._in_loop = [*range(self.beside), *self._carried]

  def local(self, *arguments: Any) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Runs it with the variables themselves: (what it returns beside, what is carried), flat."""
    flat = _tensors(self.concrete(*arguments))
    return flat[: self.beside], [flat[place] for place in self._carried]

  def none(self) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Values like (what is carried, what is computed after the last batch), before the first."""
    outputs = self.concrete.graph.outputs
    like = lambda places: [_none_like(outputs[place]) for place in places]
    return like(self._carried), like(self._lasting)

  def in_loop(self) -> Traced:
    """The step as a `Traced`; `split` takes what it returns."""
    return Traced(self.concrete, outputs=self._in_loop)

  def split(self, flat: list[tf.Tensor]) -> tuple[Any, list[tf.Tensor]]:
    """(what the function returns beside, what is carried)."""
    return pack(self.others, flat[: self.beside]), flat[self.beside :]

  @functools.cached_property
  def after(self) -> Traced:
    """A `Traced` without arguments that returns what is computed after the last batch."""
    return Traced(self.concrete, side_effects=False, outputs=self._lasting)

  def after_here(self) -> list[tf.Tensor]:
    """What is computed after the last batch, with the variables themselves."""
    return self.after(handles={identity(one): one.handle for one in self.after.variables})

  @functools.cached_property
  def now(self) -> Any:
    """A tf.function without arguments: `after_here`, at any time."""
    return tf.function(self.after_here, autograph=False)

  def logs(self, carried: Collection[Any], after: Collection[Any]) -> Any:
    """What the step returned, of the arrays that a ticket returned."""
    values = dict(zip([*self._carried, *self._lasting], [*carried, *after]))
    return packed_arrays(self._logs, [values[place] for place in sorted(values)])


def final(model: Model, logs: Any) -> Any:
  """The logs of an epoch, a day or an evaluation in this process, all of whose steps are done.

  As in Keras, the metrics' results take the place of logs that have the same names.

  Args:
    model: the `tfps.Model`.
    logs: what the last batch's step returned.
  """
  if isinstance(logs, dict):
    results = metric_results(model)
    if results.keys() == logs.keys():
      return results
  return plain(logs)


def merged(
  model: Model, step: TracedStep, carried: Collection[Any], changed: Collection[int]
) -> Any:
  """What the last batch's step returned, on a cluster, where each worker has seen some tickets.

  What can be computed from variables is computed from what all tickets have made of them, and so is
  the result of a metric that the step changes. Any other value is that of the last batch.

  Args:
    model: the `tfps.Model`.
    step: the `TracedStep`.
    carried: what is carried from the last batch.
    changed: the `identity` of each variable that the step changes.
  """
  logs = step.logs(carried, [value.numpy() for value in step.now()])
  if not isinstance(logs, dict):
    return plain(logs)
  results: dict[str, Any] = {}
  for metric in model.metrics:
    if any(identity(variable) in changed for variable in metric.variables):
      result = metric.result()
      results.update(result if isinstance(result, dict) else {metric.name: result})
  return plain({name: results.get(name, value) for name, value in logs.items()})


def warn_of_own_metrics(model: Model, step: Traced) -> None:
  """Warns of metrics of the user's own whose variables a step sets: tickets' changes are added."""
  assigned = {identity(variable) for variable in step.assigned}
  for metric in model.metrics:
    is_own = not type(metric).__module__.startswith(f"{keras.__name__}.")
    if is_own and any(identity(variable) in assigned for variable in metric.variables):
      warnings.warn(
        f"metric '{metric.name}' assigns its variables, and on a cluster what the tickets change "
        "them by is added up: use assign_add for what is a sum; anything else, such as a largest "
        "value, comes out wrong.",
        stacklevel=2,
      )


def with_nan_loss(logs: Any) -> Any:
  """The logs of a ticket that had a spoilt step, for callbacks such as `TerminateOnNaN`."""
  if not isinstance(logs, dict) or "loss" not in logs:
    return logs
  return {**logs, "loss": float("nan")}


def metric_results(model: Model) -> dict[str, Any]:
  """The results of all metrics of the model, as Keras names them."""
  return plain(model.get_metrics_result())


def plain(logs: Any) -> Any:
  """Scalars become Python numbers and tensors NumPy arrays, as in Keras."""

  def convert(value: Any) -> Any:
    if isinstance(value, (tf.Tensor, tf.Variable)):
      value = value.numpy()
    is_scalar = isinstance(value, (np.ndarray, np.generic)) and value.ndim == 0
    return value.item() if is_scalar else value

  return tf.nest.map_structure(convert, logs)


def _tensors(structure: Any) -> list[tf.Tensor]:
  flat = tf.nest.flatten(structure, expand_composites=True)
  return [tensor for tensor in flat if tensor is not None]


def _none_like(tensor: tf.Tensor) -> tf.Tensor:
  """A value of its dtype and static shape."""
  shape = tensor.shape
  sizes = [] if shape.rank is None else [size or 0 for size in shape]
  return tf.raw_ops.PlaceholderWithDefault(input=tf.zeros(sizes, tensor.dtype), shape=shape)


def packed_arrays(structure: Any, arrays: Iterable[np.ndarray]) -> Any:
  """Puts arrays in the places of the tensors that a traced function returned.

  A RaggedTensor or SparseTensor is made of several, a None of none.
  """
  remaining = iter(arrays)

  def leaf(place: Any) -> Any:
    if place is None:
      return None
    if not isinstance(place, (tf.RaggedTensor, tf.SparseTensor, tf.IndexedSlices)):
      return next(remaining)
    components = [tf.constant(next(remaining)) for _ in _tensors(place)]
    return tf.nest.pack_sequence_as(place, components, expand_composites=True)

  return tf.nest.map_structure(leaf, structure)
