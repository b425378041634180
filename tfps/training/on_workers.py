"""What a step must not use where workers are to run it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from tfps.graph.traced import Traced

if TYPE_CHECKING:
  from tfps.training.model import Model


def check_captures(model: Model, *steps: Traced) -> None:
  """Raises ValueError if a step uses a resource, such as a lookup table, of the chief alone."""
  for external, _ in (captured for step in steps for captured in step.others):
    if external.dtype == tf.resource and tf.DeviceSpec.from_string(external.device).job != "ps":
      raise ValueError(
        f"model '{model.name}' uses a lookup table, or another resource, that is on the chief "
        "alone: make its layer, and adapt it, in the scope of the strategy, or apply it in the "
        "source's parse function."
      )
