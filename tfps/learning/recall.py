"""Recall of retrieval: how often an item that was clicked is among the first k of all items."""

from __future__ import annotations

import collections
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def recall_at_k(
  users: npt.ArrayLike,
  clicked: npt.ArrayLike,
  items: npt.ArrayLike,
  ks: Iterable[int] = (10, 100),
  *,
  block_items: int = 65_536,
  block_users: int = 1024,
) -> dict[int, float]:
  """The share of users whose clicked item is among the k items with the highest scores.

  A score is the inner product of a user's and an item's vector. All items are scored, in blocks: no
  sampled candidates (Krichene & Rendle 2020 show what these do to the metric). Where another item
  has the same score, it counts as the better one, so that equal vectors find nothing.

  Args:
    users: float [U, dim], the vectors of users, such as `model.user.predict` returns.
    clicked: int [U], the index in `items` of the item that each user clicked.
    items: float [N, dim], the vectors of all items, each once, such as `model.item.predict` returns
      on a source of items.
    ks: numbers of items.
    block_items: items that are scored at a time.
    block_users: users that are scored at a time.

  Returns:
    {k: recall}.

  Raises:
    ValueError: shapes do not fit, there is no user, or an index is none of an item.

  Examples:
    >>> items = [[1.0, 0.0], [0.0, 1.0], [0.7, 0.7]]
    >>> tfps.evaluation.recall_at_k([[1.0, 0.1], [0.9, 0.4]], [0, 1], items, ks=[1, 2, 3])
    {1: 0.5, 2: 0.5, 3: 1.0}
  """
  users, items = np.asarray(users, np.float32), np.asarray(items, np.float32)
  clicked = np.asarray(clicked, np.int64).reshape(-1)
  if users.ndim != 2 or items.ndim != 2 or users.shape[1] != items.shape[1]:
    raise ValueError(
      f"users are {users.shape} and items {items.shape}: give vectors of one length, one for each."
    )
  if len(clicked) != len(users) or not len(users):
    raise ValueError(
      f"there are {len(users)} users and {len(clicked)} clicked items: give one item for each user."
    )
  if clicked.min() < 0 or clicked.max() >= len(items):
    raise ValueError(
      f"a clicked item has index {clicked.max() if clicked.min() >= 0 else clicked.min()}, and "
      f"there are {len(items)} items."
    )
  better = _better(users, clicked, items, block_items, block_users)
  return {int(k): float(np.mean(better < k)) for k in ks}


class RecallScores:
  """How many clicked items were among the first k of all items, counted as they come.

  Attributes:
    clicks: how many items were clicked.
    found: {k: how many of them were among the first k}.
  """

  def __init__(self) -> None:
    self.clicks = 0
    self.found: collections.Counter[int] = collections.Counter()

  def update(
    self, users: np.ndarray, clicked: np.ndarray, items: np.ndarray, ks: Iterable[int]
  ) -> None:
    """Counts clicks.

    Args:
      users: float [U, dim], as for `recall_at_k`; there may be none.
      clicked: int [U], likewise; -1 is an item that is not among the items, and is not found.
      items: float [N, dim], likewise.
      ks: numbers of items.
    """
    known = clicked >= 0
    better = _better(users[known], clicked[known], items)
    self.clicks += len(clicked)
    for k in ks:
      self.found[k] += int(np.count_nonzero(better < k))

  def merge(self, other: RecallScores) -> None:
    """Adds the counts of `other`."""
    self.clicks += other.clicks
    for k, found in other.found.items():  # `+=` of counters would leave out zeros.
      self.found[k] += found

  @property
  def recall(self) -> dict[int, float]:
    """{k: recall}; NaN before the first click."""
    return {
      k: found / self.clicks if self.clicks else float("nan") for k, found in self.found.items()
    }

  def __str__(self) -> str:
    found = "   ".join(f"recall@{k} {recall:.4f}" for k, recall in self.recall.items())
    return f"{self.clicks:,} clicks   {found}"

  def as_dict(self) -> dict[str, float]:
    """The same as JSON values."""
    recalls = {f"recall@{k}": recall for k, recall in self.recall.items()}
    return {"clicks": self.clicks, **recalls}


def _better(
  users: np.ndarray,
  clicked: np.ndarray,
  items: np.ndarray,
  block_items: int = 65_536,
  block_users: int = 1024,
) -> np.ndarray:
  """int64 [U]: how many items score as high as the clicked one, or higher."""
  starts = range(0, len(users), block_users)
  blocks = [slice(start, start + block_users) for start in starts]
  found = [_better_of_block(users[rows], clicked[rows], items, block_items) for rows in blocks]
  return np.concatenate(found) if found else np.zeros(0, np.int64)


def _better_of_block(
  users: np.ndarray, clicked: np.ndarray, items: np.ndarray, block_items: int
) -> np.ndarray:
  """`_better` of the users of one block."""
  of_clicked = items[clicked]
  score = np.einsum("ud,ud->u", users, of_clicked)
  # Equal vectors may score apart by rounding.
  score -= 1e-6 * np.linalg.norm(users, axis=1) * np.linalg.norm(of_clicked, axis=1)
  better = np.zeros(len(users), np.int64)
  for first in range(0, len(items), block_items):
    scores = users @ items[first : first + block_items].T
    inside = np.flatnonzero((clicked >= first) & (clicked < first + scores.shape[1]))
    scores[inside, clicked[inside] - first] = -np.inf
    better += np.count_nonzero(scores >= score[:, np.newaxis], axis=1)
  return better
