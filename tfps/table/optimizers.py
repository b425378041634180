"""The sparse optimizers of a table: the step that a push takes on a feasign's weights.

`w` are the weights of one feasign, `g` the gradient of the push; all clip `w` to
`[weight_min, weight_max]` after the step.

A learning rate is a number or a function of the number of steps, such as a schedule of
`keras.optimizers.schedules`. `l2` regularises the rows that a push names: `g += l2 * w` before the
step. `clipnorm` and `clipvalue` clip the gradient of a row before the step, that of the lr weight
and that of the mf vector each by itself, to a norm or each number of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from tfps.graph.autograph import users

# Of the number of steps, an integer or an integer tensor: a number or a float tensor.
Schedule: TypeAlias = Callable[[Any], Any]

_LARGEST = 3.4028234e38  # of float32


@dataclasses.dataclass(frozen=True)
class SparseOptimizer:
  """Base of the sparse optimizers; see the subclasses."""

  kind: ClassVar[str]  # the name that the engine's options know it by

  learning_rate: float | Schedule
  l2: float = dataclasses.field(default=0.0, kw_only=True)
  weight_min: float = dataclasses.field(default=-10.0, kw_only=True)
  weight_max: float = dataclasses.field(default=10.0, kw_only=True)
  clipnorm: float | None = dataclasses.field(default=None, kw_only=True)
  clipvalue: float | None = dataclasses.field(default=None, kw_only=True)

  def __post_init__(self) -> None:
    if not callable(self.learning_rate) and not self.learning_rate > 0:
      raise ValueError(
        f"{type(self).__name__}.learning_rate must be above 0, not {self.learning_rate}."
      )
    if not self.weight_min < self.weight_max:
      raise ValueError(
        f"{type(self).__name__}.weight_min ({self.weight_min}) must be below weight_max "
        f"({self.weight_max})."
      )
    if not 0 <= self.l2 <= _LARGEST:
      raise ValueError(
        f"{type(self).__name__}.l2 must be 0 or more and finite, not {self.l2}: it multiplies the "
        "weights, and what comes of it is added to their gradient."
      )
    for name in ("clipnorm", "clipvalue"):
      value = getattr(self, name)
      if value is not None and not value > 0:
        raise ValueError(f"{type(self).__name__}.{name} must be above 0 or None, not {value}.")
    if self.clipnorm is not None and self.clipvalue is not None:
      raise ValueError(
        f"{type(self).__name__} has a clipnorm and a clipvalue: give it one of them."
      )

  @property
  def is_scheduled(self) -> bool:
    """Whether the learning rate depends on the number of steps."""
    return callable(self.learning_rate)

  def rate_at(self, step: Any) -> Any:
    """The learning rate after so many steps."""
    rate = self.learning_rate
    return users(rate)(step) if callable(rate) else rate

  @property
  def options(self) -> dict[str, float]:
    """The settings by the names of the engine's options, with the first learning rate."""
    options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    options["learning_rate"] = float(self.rate_at(0))
    return options | {name: options[name] or 0.0 for name in ("clipnorm", "clipvalue")}

  def state_size(self, dim: int) -> int:
    """Number of floats of optimizer state that a vector of `dim` weights owns."""
    raise NotImplementedError

  def initial_state(self, dim: int) -> list[float]:
    """The state of such a vector before its first step, `state_size` floats."""
    return [0.0] * self.state_size(dim)


@dataclasses.dataclass(frozen=True)
class SGD(SparseOptimizer):
  """`w -= learning_rate * g`; no state.

  Examples:
    >>> table = tfps.FeasignTable("ctr", mf_dim=8, optimizer=tfps.SGD(0.05))
    >>> table.optimizer.state_size(dim=8)
    0
  """

  learning_rate: float | Schedule = 0.01
  kind: ClassVar[str] = "sgd"

  def state_size(self, dim: int) -> int:
    return 0


@dataclasses.dataclass(frozen=True)
class Adagrad(SparseOptimizer):
  """AdaGrad with one squared-gradient sum for the whole vector (PaddlePaddle's SparseAdaGrad).

  `w -= learning_rate * g * sqrt(g2_0 / (g2_0 + g2sum))`, then `g2sum += mean(g^2)`, where
  `g2_0 = initial_g2sum`. After Duchi, Hazan, Singer (2011).

  Examples:
    >>> table = tfps.FeasignTable("ctr", mf_dim=8, optimizer=tfps.Adagrad(0.05))
    >>> table.optimizer.state_size(dim=8)
    1
  """

  learning_rate: float | Schedule = 0.05
  initial_g2sum: float = dataclasses.field(default=3.0, kw_only=True)
  kind: ClassVar[str] = "adagrad"

  def state_size(self, dim: int) -> int:
    return 1


@dataclasses.dataclass(frozen=True)
class StdAdagrad(SparseOptimizer):
  """`Adagrad` with one squared-gradient sum per dimension.

  Examples:
    >>> table = tfps.FeasignTable("ctr", mf_dim=8, optimizer=tfps.StdAdagrad(0.05))
    >>> table.optimizer.state_size(dim=8)
    8
  """

  learning_rate: float | Schedule = 0.05
  initial_g2sum: float = dataclasses.field(default=3.0, kw_only=True)
  kind: ClassVar[str] = "std_adagrad"

  def state_size(self, dim: int) -> int:
    return dim


@dataclasses.dataclass(frozen=True)
class Adam(SparseOptimizer):
  """Adam on the rows that a push names (Kingma & Ba 2015, Algorithm 1); beta powers per row.

  Examples:
    >>> table = tfps.FeasignTable("ctr", mf_dim=8, optimizer=tfps.Adam(0.05))
    >>> table.optimizer.state_size(dim=8)
    18
  """

  learning_rate: float | Schedule = 0.001
  beta1: float = dataclasses.field(default=0.9, kw_only=True)
  beta2: float = dataclasses.field(default=0.999, kw_only=True)
  epsilon: float = dataclasses.field(default=1e-8, kw_only=True)
  kind: ClassVar[str] = "adam"

  def state_size(self, dim: int) -> int:
    return 2 * dim + 2

  def initial_state(self, dim: int) -> list[float]:
    return [0.0] * (2 * dim) + [1.0, 1.0]


@dataclasses.dataclass(frozen=True)
class FTRL(SparseOptimizer):
  """FTRL-Proximal (McMahan et al. 2013, Algorithm 1); `learning_rate` is the paper's alpha.

  `l2` is the paper's, a part of the closed form of the weights, and nothing is added to `g`.

  Examples:
    >>> table = tfps.FeasignTable("ctr", mf_dim=8, optimizer=tfps.FTRL(0.05, l1=1.0))
    >>> table.optimizer.state_size(dim=8)
    16
  """

  learning_rate: float | Schedule = 0.05
  beta: float = dataclasses.field(default=1.0, kw_only=True)
  l1: float = dataclasses.field(default=0.0, kw_only=True)
  kind: ClassVar[str] = "ftrl"

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.is_scheduled:
      raise ValueError(
        "FTRL.learning_rate must be a number: its weights follow from all gradients at one rate."
      )

  @property
  def options(self) -> dict[str, float]:
    options = super().options
    options["alpha"] = options.pop("learning_rate")
    return options

  def state_size(self, dim: int) -> int:
    return 2 * dim
