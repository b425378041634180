"""Quicker tracing of models."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import tensorflow as tf

from tfps.graph import compat

_T = TypeVar("_T")


@contextlib.contextmanager
def libraries_unconverted() -> Iterator[None]:
  """While it is active, AutoGraph converts the user's code only: not Keras's, not this library's.

  TensorFlow's rules exempt `keras`, but not its Keras 2 package, `tf_keras`. But for the layer that
  `compat.unconverted` knows, neither `tf_keras` nor this library has Python loops or conditions on
  tensors, so converting them would only delay the first step: by eight seconds, or so.
  """
  with compat.unconverted("tf_keras", "tfps"):
    yield


@contextlib.contextmanager
def tfps_unconverted() -> Iterator[None]:
  """While it is active, AutoGraph converts Keras's code, too, as it does in stock Keras."""
  with compat.unconverted("tfps"):
    yield


def traced(make: Callable[[], _T]) -> _T:
  """Calls `make`, which traces a model: once more with Keras's code converted where that is needed.

  It is where Keras calls code of the user's own that has Python conditions on tensors, such as a
  learning-rate schedule or a `compute_loss`.
  """
  try:
    with libraries_unconverted():
      return make()
  except tf.errors.OperatorNotAllowedInGraphError:
    with tfps_unconverted():
      return make()


def users(function: Callable) -> Callable:
  """Prepares a function or method that a user may have written for a call from this library.

  AutoGraph converts it if the caller is being converted.
  """
  return compat.converted(function)
