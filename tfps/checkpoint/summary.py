"""A summary of a table's rows, made shard by shard: counts, histograms, top scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tfps.checkpoint import rows as rows_lib
from tfps.checkpoint.reader import SavedTable
from tfps.checkpoint.rows import SavedRows, SavedShard

# Where the buckets of a histogram begin; each ends where the next one begins, the last one never.
# Shows and scores: below 0, 0, and three buckets for each power of ten from 0.01 on.
COUNT_EDGES: list[float] = [
  -np.inf,
  0.0,
  *(float(f"{m}e{e}") for e in range(-2, 12) for m in (1, 2, 5)),
]
# unseen_days: 0, 1, then powers of two.
DAY_EDGES: list[float] = [0, *(2**i for i in range(16))]

MEASURES = {"shows": COUNT_EDGES, "scores": COUNT_EDGES, "unseen_days": DAY_EDGES}


class Histogram:
  """Counts of values in fixed buckets.

  Attributes:
    edges: where each bucket begins, in order.
    counts: int64 [len(edges)].
  """

  def __init__(self, edges: Sequence[float]) -> None:
    self.edges = edges
    self.counts = np.zeros(len(edges), np.int64)

  def add(self, values: np.ndarray) -> None:
    """Counts each value once."""
    buckets = np.searchsorted(self.edges, values, side="right") - 1
    self.counts += np.bincount(buckets, minlength=len(self.edges))


class SlotSummary:
  """The rows of one slot.

  Attributes:
    rows: how many there are.
    admitted: how many of them are admitted.
    served: how many of them serving holds.
    histograms: a `Histogram` for each of `MEASURES`.
  """

  def __init__(self) -> None:
    self.rows = self.admitted = self.served = 0
    self.histograms = {name: Histogram(edges) for name, edges in MEASURES.items()}

  def add(self, rows: SavedRows, scores: np.ndarray) -> None:
    """Counts rows, which have these scores."""
    self.rows += len(rows.keys)
    self.admitted += int(rows.admitted.sum())
    self.served += int(rows.served.sum())
    for name, values in (
      ("shows", rows.statistics[:, 0]),
      ("scores", scores),
      ("unseen_days", rows.unseen_days),
    ):
      self.histograms[name].add(values)


def summarise(
  table: SavedTable, shards: Iterable[SavedShard], only_slot: int | None = None
) -> tuple[dict[int, SlotSummary], int]:
  """Counts all rows of a table.

  Args:
    table: the table.
    shards: its shards.
    only_slot: the number of the only slot that is counted; all by default.

  Returns:
    The summaries by slot number, and the number of pending removals.
  """
  slots: dict[int, SlotSummary] = {}
  removals = 0
  for shard in shards:
    removals += len(shard.removals)
    wanted = np.unique(shard.rows.slots).tolist() if only_slot is None else [only_slot]
    for number in wanted:
      rows = shard.rows.take(shard.rows.slots == number)
      slots.setdefault(number, SlotSummary()).add(rows, table.layout.scores(rows))
  return dict(sorted(slots.items())), removals


def top(
  table: SavedTable, shards: Iterable[SavedShard], n: int, only_slot: int | None = None
) -> SavedRows:
  """The rows with the highest scores, best first; of equal scores, the smallest keys first.

  Args:
    table: the table.
    shards: its shards, at least one.
    n: how many rows are wanted at most.
    only_slot: the number of the only slot that is looked at; all by default.
  """
  best: SavedRows | None = None
  for shard in shards:
    rows = shard.rows
    if only_slot is not None:
      rows = rows.take(rows.slots == only_slot)
    rows = rows if best is None else rows_lib.concat([best, rows])
    best = rows.take(np.lexsort((rows.keys, -table.layout.scores(rows)))[:n])
  assert best is not None, "there is at least one shard"
  return best
