"""Losses for click models; `tfps.learning.losses` has them."""

from tfps.learning.losses import FakeNegativeWeighted, calibrated

__all__ = ["FakeNegativeWeighted", "calibrated"]
