"""Counts the train steps of Keras's own loop that were not finite, where the loop runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfps.training.finite_step import first_bad
from tfps.training.nonfinite_steps import NonfiniteSteps

_STEPS, _COUNT, _FIRST_STEP, _FIRST_EXAMPLE = range(4)


class StepCounter:
  """Counts in a variable, which steps that run in graphs reach.

  Make it in the scope of the model's strategy.
  """

  def __init__(self) -> None:
    self._numbers = tf.Variable(tf.zeros([4], tf.int64), trainable=False, name="nonfinite_steps")
    self._most = 0

  def add(self, spoilt: tf.Tensor, data: Any, most: int) -> None:
    """Counts a step; one that reaches the limit fails.

    Args:
      spoilt: bool scalar, whether it was not finite.
      data: its batch, or None.
      most: the limit; 0 for none.
    """
    self._most = most
    handle = self._numbers.handle
    one = tf.constant([1, 0, 0, 0], tf.int64)
    tf.raw_ops.AssignAddVariableOp(resource=handle, value=one)

    def count() -> None:
      numbers = tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.int64)
      steps, counted, first_step, first_example = tf.unstack(numbers, num=4)
      example = tf.zeros([], tf.int64) if data is None else first_bad(data)
      is_first = counted == 0
      changed = [
        steps,
        counted + 1,
        tf.where(is_first, steps, first_step),
        tf.where(is_first, example, first_example),
      ]
      tf.raw_ops.AssignVariableOp(resource=handle, value=tf.stack(changed))
      if most:
        tf.debugging.Assert(counted + 1 < most, ["as many as max_nonfinite_steps:", counted + 1])

    tf.cond(spoilt, count, lambda: None)

  @contextlib.contextmanager
  def told(self, starts: bool = True) -> Iterator[None]:
    """Tells on stderr of the steps within that were not finite.

    Args:
      starts: whether to count from 0.

    Raises:
      NonfiniteError: as many as the limit were not.
    """
    if starts:
      self._numbers.assign(tf.zeros([4], tf.int64))
    before = int(self._numbers[_COUNT])
    try:
      yield
    except tf.errors.InvalidArgumentError:
      if not self._most or int(self._numbers[_COUNT]) < self._most:
        raise
    _, count, first_step, first_example = self._numbers.numpy().tolist()
    place = f"example {first_example} of batch {first_step - 1}"
    NonfiniteSteps(self._most, before).add(count - before, lambda: place)
