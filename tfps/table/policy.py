"""Settings that a slot may have for itself in a table that it shares with other slots."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfps.table.accessor import CtrAccessor
from tfps.table.optimizers import SparseOptimizer
from tfps.table.row import RowLayout, SlotLayout


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotPolicy:
  """The policy of one slot's feasigns; a setting that is None is the table's.

  Attributes:
    mf_dim: length of their mf vectors.
    accessor: a `CtrAccessor`: their admission, export and eviction.
    optimizer: sparse optimizer of their mf vectors.
    lr_optimizer: sparse optimizer of their 1-dimensional weights; None: the table's, not
      `optimizer`.

  Raises:
    ValueError: if a setting is out of its range, or of another type.

  Examples:
    >>> policy = tfps.SlotPolicy(mf_dim=4, accessor=tfps.CtrAccessor(create_threshold=2.0))
    >>> table = tfps.FeasignTable("ctr", mf_dim=16, slot_policies={"gender": policy})
    >>> table.policy_of("gender").optimizer == tfps.Adagrad(0.05)
    True
  """

  mf_dim: int | None = None
  accessor: CtrAccessor | None = None
  optimizer: SparseOptimizer | None = None
  lr_optimizer: SparseOptimizer | None = None

  def __post_init__(self) -> None:
    if self.mf_dim is not None and not (isinstance(self.mf_dim, int) and self.mf_dim >= 1):
      raise ValueError(f"SlotPolicy.mf_dim must be a whole number from 1, not {self.mf_dim!r}.")
    for name, kind in (
      ("accessor", CtrAccessor),
      ("optimizer", SparseOptimizer),
      ("lr_optimizer", SparseOptimizer),
    ):
      value = getattr(self, name)
      if value is not None and not isinstance(value, kind):
        raise ValueError(f"SlotPolicy.{name} must be a {kind.__name__}, not {value!r}.")

  def over(self, other: SlotPolicy) -> SlotPolicy:
    """This policy, with each setting that is None taken from `other`."""
    own = {name: value for name, value in vars(self).items() if value is not None}
    return dataclasses.replace(other, **own)

  @property
  def layout(self) -> SlotLayout:
    """The `SlotLayout` of a complete policy, which has no None."""
    accessor, mf_dim = self.accessor, self.mf_dim
    lr_optimizer, mf_optimizer = self.lr_optimizer, self.optimizer
    if accessor is None or mf_dim is None or lr_optimizer is None or mf_optimizer is None:
      raise ValueError(f"{self} is not complete: put it over the table's (SlotPolicy.over).")
    return SlotLayout(accessor, RowLayout(mf_dim, lr_optimizer, mf_optimizer))

  @property
  def options(self) -> dict[str, Any]:
    """The settings that are not None, by the names of the engine's options."""
    pairs: dict[str, Any] = {} if self.mf_dim is None else {"mf_dim": self.mf_dim}
    if self.accessor is not None:
      for name, value in dataclasses.asdict(self.accessor).items():
        pairs[f"accessor.{name}"] = value
    for weight, optimizer in (("lr", self.lr_optimizer), ("mf", self.optimizer)):
      if optimizer is not None:
        pairs[f"{weight}.optimizer"] = optimizer.kind
        for name, value in optimizer.options.items():
          pairs[f"{weight}.{name}"] = value
    return pairs


def check_policies(policies: Mapping[str, SlotPolicy] | None) -> dict[str, SlotPolicy]:
  """Returns {slot name: SlotPolicy} as a new dict.

  Raises:
    ValueError: it is something else.
  """
  policies = dict(policies or {})
  for slot, policy in policies.items():
    if not isinstance(slot, str) or not isinstance(policy, SlotPolicy):
      raise ValueError(
        f"slot_policies must be {{slot name: tfps.SlotPolicy}}, but has {slot!r}: {policy!r}."
      )
  return policies
