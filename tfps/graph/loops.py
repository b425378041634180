"""Loops in graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def while_loop(condition: Callable, body: Callable, state: Any) -> Any:
  """tf.while_loop on nested tensors whose first dimensions may change."""
  relaxed = lambda shape: tf.TensorShape([None, *shape[1:]]) if shape.rank else shape
  shapes = tf.nest.map_structure(lambda tensor: relaxed(tensor.shape), state)
  return tf.while_loop(condition, body, state, shapes)
