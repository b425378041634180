"""When a feasign is admitted, exported and evicted: the settings of the show/click statistics."""

from __future__ import annotations

import dataclasses
from typing import Any

# A row counts its unseen days in 16 bits, up to one more than this.
_MOST_DAYS = 65_534


@dataclasses.dataclass(frozen=True, kw_only=True)
class CtrAccessor:
  """The show/click policy of a table.

  The score of a feasign is `(show - click) * nonclk_coeff + click * clk_coeff`.

  Attributes:
    nonclk_coeff: how much a show without a click adds to the score.
    clk_coeff: how much a click adds to the score.
    create_threshold: the score at which a feasign is admitted, that is, gets an mf vector.
    base_update_threshold: the lowest score of a feasign in an export.
    delta_update_threshold: the lowest delta_score of a feasign in a delta export.
    delta_keep_days: the most unseen_days of a feasign in an export.
    delete_threshold: a feasign with a lower score is evicted at the day's end.
    delete_after_unseen_days: a feasign that was not pushed for more days than this is evicted, too.
    decay_rate: the factor by which show and click are multiplied at the day's end, in (0, 1].

  Raises:
    ValueError: if a setting is out of its range.

  Examples:
    >>> accessor = tfps.CtrAccessor(create_threshold=5.0)
    >>> accessor.score(show=30.0, click=2.0) >= accessor.create_threshold
    False
    >>> accessor.score(show=30.0, click=3.0) >= accessor.create_threshold
    True
  """

  nonclk_coeff: float = 0.1
  clk_coeff: float = 1.0
  create_threshold: float = 10.0
  base_update_threshold: float = 1.5
  delta_update_threshold: float = 0.25
  delta_keep_days: int = 16
  delete_threshold: float = 0.8
  delete_after_unseen_days: int = 30
  decay_rate: float = 0.98

  def __post_init__(self) -> None:
    if not 0 < self.decay_rate <= 1:
      raise ValueError(f"CtrAccessor.decay_rate must lie in (0, 1], not {self.decay_rate}.")
    for name in ("delta_keep_days", "delete_after_unseen_days"):
      if not 0 <= getattr(self, name) <= _MOST_DAYS:
        raise ValueError(
          f"CtrAccessor.{name} must lie between 0 and {_MOST_DAYS} days, not {getattr(self, name)}."
        )

  def score(self, show: Any, click: Any) -> Any:
    """The score of `show` and `click` (floats or arrays)."""
    return (show - click) * self.nonclk_coeff + click * self.clk_coeff

  def in_base(self, show: Any, click: Any, delta_score: Any, unseen_days: Any) -> Any:
    """Whether a base export holds rows of these statistics (numbers or arrays)."""
    return (
      (self.score(show, click) >= self.base_update_threshold)
      & (delta_score >= 0)
      & (unseen_days <= self.delta_keep_days)
    )
