"""Quicker tracing of Keras models."""

import contextlib

from tensorflow.python.autograph.core import config


@contextlib.contextmanager
def keras_unconverted():
  """While it is active, AutoGraph runs Keras's own code as it is and still converts the user's.

  TensorFlow's rules leave `keras` alone, and do not know its Keras 2 package, `tf_keras`: converting all of that makes the
  first step four times as long, and changes nothing.
  """
  rules = config.CONVERSION_RULES
  config.CONVERSION_RULES = (config.DoNotConvert("tf_keras"), *rules)
  try:
    yield
  finally:
    config.CONVERSION_RULES = rules
