"""Numbers that look random and are pure functions of integers, with stock TensorFlow ops."""

from __future__ import annotations

import tensorflow as tf


def hash64(*numbers: tf.Tensor | int) -> tf.Tensor:
  """uint64: integers of any shapes that broadcast, one by one through splitmix64.

  The state begins with 0; each number is XORed into it, and what splitmix64 makes of that is the
  next state (Steele, Lea, Flood 2014).
  """
  state = tf.constant(0, tf.uint64)
  for number in numbers:
    state = mix(state ^ tf.cast(number, tf.uint64))
  return state


def mix(state: tf.Tensor) -> tf.Tensor:
  """One step of splitmix64: uint64 of uint64."""
  state = state + tf.constant(0x9E3779B97F4A7C15, tf.uint64)
  for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
    state = (state ^ tf.bitwise.right_shift(state, tf.constant(shift, tf.uint64))) * tf.constant(
      factor, tf.uint64
    )
  return state ^ tf.bitwise.right_shift(state, tf.constant(31, tf.uint64))


def uniform(hashes: tf.Tensor) -> tf.Tensor:
  """float64 in [0, 1): the upper 53 bits of uint64 `hashes`, over 2^53."""
  bits = tf.bitwise.right_shift(hashes, tf.constant(11, tf.uint64))
  return tf.cast(bits, tf.float64) * 2.0**-53
