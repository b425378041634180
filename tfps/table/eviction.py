"""A day's end with hooks: it shows the rows that leave, range of shards by range, in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from tfps import native

if TYPE_CHECKING:
  from tfps.table.feasign_table import FeasignTable

CHUNK_ROWS = 65_536


class EvictedRows(NamedTuple):
  """Some of the n feasigns that leave a table at a day's end, each of which is in one chunk.

  Attributes:
    table: the `tfps.FeasignTable`.
    day: ordinal of the day that ends.
    keys: int64 [n], the feasigns.
    slots: int32 [n], the numbers of their slots (`table.slots` has the names).
    statistics: float64 [n, 3], show, click and delta_score.
    unseen_days: int32 [n], whole days since the last push.

  Examples:
    >>> def archive(rows):
    ...   name = f"evicted-{rows.day}-{rows.keys[0]}.npz"
    ...   np.savez(name, keys=rows.keys, statistics=rows.statistics)
    >>> callback = tfps.callbacks.EndOfDay(table, before_eviction=[archive])
  """

  table: FeasignTable
  day: int
  keys: np.ndarray
  slots: np.ndarray
  statistics: np.ndarray
  unseen_days: np.ndarray


Hook = Callable[[EvictedRows], None]
_Function = TypeVar("_Function", bound=Callable)


def check_hooks(name: str, hooks: Iterable[_Function]) -> tuple[_Function, ...]:
  """Returns `hooks` as a tuple.

  Raises:
    ValueError: they are not a list of functions; the sentence names them `name`.
  """
  if callable(hooks) or not all(callable(hook) for hook in hooks):
    raise ValueError(f"{name} must be a list of functions, not {hooks!r}: write {name}=[function].")
  return tuple(hooks)


def count_evictable(handles: Sequence[tf.Tensor], day: int) -> dict[int, int]:
  """{slot number: rows} that would be evicted if `day` ended now; no row leaves its server."""
  counts: dict[int, int] = {}
  for slots, rows in [native.ops.tfps_count_evictable(table=handle, day=day) for handle in handles]:
    for slot, count in zip(slots.numpy().tolist(), rows.numpy().tolist()):
      counts[slot] = counts.get(slot, 0) + count
  return counts


def end_of_day(
  table: FeasignTable,
  handles: Sequence[tf.Tensor],
  day: int,
  before: Sequence[Hook],
  after: Sequence[Hook],
  chunk_rows: int,
) -> int:
  """Ends `day` with hooks; see `FeasignTable.end_of_day`. Returns how many rows were evicted."""
  due = sum(count_evictable(handles, day).values())
  # So many shards that their due rows make about one chunk; all servers work on their part of them.
  step = max(1, min(table.num_shards, chunk_rows * table.num_shards // max(due, 1)))
  evicted = 0
  for first in range(0, table.num_shards, step):
    shards = dict(first_shard=first, last_shard=min(first + step, table.num_shards), day=day)
    announced = [np.zeros(0, np.int64)] * len(handles)
    if before:
      will_leave = [native.ops.tfps_evictable(table=handle, **shards) for handle in handles]
      _show(will_leave, before, table, day, chunk_rows)
      announced = [part.keys for part in will_leave]  # They have stayed on their servers.
    left = [
      native.ops.tfps_end_of_day_rows(
        table=handle, announced=keys, only_announced=bool(before), **shards
      )
      for handle, keys in zip(handles, announced)
    ]
    evicted += sum(int(part.keys.shape[0]) for part in left)
    if after:
      _show(left, after, table, day, chunk_rows)
  return evicted


def _show(
  parts: Sequence[Sequence[tf.Tensor]],
  hooks: Sequence[Hook],
  table: FeasignTable,
  day: int,
  chunk_rows: int,
) -> None:
  """Calls hooks with the rows that each server has named, in chunks."""
  columns = [np.concatenate([column.numpy() for column in servers]) for servers in zip(*parts)]
  for start in range(0, len(columns[0]), chunk_rows):
    chunk = EvictedRows(table, day, *(column[start : start + chunk_rows] for column in columns))
    for hook in hooks:
      hook(chunk)
