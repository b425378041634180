"""What a slot may have of its own in a table that it shares with others."""

import dataclasses

import numpy as np

from tfps.table.accessor import CtrAccessor
from tfps.table.optimizers import SparseOptimizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotPolicy:
  """The policy of one slot's feasigns; what is None is the table's.

  Attributes:
    mf_dim: length of their mf vectors.
    accessor: a `CtrAccessor`: their admission, export and eviction.
    optimizer: sparse optimizer of their mf vectors.
    lr_optimizer: sparse optimizer of their 1-dimensional weights; where it is None the table's, not `optimizer`.

  Raises:
    ValueError: if a setting is out of its range, or of another type.

  Examples:
    >>> policy = tfps.SlotPolicy(mf_dim=4, accessor=tfps.CtrAccessor(create_threshold=2.0))
    >>> table = tfps.FeasignTable("ctr", mf_dim=16, slot_policies={"gender": policy})
    >>> table.policy_of("gender").optimizer
    Adagrad(learning_rate=0.05, weight_min=-10.0, weight_max=10.0, initial_g2sum=3.0)
  """

  mf_dim: int | None = None
  accessor: CtrAccessor | None = None
  optimizer: SparseOptimizer | None = None
  lr_optimizer: SparseOptimizer | None = None

  def __post_init__(self):
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

  def over(self, other):
    """This policy, with what is None here taken from `other`."""
    own = {name: value for name, value in vars(self).items() if value is not None}
    return dataclasses.replace(other, **own)

  @property
  def row_parts(self):
    """What an admitted row holds after lr_w, in this order: {name: number of floats}."""
    return {
      "lr_state": self.lr_optimizer.state_size(1),
      "mf_w": self.mf_dim,
      "mf_state": self.optimizer.state_size(self.mf_dim),
    }

  @property
  def row_floats(self):
    """Number of floats of an admitted row."""
    return 1 + sum(self.row_parts.values())

  @property
  def options(self):
    """What is not None, in the names of the engine's options: {name: value}."""
    pairs = {} if self.mf_dim is None else {"mf_dim": self.mf_dim}
    if self.accessor is not None:
      for name, value in dataclasses.asdict(self.accessor).items():
        pairs[f"accessor.{name}"] = value
    for weight, optimizer in (("lr", self.lr_optimizer), ("mf", self.optimizer)):
      if optimizer is not None:
        pairs[f"{weight}.optimizer"] = optimizer.kind
        for name, value in dataclasses.asdict(optimizer).items():
          name = "alpha" if optimizer.kind == "ftrl" and name == "learning_rate" else name
          pairs[f"{weight}.{name}"] = value
    return pairs


def check_policies(policies):
  """Returns {slot name: SlotPolicy} as a dict of its own; raises ValueError if it is something else."""
  policies = dict(policies or {})
  for slot, policy in policies.items():
    if not isinstance(slot, str) or not isinstance(policy, SlotPolicy):
      raise ValueError(
        f"slot_policies must be {{slot name: tfps.SlotPolicy}}, but has {slot!r}: {policy!r}."
      )
  return policies


def split_rows(floats, slots, policies, default):
  """The parts of whole rows, each part as wide as the widest row's, with zeros where a row has less.

  Args:
    floats: float32 [n, .], rows as the engine holds them.
    slots: int32 [n], numbers of the slots that created them.
    policies: {slot number: its complete SlotPolicy}.
    default: the complete SlotPolicy of other numbers.

  Returns:
    {"lr_w": float32 [n], and each of `SlotPolicy.row_parts`: float32 [n, .]}.
  """
  widths = [policy.row_parts for policy in (default, *policies.values())]
  parts = {
    name: np.zeros([len(floats), max(width[name] for width in widths)], np.float32)
    for name in widths[0]
  }
  for number in np.unique(slots):
    rows = np.flatnonzero(slots == number)
    begin = 1
    for name, width in policies.get(int(number), default).row_parts.items():
      parts[name][rows, :width] = floats[rows, begin : begin + width]
      begin += width
  return {"lr_w": floats[:, 0], **parts}
