"""Loops in graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def while_loop(condition: Callable, body: Callable, state: Any) -> Any:
  """tf.while_loop on nested tensors whose first dimensions may change, and on TensorArrays."""

  def relaxed(value: Any) -> tf.TensorShape | None:
    if not isinstance(value, tf.Tensor):
      return None
    return tf.TensorShape([None, *value.shape[1:]]) if value.shape.rank else value.shape

  return tf.while_loop(condition, body, state, tf.nest.map_structure(relaxed, state))
