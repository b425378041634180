"""Quicker tracing of models."""

import contextlib

import tensorflow as tf
from tensorflow.python.autograph.core import config


@contextlib.contextmanager
def libraries_unconverted():
  """While it is active, AutoGraph runs Keras's code and this library's as they are, and still converts the user's.

  TensorFlow's rules leave `keras` alone, and do not know its Keras 2 package, `tf_keras`. Neither that nor this library
  has Python loops or conditions of tensors, so that converting them changes nothing but the time to the first step.
  """
  rules = config.CONVERSION_RULES
  unconverted = config.DoNotConvert("tf_keras"), config.DoNotConvert("tfps")
  config.CONVERSION_RULES = (*unconverted, *rules)
  try:
    yield
  finally:
    config.CONVERSION_RULES = rules


def users(function):
  """A function or method that a user may have written, for the library to call: converted where AutoGraph is at work."""
  autograph = tf.__internal__.autograph
  status = autograph.control_status_ctx()
  is_at_work = status.status.name == "ENABLED"
  return autograph.tf_convert(function, status) if is_at_work else function
