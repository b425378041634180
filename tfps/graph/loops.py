"""Loops in graphs."""

import tensorflow as tf


def while_loop(condition, body, state):
  """tf.while_loop on nested tensors whose first dimensions may change."""
  relaxed = lambda shape: tf.TensorShape([None, *shape[1:]]) if shape.rank else shape
  shapes = tf.nest.map_structure(lambda tensor: relaxed(tensor.shape), state)
  return tf.while_loop(condition, body, state, shapes)
