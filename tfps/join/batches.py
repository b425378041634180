"""Batches of records, as columns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from tfps.join.keys import Keys

# An action as it waits: `kind` is its place in Settings.actions.
ACTION = np.dtype(
  [("hash", "<u8"), ("check", "<u4"), ("time", "<i8"), ("kind", "<u2"), ("value", "<f4")]
)


@dataclasses.dataclass
class Features:
  """Records of the feature log: what waits for actions."""

  keys: Keys
  time: np.ndarray  # int64 [n], milliseconds since 1970
  entries: pa.Array  # binary [n], `samples.shown`

  def __len__(self) -> int:
    return len(self.time)

  def earliest(self) -> Features:
    """Of records of one key that with the smallest time; of these the one whose bytes are least."""
    hashes = np.sort(self.keys.hash)
    if not (hashes[1:] == hashes[:-1]).any():
      return self
    order = np.lexsort((self.time, self.keys.check, self.keys.hash))
    keys = self.keys.take(order)
    begins = np.ones(len(order), bool)
    begins[1:] = (keys.hash[1:] != keys.hash[:-1]) | (keys.check[1:] != keys.check[:-1])
    kept = order[begins]
    group, time = np.cumsum(begins) - 1, self.time[order]
    for row in np.flatnonzero(~begins & (time == self.time[kept][group])).tolist():
      best = kept[group[row]]
      if self.entries[int(order[row])].as_py() < self.entries[int(best)].as_py():
        kept[group[row]] = order[row]
    return self.take(np.sort(kept))

  def take(self, rows: np.ndarray) -> Features:
    return Features(self.keys.take(rows), self.time[rows], self.entries.take(pa.array(rows)))


def no_actions() -> np.ndarray:
  """Actions are a structured array of ACTION; this one is empty."""
  return np.zeros(0, ACTION)


def actions_of(keys: Keys, time: np.ndarray, kind: np.ndarray, value: np.ndarray) -> np.ndarray:
  actions = np.empty(len(time), ACTION)
  actions["hash"], actions["check"] = keys
  actions["time"], actions["kind"], actions["value"] = time, kind, value
  return actions


def action_keys(actions: np.ndarray) -> Keys:
  return Keys(actions["hash"].copy(), actions["check"].copy())


def concatenate_binary(parts: list[pa.Array]) -> pa.Array:
  return pa.concat_arrays(parts) if parts else pa.array([], pa.binary())


def concatenate_features(parts: list[Features]) -> Features:
  if len(parts) == 1:
    return parts[0]
  hashes = np.concatenate([np.zeros(0, np.uint64), *(part.keys.hash for part in parts)])
  checks = np.concatenate([np.zeros(0, np.uint32), *(part.keys.check for part in parts)])
  time = np.concatenate([np.zeros(0, np.int64), *(part.time for part in parts)])
  return Features(Keys(hashes, checks), time, concatenate_binary([part.entries for part in parts]))


@dataclasses.dataclass
class Samples:
  """Labelled samples, the arguments of `samples.records`."""

  entries: pa.Array  # binary [n]
  label_time: np.ndarray  # int64 [n]
  show: np.ndarray  # float32 [n]
  click: np.ndarray
  weight: np.ndarray
  labels: dict[str, np.ndarray]  # float32 [n] each
  label_weights: dict[str, np.ndarray]

  def __len__(self) -> int:
    return len(self.label_time)

  def slice(self, begin: int, count: int) -> Samples:
    rows = slice(begin, begin + count)
    columns = {
      name: column[rows] for name, column in vars(self).items() if isinstance(column, np.ndarray)
    }
    labels, label_weights = (
      {name: column[rows] for name, column in part.items()}
      for part in (self.labels, self.label_weights)
    )
    return Samples(
      self.entries.slice(begin, count), **columns, labels=labels, label_weights=label_weights
    )
