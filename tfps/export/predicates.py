"""Which rows a base holds, in words for its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tfps.table.accessor import CtrAccessor


class Predicates(NamedTuple):
  """Which rows of a table a base holds.

  Attributes:
    common: the condition on a row.
    of_slots: the condition on rows of slots with an accessor of their own, by slot name.
  """

  common: str
  of_slots: dict[str, str]

  @classmethod
  def of(cls, accessor: CtrAccessor, of_slots: Mapping[str, CtrAccessor]) -> Predicates:
    """The conditions that accessors set: the table's, and those of some slots."""
    return cls(_in_words(accessor), {slot: _in_words(own) for slot, own in of_slots.items()})


def _in_words(accessor: CtrAccessor) -> str:
  return (
    f"(show - click) * {accessor.nonclk_coeff} + click * {accessor.clk_coeff} >= "
    f"{accessor.base_update_threshold} and delta_score >= 0 and unseen_days <= "
    f"{accessor.delta_keep_days}"
  )
