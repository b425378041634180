"""What one pull of an embedding layer leaves for the push that answers it."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfps.table.feasign_table import FeasignTable


class Pull(NamedTuple):
  """What a layer asks its table for.

  Attributes:
    table: the `FeasignTable`.
    row_width: how many floats of each row.
    statistics: whether shows and clicks, too.
  """

  table: FeasignTable
  row_width: int
  statistics: bool


class Route(NamedTuple):
  """The U distinct feasigns of N ids, by server.

  Attributes:
    keys: for each server int64 [n_s], the distinct feasigns; U is the sum of n_s.
    slots: for each server int32 [n_s], the slot that each feasign first appeared in.
    positions: int32 [N], the row of each id among the rows of all servers; -1 for padding.
  """

  keys: list[tf.Tensor]
  slots: list[tf.Tensor]
  positions: tf.Tensor


class Lookup(NamedTuple):
  """One pull from one table: N ids in S slots of B examples, U distinct feasigns.

  `tfps.layers.exchange.Exchange.pull` makes it.

  Attributes:
    table: the `FeasignTable`.
    keys, slots, positions: the `Route` of the ids.
    row_splits: int64 [S * B + 1], bag s * B + b holds slot s of example b.
    rows: float32 [U, 1 + the layer's mf_dim], what was pulled.
    replies: for each server uint8 [m], the message that its rows came in; none if nothing can be
      pushed.
    statistics: float32 [U, 2], show and click of each row, if they were asked for.
    reader: the slot, if it reads the rows of another one: then the lookup may be a part of a pull,
      and rows that none of its bags has are none of it; None for slots that read their own rows.
    counts: whether its occurrences add show and click.
  """

  table: FeasignTable
  keys: list[tf.Tensor]
  slots: list[tf.Tensor]
  positions: tf.Tensor
  row_splits: tf.Tensor
  rows: tf.Tensor
  replies: list[tf.Tensor] | tuple[()] = ()
  statistics: tf.Tensor | None = None
  reader: str | None = None
  counts: bool = True

  @property
  def route(self) -> Route:
    """The `Route` of the ids."""
    return Route(self.keys, self.slots, self.positions)
