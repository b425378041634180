"""The dense weights of a served model: one packed variable, which a request reads once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from tfps.errors import ExportError


class PackedWeights:
  """Variables of any shapes as one float32 vector, one after the other.

  Integers and doubles keep their bits.

  Args:
    variables: the tf.Variables.

  Raises:
    ExportError: a variable's numbers have neither 4 nor 8 bytes.
  """

  def __init__(self, variables: Iterable[tf.Variable]) -> None:
    self._variables = list(variables)
    for variable in self._variables:
      if variable.dtype.size not in (4, 8) or variable.dtype == tf.string:
        raise ExportError(
          f"variable '{variable.name}' has dtype {variable.dtype.name}, which a served model "
          "cannot take: make it float32, float64, int32 or int64."
        )
    self._sizes = [
      variable.shape.num_elements() * (variable.dtype.size // 4) for variable in self._variables
    ]

  @property
  def size(self) -> int:
    """Length of the vector."""
    return sum(self._sizes)

  @property
  def layout(self) -> str:
    """A text for the manifest, which two vectors share exactly if their numbers mean the same."""
    entries = [[v.name, v.dtype.name, v.shape.as_list()] for v in self._variables]
    return hashlib.blake2b(json.dumps(entries).encode(), digest_size=8).hexdigest()

  def read(self) -> np.ndarray:
    """float32 [size]: the variables' values now."""
    parts = [np.ravel(variable.numpy()).view(np.float32) for variable in self._variables]
    return np.concatenate(parts) if parts else np.zeros([0], np.float32)

  def unpack(self, vector: tf.Tensor) -> list[tf.Tensor]:
    """A tensor for each variable, from the float32 tensor [size] that `read` returned."""
    values: list[tf.Tensor] = []
    if not self._variables:
      return values
    for variable, part in zip(self._variables, tf.split(vector, self._sizes)):
      if variable.dtype != tf.float32:
        if variable.dtype.size == 8:
          part = tf.reshape(part, [-1, 2])
        part = tf.bitcast(part, variable.dtype)
      values.append(tf.reshape(part, variable.shape))
    return values
