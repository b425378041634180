"""How the embedding layers of a forward pass get rows, and where the push that answers them goes.

A layer asks the active `Exchange` for the rows of its bags. There are five:

- `Direct`, unless another one is active: it pulls from the table and pushes to it.
- `Routed` does the same, but its caller has found the batch's distinct feasigns already.
- `Routing` only finds these: it runs ahead of a step, and the layers see zeros.
- `Exchanged` is for a step on a worker, whose loop pulls before the step and pushes after it.
- `tfps.layers.served_lookup.Served` is for a model that is traced for serving.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar

import tensorflow as tf

from tfps.layers import pooling
from tfps.layers.bags import Bags
from tfps.layers.lookup import Lookup, Pull, Route
from tfps.table.feasign_table import FeasignTable

# The name of the tensors that stand for rows in a `Routing`.
NOT_PULLED = "rows_not_pulled"

# The step of a push that belongs to no ticket; the servers apply it whatever they have seen before.
NO_TICKET = (-1, 0, 0)

# Finds the `Route` of the bags.
Router: TypeAlias = Callable[[Bags], Route]

_Self = TypeVar("_Self", bound="Exchange")


class Rows(NamedTuple):
  """What an exchange has for the bags of one layer.

  Attributes:
    route: the `Route` of the bags.
    rows: float32 [U, row_width], a row for each of the route's feasigns.
    replies: for each server uint8 [m], the message that its rows came in; none if nothing will be
      pushed.
    statistics: float32 [U, 2], show and click of each row, if they were asked for.
  """

  route: Route
  rows: tf.Tensor
  replies: list[tf.Tensor] | tuple[()] = ()
  statistics: tf.Tensor | None = None


class Exchange:
  """The base of all exchanges: a context manager, within which embedding layers use it.

  A subclass overrides `fetch`, and `push` if train steps run in it.

  Attributes:
    in_training: whether embedding layers may be called with training=True without a `Step`.
    step: int64 [3] of a push: the ticket's number, the batch's number in it, and the number below
      which all tickets are finished.
    wire_dtype: the dtype of pushed gradients.
    gradient_sums: the `tfps.training.gradient_sums.GradientSums` that take the dense gradients;
      None if the optimizer does.
    is_told: whether somebody asks whether a train step in it was not finite.
    spoilt: bool scalar, whether it was not; None where it did not say.
  """

  in_training: ClassVar[bool] = False
  step: Any = NO_TICKET
  wire_dtype: tf.DType = tf.float32
  gradient_sums: Any = None
  is_told: bool = True
  spoilt: tf.Tensor | None = None

  def __enter__(self: _Self) -> _Self:
    self._token = _active.set(self)
    return self

  def __exit__(self, *exc_info: object) -> None:
    _active.reset(self._token)

  def pull(self, asked: Pull, bags: Bags, route: Router) -> Lookup:
    """Called by an embedding layer: pulls the rows of its bags.

    Args:
      asked: what the layer wants of its table.
      bags: the feasigns of a batch.
      route: finds the `Route` of the bags.
    """
    fetched = self.fetch(asked, bags, route)
    return Lookup(
      asked.table,
      *fetched.route,
      bags.row_splits,
      fetched.rows,
      fetched.replies,
      statistics=fetched.statistics,
    )

  def fetch(self, asked: Pull, bags: Bags, route: Router) -> Rows:
    """The `Rows` of some bags; arguments as of `pull`."""
    raise NotImplementedError

  def follow_schedule(self, table: FeasignTable, steps: Any) -> None:
    """Sets the learning rates of `table` for this step, where its pushes are steps at once.

    Args:
      table: the table.
      steps: scalar, the number of steps before this one.
    """

  def pool(self, table: FeasignTable, *arguments: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Pools rows that were pulled from `table`; see `tfps.layers.pooling.pool`."""
    del table
    return pooling.pool(*arguments)

  def push(
    self, table: FeasignTable, messages: list[tf.Tensor], gradients: list[tf.Tensor]
  ) -> None:
    """Called by a `Step` at its end.

    Args:
      table: a table that was pulled from.
      messages: for each server uint8 [m], what it is to apply.
      gradients: those of the pulled rows, which are in the messages.
    """
    raise NotImplementedError


class Direct(Exchange):
  """Pulls from the tables, and pushes to them."""

  def follow_schedule(self, table: FeasignTable, steps: Any) -> None:
    if table.learning_rates.are_scheduled:
      table.learning_rates.follow(steps)

  def fetch(self, asked: Pull, bags: Bags, route: Router) -> Rows:
    table, row_width, statistics = asked
    routed = route(bags)
    if not self._is_answered():
      of_rows = table.pull_counts(routed.keys) if statistics else None
      return Rows(routed, table.pull(routed.keys, row_width), statistics=of_rows)
    replies = table.exchange(routed.keys, table.no_messages(), row_width, counts=statistics)
    of_rows = table.read_counts(replies) if statistics else None
    return Rows(routed, table.read_replies(replies, row_width), replies, of_rows)

  def push(
    self, table: FeasignTable, messages: list[tf.Tensor], gradients: list[tf.Tensor]
  ) -> None:
    del gradients
    table.send(messages)

  def _is_answered(self) -> bool:
    """Whether a push will answer what is pulled now."""
    return current_step() is not None


class Routed(Direct):
  """Pulls what is known already to be wanted.

  Args:
    routes: the `Route` of each pull of the forward pass, in order.

  Attributes:
    gradients: those of the rows that were pushed.
  """

  in_training = True

  def __init__(self, routes: Iterable[Route]) -> None:
    self.gradients: list[tf.Tensor] = []
    self._routes = iter(routes)

  def fetch(self, asked: Pull, bags: Bags, route: Router) -> Rows:
    return super().fetch(asked, bags, lambda _: next(self._routes))

  def push(
    self, table: FeasignTable, messages: list[tf.Tensor], gradients: list[tf.Tensor]
  ) -> None:
    self.gradients += gradients
    super().push(table, messages, gradients)

  def _is_answered(self) -> bool:
    return True


class Routing(Exchange):
  """Collects what embedding layers want to pull, and gives them zeros.

  Attributes:
    pulls: the `Pull` of each, in the order of the layers' calls.
    routes: its `Route`, likewise.
  """

  in_training = True

  def __init__(self) -> None:
    self.pulls: list[Pull] = []
    self.routes: list[Route] = []

  def fetch(self, asked: Pull, bags: Bags, route: Router) -> Rows:
    routed = route(bags)
    self.pulls.append(asked)
    self.routes.append(routed)
    count = tf.add_n([tf.shape(keys)[0] for keys in routed.keys])
    of_rows = tf.zeros([count, 2], name=NOT_PULLED) if asked.statistics else None
    return Rows(routed, tf.zeros([count, asked.row_width], name=NOT_PULLED), statistics=of_rows)


class MadeUp(Exchange):
  """Gives embedding layers rows of made-up numbers, always the same ones; touches no table."""

  in_training = True

  def fetch(self, asked: Pull, bags: Bags, route: Router) -> Rows:
    routed = route(bags)
    count = tf.add_n([tf.shape(keys)[0] for keys in routed.keys])
    of_rows = (
      tf.random.stateless_uniform([count, 2], [3, 4], 0.1, 0.9) if asked.statistics else None
    )
    rows = tf.random.stateless_uniform([count, asked.row_width], [1, 2], 0.1, 0.9)
    return Rows(routed, rows, statistics=of_rows)


class Exchanged(Exchange):
  """Gives embedding layers what was pulled for them, and keeps what the step pushes.

  Args:
    pulled: for each pull of the forward pass, in order, its `Route` and the servers' replies.
    step, wire_dtype, gradient_sums: as of `Exchange`.

  Attributes:
    pushes: {`FeasignTable`: for each server uint8 [m], the message that pushes}.
  """

  in_training = True

  def __init__(
    self,
    pulled: Iterable[tuple[Route, list[tf.Tensor]]],
    step: Any,
    wire_dtype: tf.DType,
    gradient_sums: Any = None,
  ) -> None:
    self.step = step
    self.wire_dtype = wire_dtype
    self.gradient_sums = gradient_sums
    self.pushes: dict[FeasignTable, list[tf.Tensor]] = {}
    self._pulled = iter(pulled)

  def fetch(self, asked: Pull, bags: Bags, route: Router) -> Rows:
    table, row_width, statistics = asked
    routed, replies = next(self._pulled)
    of_rows = table.read_counts(replies) if statistics else None
    return Rows(routed, table.read_replies(replies, row_width), replies, of_rows)

  def push(
    self, table: FeasignTable, messages: list[tf.Tensor], gradients: list[tf.Tensor]
  ) -> None:
    self.pushes[table] = messages


_DIRECT = Direct()
_DIRECT.is_told = False
_active: contextvars.ContextVar[Exchange] = contextvars.ContextVar("exchange", default=_DIRECT)
_step: contextvars.ContextVar[Any] = contextvars.ContextVar("step", default=None)
_last: contextvars.ContextVar[Any] = contextvars.ContextVar("last", default=None)


def current_exchange() -> Exchange:
  """The innermost active `Exchange`; a `Direct` by default."""
  return _active.get()


def current_step() -> Any:
  """The `tfps.layers.step.Step` that is being traced or run, or None outside of one."""
  return _step.get()


def last_step() -> Any:
  """The `Step` that was begun last and has not pushed, or None."""
  return _last.get()


def set_step(step: Any) -> Any:
  """Makes `step` the current one; returns the one before."""
  before = _step.get()
  _step.set(step)
  return before


def set_last_step(step: Any) -> None:
  """Makes `step` the one that was begun last."""
  _last.set(step)
