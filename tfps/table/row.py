"""The floats of a row: which parts there are, in which order, and how wide each is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfps.table.accessor import CtrAccessor
from tfps.table.optimizers import SparseOptimizer


@dataclasses.dataclass(frozen=True)
class RowLayout:
  """The rows of one slot, as the engine and every file hold them.

  Attributes:
    mf_dim: length of the mf vector.
    lr_optimizer: the sparse optimizer of the 1-dimensional weight.
    mf_optimizer: the sparse optimizer of the mf vector.
  """

  mf_dim: int
  lr_optimizer: SparseOptimizer
  mf_optimizer: SparseOptimizer

  @property
  def parts(self) -> dict[str, int]:
    """{name: number of floats}, in order. A row that is not admitted ends after lr_state."""
    return {
      "lr_w": 1,
      "lr_state": self.lr_optimizer.state_size(1),
      "mf_w": self.mf_dim,
      "mf_state": self.mf_optimizer.state_size(self.mf_dim),
    }

  def width(self, admitted: Any) -> Any:
    """Number of floats of a row; `admitted` is a bool, or a bool array [n] for n rows at once."""
    lr_w, lr_state, mf_w, mf_state = self.parts.values()
    return lr_w + lr_state + (mf_w + mf_state) * admitted

  def split(self, floats: np.ndarray) -> dict[str, np.ndarray]:
    """The parts of rows that are all admitted, or all not.

    Args:
      floats: float32 [..., width of a row].

    Returns:
      {name: float32 [..., number of floats], but lr_w without the last dimension}.
    """
    parts, begin = {}, 0
    for name, width in self.parts.items():
      if name == "mf_w" and begin == floats.shape[-1]:
        break
      parts[name] = floats[..., begin : begin + width]
      begin += width
    return parts | {"lr_w": parts["lr_w"][..., 0]}

  def join(self, parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """The floats of n rows, of what `split` returned.

    Args:
      parts: lr_w [n], and mf_w [n, mf_dim] if the rows are admitted. A missing state is that of an
        optimizer that has not taken a step.

    Returns:
      float32 [n, width of a row].
    """
    count = len(parts["lr_w"])
    states = {
      "lr_state": self.lr_optimizer.initial_state(1),
      "mf_state": self.mf_optimizer.initial_state(self.mf_dim),
    }
    columns = []
    for name, width in self.parts.items():
      if name in parts:
        columns.append(np.reshape(np.asarray(parts[name], np.float32), [count, width]))
      elif name.replace("state", "w") in parts:
        columns.append(np.broadcast_to(np.array(states[name], np.float32), [count, width]))
    return np.concatenate(columns, axis=1)


@dataclasses.dataclass(frozen=True)
class SlotLayout:
  """The rows of one slot: their accessor and their floats."""

  accessor: CtrAccessor
  row: RowLayout


def split_rows(
  floats: np.ndarray, slots: np.ndarray, layouts: Mapping[int, RowLayout], default: RowLayout
) -> dict[str, np.ndarray]:
  """The parts of rows of several slots, each part as wide as the widest row's.

  Args:
    floats: float32 [n, width of the widest row]; shorter rows end in zeros.
    slots: int32 [n], numbers of the slots that created the rows.
    layouts: {slot number: its `RowLayout`}.
    default: the `RowLayout` of all other slots.

  Returns:
    {"lr_w": float32 [n], and "lr_state", "mf_w" and "mf_state": float32 [n, .]}, with zeros where a
    row has less.
  """
  all_parts = [layout.parts for layout in (default, *layouts.values())]
  parts = {
    name: np.zeros([len(floats), max(part[name] for part in all_parts)], np.float32)
    for name in default.parts
  }
  parts["lr_w"] = floats[:, 0]
  for number in np.unique(slots):
    rows = np.flatnonzero(slots == number)
    layout = layouts.get(int(number), default)
    for name, part in layout.split(floats[rows, : layout.width(True)]).items():
      if name != "lr_w":
        parts[name][rows, : layout.parts[name]] = part
  return parts
