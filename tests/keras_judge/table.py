"""The table: all features, and all programs by name."""

from tests.keras_judge.features import (
  arguments,
  callbacks,
  layers,
  losses,
  metrics,
  optimizers,
  usage,
)

FEATURES = [
  *arguments.FEATURES,
  *losses.FEATURES,
  *metrics.FEATURES,
  *optimizers.FEATURES,
  *optimizers.LEGACY,
  *optimizers.SCHEDULES,
  *callbacks.FEATURES,
  *layers.FEATURES,
  *usage.FEATURES,
]
PROGRAMS = {feature.program.__name__: feature.program for feature in FEATURES}
