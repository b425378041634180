"""The join: takes batches of both logs, and gives the samples whose windows are closed.

Time is cut into slices. A feature record waits in the slice of its time, and an action in that of
its feature record; a slice is closed as a whole when the watermark has passed the longest window of
its last record. docs/join.md says what comes of records that are late, doubled or early.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from tfps.errors import ConfigError
from tfps.join import labelling
from tfps.join.batches import Features, Samples, action_keys, no_actions
from tfps.join.keys import NEVER, KeyIndex
from tfps.join.settings import Settings
from tfps.join.store import Store

LOGS = ("features", "actions")
_ROWS_TOGETHER = 1 << 16  # how many feature records are labelled at once, but at least a slice


class Joiner:
  """The state of a join in memory: an index of keys, watermarks and counters.

  All else is in the store.

  `step` is called within a transaction of the store, and `save` after it. A Joiner that is made
  with a store that another one left goes on from the last commit.

  Attributes:
    counts: how many records there were, by what became of them.
    watermark: milliseconds since 1970; no record is expected any more that is older. None before
      both logs have begun.
  """

  def __init__(self, settings: Settings, store: Store):
    self._settings = settings
    self._store = store
    identity = store.get("identity", settings.identity())
    for field, value in settings.identity().items():
      if value != identity[field]:
        raise ConfigError(
          f"Records wait that were read with {field} {identity[field]!r}, now it is {value!r}; "
          "close their windows first, with the old config and --once --close, or give another "
          "config.state."
        )
    self._index = KeyIndex()
    self._newest = store.get("newest", {})
    self.watermark = store.get("watermark")
    self._closed_below = store.get("closed_below", 1)
    self._forgotten_below = store.get("forgotten_below", 1)
    self._step = store.get("step", 0)
    self.counts = collections.Counter(store.get("counts", {}))
    self._unmatched = store.unmatched()
    self._index.forget(self._forgotten_below)
    for slice_, keys in store.keys():
      self._index.add(keys, np.full(len(keys.hash), slice_, np.uint32))

  @property
  def waiting(self) -> int:
    """How many feature records have a window that is open."""
    return self.counts["features"] - self.counts["closed"]

  @property
  def unmatched(self) -> int:
    """How many actions have no feature record yet, of those that may still get one."""
    return len(self._unmatched)

  def step(
    self,
    features: Features | None,
    actions: np.ndarray | None,
    reached: Mapping[str, int | None] | None = None,
    close: bool = False,
  ) -> Iterator[Samples]:
    """Takes what came and yields the samples that are due.

    Args:
      features, actions: what came of each log.
      reached: {log: the event time to which it is read in all of its parts, or None where one has
        not begun} of the logs that hold the watermark back; by default both are read to the newest
        time that came.
      close: close all windows, whatever the watermark is.
    """
    self._step += 1
    fresh = self._add_features(features) if features is not None and len(features) else None
    if fresh is not None and self._settings.policy == "early":
      yield labelling.negatives(fresh, self._settings)
    if actions is not None and len(actions):
      self._newest["actions"] = max(self._newest.get("actions", 0), int(actions["time"].max()))
      self.counts["actions"] += len(actions)
    touched = self._add_actions(actions if actions is not None else no_actions())
    if self._settings.policy == "early":
      yield from self._positives(*touched)
    if reached is None:
      reached = {log: self._newest.get(log) for log in LOGS}
    self._advance(reached, close)
    for first, last in _together(self._store.waiting_slices(self._closed_below)):
      yield from self._close(first, last)
    self._forget()

  def save(self) -> None:
    """Puts what is in memory into the store's transaction."""
    self._store.set("identity", self._settings.identity())
    self._store.set("newest", self._newest)
    self._store.set("watermark", self.watermark)
    self._store.set("closed_below", self._closed_below)
    self._store.set("forgotten_below", self._forgotten_below)
    self._store.set("step", self._step)
    self._store.set("counts", self.counts)
    self._store.set_unmatched(self._unmatched)

  def committed(self) -> None:
    """To be called after the commit: removes what it made superfluous."""
    self._store.remove_segments(self._closed_below)

  def _slices(self, time: np.ndarray) -> np.ndarray:
    return (time // self._settings.slice_ms).astype(np.uint32)

  def _add_features(self, features: Features) -> Features:
    """Returns those that were not there before, by slice."""
    self._newest["features"] = max(self._newest.get("features", 0), int(features.time.max()))
    self.counts["feature_records"] += len(features)
    slices = self._slices(features.time)
    expired = slices < self._forgotten_below
    if expired.any():
      self.counts["expired_features"] += int(np.count_nonzero(expired))
      kept = np.flatnonzero(~expired)
      features, slices = features.take(kept), slices[kept]
    new = self._index.add(features.keys, slices)
    count = int(np.count_nonzero(new))
    self.counts["duplicate_features"] += len(new) - count
    self.counts["features"] += count
    self.counts["late_features"] += int(np.count_nonzero(slices[new] < self._closed_below))
    rows = np.flatnonzero(new)
    if count < len(new) and self._settings.policy == "wait":
      # The earliest of one key is chosen when its window closes: they wait together.
      first = self._index.find(features.keys)
      rows = np.flatnonzero(new | (first >= self._closed_below))
      slices = np.where(new, slices, first)
    slices = slices[rows]
    if len(slices) and (slices[1:] < slices[:-1]).any():
      order = np.argsort(slices, kind="stable")
      rows, slices = rows[order], slices[order]
    if len(rows) < len(features) or (rows[1:] < rows[:-1]).any():
      features = features.take(rows)
    self._store.add_waiting(self._step, slices, features)
    return features

  def _add_actions(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Brings new actions, and unmatched older ones, to their feature records' slices.

    Returns:
      (slices, actions): those that were brought, sorted by slice.
    """
    actions = np.concatenate([self._unmatched, actions])
    slices = self._index.find(action_keys(actions))
    known = slices != NEVER
    self._unmatched = actions[~known]
    reopened = [slice_ for slice_, _ in self._store.waiting_slices(self._closed_below)]
    late = known & (slices < self._closed_below) & ~np.isin(slices, reopened)
    self._count_late(actions[late]["kind"])
    brought = np.flatnonzero(known & ~late)
    brought = brought[np.argsort(slices[brought], kind="stable")]
    slices, actions = slices[brought], actions[brought]
    if self._settings.policy == "wait":
      self._store.add_actions(self._step, slices, actions)
      self.counts["waiting_actions"] += len(actions)
    return slices, actions

  def _advance(self, reached: Mapping[str, int | None], close: bool) -> None:
    """Moves the watermark on, and with it what is closed and what is forgotten."""
    settings = self._settings
    known = [time for time in reached.values() if time is not None]
    if close and self._newest:
      newest = max(self._newest.values())
      last_slice = (newest // settings.slice_ms + 1) * settings.slice_ms
      self.watermark = max(self.watermark or 0, last_slice + settings.wait_ms)
    elif known and len(known) == len(reached):
      watermark = min(known) - settings.disorder_ms
      self.watermark = max(self.watermark or 0, watermark)
    if self.watermark is not None:
      closed = (self.watermark - settings.wait_ms) // settings.slice_ms
      self._closed_below = max(self._closed_below, closed)
      self._forgotten_below = max(
        self._forgotten_below, closed - -(-settings.remember_ms // settings.slice_ms)
      )

  def _close(self, first: int, last: int) -> Iterator[Samples]:
    features = self._store.waiting(first, last).earliest()
    slices = self._index.find(features.keys)
    self.counts["closed"] += len(features)
    if self._settings.policy == "wait":
      actions = self._store.actions(first, last)
      matched = labelling.match(features, actions)
      samples, outside = labelling.labelled(features, matched, self._settings)
      self.counts["waiting_actions"] -= len(actions)
      self.counts["used_actions"] += int(np.count_nonzero(~outside))
      self._count_left_out(matched, outside)
      yield samples
    self._store.close_slices(first, last, self._step, slices, features.keys)

  def _positives(self, slices: np.ndarray, actions: np.ndarray) -> Iterator[Samples]:
    """Samples of the actions that came, where their label was not given before (policy early)."""
    borders = (
      np.concatenate([[0], np.flatnonzero(np.diff(slices)) + 1, [len(slices)]])
      if len(slices)
      else [0]
    )
    for begin, end in itertools.pairwise(borders):
      slice_ = int(slices[begin])
      features = self._store.waiting(slice_, slice_)
      matched = labelling.match(features, actions[begin:end])
      before = labelling.match(features, self._store.actions(slice_, slice_))
      outside = np.ones(len(matched.row), bool)
      used = np.zeros(len(matched.row), bool)
      for label in self._settings.labels:
        counted = labelling.in_window(features, matched, label, self._settings)
        given = before.row[labelling.in_window(features, before, label, self._settings)]
        first = labelling.not_given(counted, matched.row, given)
        if first.any():
          yield labelling.positives(features, matched, first, label, self._settings)
        outside &= ~counted
        used |= first
      self.counts["used_actions"] += int(np.count_nonzero(used))
      self.counts["duplicate_actions"] += int(np.count_nonzero(~used & ~outside))
      self._count_left_out(matched, outside)
      self._store.add_actions(self._step, slices[begin:end], actions[begin:end])

  def _count_left_out(self, matched: labelling.Matched, outside: np.ndarray) -> None:
    self.counts["duplicate_actions"] += matched.duplicates
    self._count_late(matched.kind[outside])
    self._count_late(matched.strangers["kind"])

  def _count_late(self, kinds: np.ndarray) -> None:
    for kind, count in enumerate(
      np.bincount(kinds, minlength=len(self._settings.actions)).tolist()
    ):
      self.counts["late_actions"] += count
      self.counts[f"late_actions/{self._settings.actions[kind]}"] += count

  def _forget(self) -> None:
    """Forgets old keys, and the actions for which no feature record can come any more."""
    self._index.forget(self._forgotten_below)
    self._store.forget(self._forgotten_below)
    if self.watermark is not None and len(self._unmatched):
      hopeless = self._unmatched["time"] + self._settings.skew_ms < self.watermark
      self.counts["unmatched_actions"] += int(np.count_nonzero(hopeless))
      self._unmatched = self._unmatched[~hopeless]


def _together(slices: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
  """Yields (first, last) of neighbours in a list of (slice, rows) that are closed in one go."""
  first, rows = None, 0
  for number, (slice_, count) in enumerate(slices):
    first = slice_ if first is None else first
    rows += count
    if number + 1 == len(slices) or rows + slices[number + 1][1] > _ROWS_TOGETHER:
      yield first, slice_
      first, rows = None, 0
