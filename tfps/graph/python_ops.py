"""Python functions that a graph calls by name, in whichever process of a cluster runs the graph.

TensorFlow's tf.numpy_function exists in the process that made it and in no other. A function of
this list exists in every process: each task registers them before it serves, and the process that
builds a graph with one does so, too. It takes NumPy arrays and returns a list of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfps.graph import compat

READ_COLUMNS = "read_columns"

# {name: (module, function)}; the module is imported by the first call.
_FUNCTIONS = {READ_COLUMNS: ("tfps.data.columns.reader", "read")}


@tf.autograph.experimental.do_not_convert
def register() -> None:
  """Lets graphs call the functions in this process; again and again if need be."""
  for name, (module, function) in _FUNCTIONS.items():
    compat.register_python_function(_token(name), _Late(module, function))


def call(name: str, inputs: Sequence[Any], dtypes: Sequence[tf.DType]) -> list[tf.Tensor]:
  """Calls a function of the list where the graph runs.

  Args:
    name: of the function.
    inputs: tensors, which it gets as NumPy arrays.
    dtypes: of the arrays that it returns; their shapes are not known to the graph.
  """
  register()
  return tf.raw_ops.PyFunc(input=list(inputs), token=_token(name), Tout=list(dtypes))


def _token(name: str) -> str:
  return f"tfps.{name}"


class _Late:
  """A function whose module is imported when it is called."""

  def __init__(self, module: str, function: str):
    self._module, self._function = module, function

  def __call__(self, *arguments: Any) -> Any:
    return getattr(importlib.import_module(self._module), self._function)(*arguments)
