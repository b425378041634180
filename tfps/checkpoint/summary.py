"""What a table's rows look like, gathered while they stream by: counts, histograms, top scores."""

import numpy as np

from tfps.checkpoint import rows as rows_lib

# Where the buckets of a histogram begin; each ends where the next one begins, the last one never.
# Shows and scores: below 0, 0, and three to a power of ten from 0.01 on.
COUNT_EDGES = [-np.inf, 0.0, *(float(f"{m}e{e}") for e in range(-2, 12) for m in (1, 2, 5))]
# unseen_days: 0, 1, and so on by powers of two.
DAY_EDGES = [0, *(2**i for i in range(16))]

MEASURES = {"shows": COUNT_EDGES, "scores": COUNT_EDGES, "unseen_days": DAY_EDGES}


class Histogram:
  """Counts of values in fixed buckets.

  Attributes:
    edges: where each bucket begins, in order.
    counts: int64 [len(edges)].
  """

  def __init__(self, edges):
    self.edges = edges
    self.counts = np.zeros(len(edges), np.int64)

  def add(self, values):
    buckets = np.searchsorted(self.edges, values, side="right") - 1
    self.counts += np.bincount(buckets, minlength=len(self.edges))


class SlotSummary:
  """The rows of one slot: how many, how many of them admitted and served, and their histograms."""

  def __init__(self):
    self.rows = self.admitted = self.served = 0
    self.histograms = {name: Histogram(edges) for name, edges in MEASURES.items()}

  def add(self, rows, scores):
    self.rows += len(rows.keys)
    self.admitted += int(rows.admitted.sum())
    self.served += int(rows.served.sum())
    for name, values in (
      ("shows", rows.statistics[:, 0]),
      ("scores", scores),
      ("unseen_days", rows.unseen_days),
    ):
      self.histograms[name].add(values)


def summarise(table, shards, only_slot=None):
  """Counts all rows of a `SavedTable`.

  Args:
    table: the `SavedTable`.
    shards: an iterator of its shards.
    only_slot: number of the one slot that is wanted; all by default.

  Returns:
    ({slot number: SlotSummary}, number of pending removals).
  """
  slots, removals = {}, 0
  for shard in shards:
    removals += len(shard.removals)
    wanted = np.unique(shard.rows.slots).tolist() if only_slot is None else [only_slot]
    for number in wanted:
      rows = shard.rows.take(shard.rows.slots == number)
      slots.setdefault(number, SlotSummary()).add(rows, table.layout.scores(rows))
  return dict(sorted(slots.items())), removals


def top(table, shards, n, only_slot=None):
  """The `SavedRows` of highest score, best first; of equal scores, those of the least keys.

  Args:
    table: the `SavedTable`.
    shards: an iterator of its shards, at least one.
    n: how many.
    only_slot: number of the one slot that is wanted; all by default.
  """
  best = None
  for shard in shards:
    rows = shard.rows
    if only_slot is not None:
      rows = rows.take(rows.slots == only_slot)
    rows = rows if best is None else rows_lib.concat([best, rows])
    best = rows.take(np.lexsort((rows.keys, -table.layout.scores(rows)))[:n])
  return best
