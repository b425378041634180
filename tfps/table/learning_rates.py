"""The learning rates of a table while it is trained: schedules, and what is set by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfps import native
from tfps.table.policy import SlotPolicy

_LEAVE_FACTOR = -1.0


class LearningRates:
  """Tells the servers of a table its learning rates, where these are not those of its options.

  Args:
    policies: the complete policies of the table and of the slots that have one, by their numbers.
    handles: the table on each server.
  """

  def __init__(self, policies: Sequence[SlotPolicy], handles: Sequence[tf.Tensor]):
    self._optimizers = [(policy.lr_optimizer, policy.optimizer) for policy in policies]
    self._handles = handles
    self._factor = 1.0

  @property
  def are_scheduled(self) -> bool:
    """Whether one of them depends on the number of steps."""
    return any(one is not None and one.is_scheduled for pair in self._optimizers for one in pair)

  @property
  def factor(self) -> float:
    """What all learning rates are multiplied by; 1 at first."""
    return self._factor

  @factor.setter
  def factor(self, value: float) -> None:
    self.check_factor()
    if not (np.isfinite(value) and value >= 0):
      raise ValueError(f"learning_rate_factor must be 0 or more and finite, not {value}.")
    self._factor = float(value)
    self._set(np.zeros([0, 2], np.float32), self._factor)

  def check_factor(self) -> None:
    """Raises ValueError if an optimizer's learning rate is not to be multiplied."""
    if any(one is not None and one.kind == "ftrl" for pair in self._optimizers for one in pair):
      raise ValueError(
        "learning_rate_factor does not reach FTRL, whose weights follow from all gradients at one "
        "rate: give the table another optimizer."
      )

  def follow(self, step: Any) -> None:
    """Sets those of a number of steps: an integer, or a scalar tensor in a traced step."""
    rates = [
      [tf.cast(optimizer.rate_at(step), tf.float32) for optimizer in pair if optimizer is not None]
      for pair in self._optimizers
    ]
    self._set(tf.convert_to_tensor(rates), _LEAVE_FACTOR)

  def _set(self, rates: Any, factor: float) -> None:
    for handle in self._handles:
      native.ops.tfps_set_learning_rates(table=handle, rates=rates, factor=factor)
