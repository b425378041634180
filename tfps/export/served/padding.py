"""Rows that a server filled up when it joined requests of different widths.

TensorFlow Serving with `pad_variable_length_inputs` brings the requests of a batch to one width. It
fills a request up with the first value of that request, not with "" or 0, so that its rows end with
the value with which the first of them begins. No such row may be served as if a client had sent it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfps.data.raw_inputs import padding


def checked(
  tensors: Mapping[str, tf.Tensor], specs: Mapping[str, tf.TensorSpec], filled_up: bool
) -> dict[str, tf.Tensor]:
  """The tensors, once it is certain that they have the widths that were declared.

  Args:
    tensors: the inputs of a signature by name.
    specs: their specs.
    filled_up: whether it must be certain, too, that no server has filled a row up with values.
      Floats go with the ids beside them, which are looked at in their place.

  Returns:
    The same tensors. If one has another width than its spec, or a row that may have been filled
    up, they cannot be read: tf.errors.InvalidArgumentError.
  """
  ends = _of_varying_width(specs) if filled_up else []
  checks = [_refuse_filled_up(name, tensors[name]) for name in ends]
  checks += [
    _require_width(name, tensors[name], spec)
    for name, spec in specs.items()
    if spec.shape.rank and spec.shape.rank > 1 and not _varies(spec)
  ]
  with tf.control_dependencies(checks):
    return {name: tf.identity(tensor) for name, tensor in tensors.items()}


def end_rows(
  arrays: Mapping[str, Any], specs: Mapping[str, tf.TensorSpec]
) -> dict[str, np.ndarray]:
  """Arrays by name, those of varying width with an empty column at the end, as nobody refuses."""
  ended = {name: np.asarray(value) for name, value in arrays.items()}
  for name, spec in specs.items():
    if _varies(spec) and ended[name].ndim == 2:
      empty = "" if spec.dtype == tf.string else 0
      column = np.full((len(ended[name]), 1), empty, ended[name].dtype)
      ended[name] = np.concatenate([ended[name], column], axis=1)
  return ended


def _varies(spec: tf.TensorSpec) -> bool:
  return spec.shape.rank is None or None in spec.shape.as_list()[1:]


def _of_varying_width(specs: Mapping[str, tf.TensorSpec]) -> list[str]:
  """The inputs that are looked at: ids, or floats where there are no ids."""
  names = [name for name, spec in specs.items() if _varies(spec)]
  return [name for name in names if not specs[name].dtype.is_floating] or names


def _refuse_filled_up(name: str, tensor: tf.Tensor) -> tf.Operation:
  inner = tensor.shape.rank - 1
  corners = [(slice(None), *[part] * inner) for part in (slice(0, 1), slice(-1, None))]
  first, last = (tensor[corner] for corner in corners)
  alike = tf.logical_and(tf.equal(first, last), tf.not_equal(first, padding(tensor.dtype)))
  # Another request of the batch is wider.
  joined = tf.logical_and(tf.shape(tensor)[0] > 1, tf.reduce_any(tf.shape(tensor)[1:] > 1))
  return tf.debugging.Assert(
    tf.logical_not(tf.logical_and(joined, tf.reduce_any(alike))),
    [
      f"a row of input '{name}' ends with the value with which it begins, as do rows that a server "
      "with pad_variable_length_inputs has filled up: end each row with an empty value ('' or 0), "
      "or send tf.Examples to the signature 'examples'"
    ],
  )


def _require_width(name: str, tensor: tf.Tensor, spec: tf.TensorSpec) -> tf.Operation:
  width, sent = spec.shape.as_list()[1:], tf.shape(tensor)[1:]
  return tf.debugging.Assert(
    tf.reduce_all(tf.equal(sent, width)),
    [f"each row of input '{name}' has {width} values, not", sent],
  )
