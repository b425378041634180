"""What is finite: tensors, and the variables that a file is to hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from tfps import native
from tfps.errors import NonfiniteError


def all_finite(values: Iterable[Any], *, squares: bool = False) -> tf.Tensor:
  """bool scalar: whether no value is NaN or infinite.

  Args:
    values: tensors, tf.IndexedSlices or None; those that are not of a float dtype are finite.
    squares: whether the square of each value is to be finite, too, but for those of float16.
  """
  dense = (value.values if isinstance(value, tf.IndexedSlices) else value for value in values)
  tensors = [tf.convert_to_tensor(value) for value in dense if value is not None]
  floats = [tensor for tensor in tensors if tensor.dtype.is_floating]
  return native.ops.tfps_all_finite(floats, squares=squares)


def check_model(model: Any, what: str) -> None:
  """Checks the weights of a Keras model and the state of its optimizer, where they are.

  Args:
    model: the model. The states of its metrics are no weights.
    what: the file that is to hold it.

  Raises:
    NonfiniteError: a variable holds a value that is not finite.
  """
  variables = {id(variable.handle): variable for variable in model.variables}
  optimizer = getattr(model, "optimizer", None)  # A tower is a part of the model that is compiled.
  if optimizer is not None:
    variables |= {id(variable.handle): variable for variable in _of_optimizer(optimizer)}
  for metric in model.metrics:
    for variable in metric.variables:
      variables.pop(id(variable.handle), None)
  by_device: dict[str, list[tf.Variable]] = {}
  for variable in variables.values():
    if variable.dtype.is_floating:
      by_device.setdefault(variable.device, []).append(variable)
  for device, there in by_device.items():
    with tf.device(device):
      if all_finite(_values(there)):
        continue
      name = next(one.name for one in there if not all_finite(_values([one])))
    raise NonfiniteError(
      f"variable '{name}' holds a value that is not finite, so no {what} is written and the last "
      "good one stays: go on from it with a smaller learning rate, or with gradients clipped."
    )


def _of_optimizer(optimizer: Any) -> list[tf.Variable]:
  variables = optimizer.variables
  return list(variables() if callable(variables) else variables)  # A method of legacy ones.


def _values(variables: Iterable[tf.Variable]) -> list[tf.Tensor]:
  return [tf.raw_ops.ReadVariableOp(resource=one.handle, dtype=one.dtype) for one in variables]
