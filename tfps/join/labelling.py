"""Labels from actions: pure functions of columns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tfps.join.batches import Features, Samples
from tfps.join.settings import Label, Settings


class Matched(NamedTuple):
  """Actions of feature records, sorted by row, kind and time, each once."""

  row: np.ndarray  # int64 [m]: the feature record
  kind: np.ndarray  # [m]
  time: np.ndarray  # int64 [m]
  value: np.ndarray  # float32 [m]
  strangers: np.ndarray  # the actions, as ACTION, of none of these feature records
  duplicates: int  # how many were left out because they repeat another one


def match(features: Features, actions: np.ndarray) -> Matched:
  """Finds the feature record of each action; keys of features are unique."""
  if len(actions) and len(features):
    order = np.argsort(features.keys.hash)
    places = np.searchsorted(features.keys.hash, actions["hash"], sorter=order)
    row = order[np.minimum(places, len(order) - 1)]
    known = (features.keys.hash[row] == actions["hash"]) & (
      features.keys.check[row] == actions["check"]
    )
  else:
    row, known = np.zeros(len(actions), np.int64), np.zeros(len(actions), bool)
  strangers, row, actions = actions[~known], row[known], actions[known]
  order = np.lexsort((actions["value"], actions["time"], actions["kind"], row))
  row, actions = row[order], actions[order]
  kept = np.ones(len(row), bool)
  kept[1:] = row[1:] != row[:-1]
  for field in ("kind", "time", "value"):
    kept[1:] |= actions[field][1:] != actions[field][:-1]
  row, actions = row[kept], actions[kept]
  duplicates = int(np.count_nonzero(~kept))
  return Matched(row, actions["kind"], actions["time"], actions["value"], strangers, duplicates)


def in_window(
  features: Features, matched: Matched, label: Label, settings: Settings, kind: str = ""
) -> np.ndarray:
  """Finds a label's actions, or those of another kind.

  They come from `skew` before the show to `wait` after it.
  """
  delay = matched.time - features.time[matched.row]
  of_kind = matched.kind == settings.actions.index(kind or label.action)
  return of_kind & (delay >= -settings.skew_ms) & (delay <= label.wait_ms)


def labelled(
  features: Features, matched: Matched, settings: Settings
) -> tuple[Samples, np.ndarray]:
  """One sample for each feature record, with all of its actions that are within their windows.

  Returns:
    (samples, bool [m]: which actions are in none because they came outside of their window).
  """
  n = len(features)
  used = np.zeros(len(matched.row), bool)
  labels = {}
  for label in settings.labels:
    counted = in_window(features, matched, label, settings)
    if label.undo:
      undone = in_window(features, matched, label, settings, label.undo)
      labels[label.name] = _not_undone(matched, counted, undone, n)
      counted |= undone
    else:
      labels[label.name] = _values(matched.row[counted], matched.value[counted], label.value, n)
    used |= counted
  label_time = features.time.copy()
  np.maximum.at(label_time, matched.row[used], matched.time[used])
  ones = np.ones(n, np.float32)
  click = (labels[settings.click_label] > 0).astype(np.float32)
  return Samples(
    features.entries, label_time, ones, click, ones, labels, dict.fromkeys(labels, ones)
  ), ~used


def negatives(features: Features, settings: Settings) -> Samples:
  """One sample for each feature record, as if no action came."""
  zeros, ones = np.zeros(len(features), np.float32), np.ones(len(features), np.float32)
  names = [label.name for label in settings.labels]
  return Samples(
    features.entries,
    features.time,
    ones,
    zeros,
    ones,
    dict.fromkeys(names, zeros),
    dict.fromkeys(names, ones),
  )


def not_given(counted: np.ndarray, row: np.ndarray, given: np.ndarray) -> np.ndarray:
  """Returns, of the actions that count (bool [m], by row), the first of each row not in `given`."""
  first = np.zeros(len(row), bool)
  candidates = np.flatnonzero(counted)
  _, begins = np.unique(row[candidates], return_index=True)
  first[candidates[begins]] = True
  return first & ~np.isin(row, given)


def positives(
  features: Features, matched: Matched, first: np.ndarray, label: Label, settings: Settings
) -> Samples:
  """Makes one sample for each action `first` (bool [m]): its label is 1, others are not given."""
  taken = features.take(matched.row[first])
  n = len(taken)
  zeros, ones = np.zeros(n, np.float32), np.ones(n, np.float32)
  names = [other.name for other in settings.labels]
  only = {name: ones if name == label.name else zeros for name in names}
  label_time = np.maximum(taken.time, matched.time[first])
  click = ones if label.name == settings.click_label else zeros
  return Samples(taken.entries, label_time, zeros, click, ones, only, only)


def _not_undone(matched: Matched, done: np.ndarray, undone: np.ndarray, n: int) -> np.ndarray:
  """1 for each row whose last action is done, and not undone; at the same time, undone is last."""
  rows = np.flatnonzero(done | undone)
  rows = rows[np.lexsort((undone[rows], matched.time[rows], matched.row[rows]))]
  return _values(matched.row[rows], done[rows].astype(np.float32), "last", n)


def _values(row: np.ndarray, value: np.ndarray, how: str, n: int) -> np.ndarray:
  """Combines the values of each row; rows are sorted, and their values in the order of time."""
  out = np.zeros(n, np.float32)
  if not len(row):
    return out
  begins = np.flatnonzero(np.concatenate([[True], row[1:] != row[:-1]]))
  rows = row[begins]
  if how == "":
    out[rows] = 1
  elif how == "first":
    out[rows] = value[begins]
  elif how == "last":
    out[rows] = value[np.concatenate([begins[1:], [len(row)]]) - 1]
  else:
    reduce: Any = {"max": np.maximum, "min": np.minimum, "sum": np.add}[how]
    out[rows] = reduce.reduceat(value, begins)
  return out
