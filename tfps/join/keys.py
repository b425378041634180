"""Keys of records, and the index that knows which of them were seen.

A key is what `request_id` and `item_id` hash to: 64 bits that the index looks for and 32 more that
must agree, so that two of 10^8 pairs of ids are taken for one with a probability below 10^-12.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

_GOLDEN, _OTHER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_CHECK_SHIFT = np.uint64(32)
_MAX_LOAD = 0.6
_FEWEST_PLACES = 1 << 18
NEVER = 0  # the slice of a key that was never seen


class Keys(NamedTuple):
  hash: np.ndarray  # uint64 [n], never 0
  check: np.ndarray  # uint32 [n]

  def take(self, rows: Any) -> Keys:
    return Keys(self.hash[rows], self.check[rows])


def of_ids(request_id: pa.Array, item_id: pa.Array) -> Keys:
  """The keys of pairs of strings."""
  n = len(request_id)
  first, second = np.full(n, _GOLDEN), np.full(n, _OTHER)
  for column in (request_id, item_id):
    first, second = _absorb(column, first, second)
  return Keys(
    np.maximum(_finish(first), np.uint64(1)), (_finish(second) >> np.uint64(32)).astype(np.uint32)
  )


def _absorb(
  column: pa.Array, first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Mixes the strings' bytes, eight at a time, and their lengths into two hashes of each row."""
  n = len(column)
  offsets = np.frombuffer(column.buffers()[1], np.int32)[
    column.offset : column.offset + n + 1
  ].astype(np.int64)
  data = column.buffers()[2]
  data = (
    np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
    if data is not None
    else np.zeros(0, np.uint8)
  )
  offsets -= offsets[0]
  data = np.concatenate([data, np.zeros(8, np.uint8)])
  # Eight bytes from each position.
  words: np.ndarray = np.ndarray((len(data) - 7,), "<u8", buffer=data, strides=(1,))
  begins, sizes = offsets[:-1], np.diff(offsets)
  first, second = _mix(first, second, sizes.astype(np.uint64))
  for start in range(0, int(sizes.max(initial=0)), 8):
    left = sizes - start
    word = words[np.minimum(begins + start, len(words) - 1)]
    unused = np.clip(8 - left, 0, 7).astype(np.uint64) << np.uint64(3)
    mixed = _mix(first, second, word << unused)
    if left.min() > 0:
      first, second = mixed
    else:
      first, second = (np.where(left > 0, new, old) for new, old in zip(mixed, (first, second)))
  return first, second


def _mix(first: np.ndarray, second: np.ndarray, word: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  first = (first ^ word) * _MIX_1
  second = (second + word) * _MIX_2
  return first ^ (first >> np.uint64(31)), second ^ (second >> np.uint64(29))


def _finish(x: np.ndarray) -> np.ndarray:
  """splitmix64's finaliser."""
  x = (x ^ (x >> np.uint64(30))) * _MIX_1
  x = (x ^ (x >> np.uint64(27))) * _MIX_2
  return x ^ (x >> np.uint64(31))


class KeyIndex:
  """Maps keys to slices of time: a hash table of 16 bytes a place, filled to at most 60%.

  It is used for whole batches: every round of the linear probing is a few NumPy calls over the rows
  that are not settled.
  """

  def __init__(self) -> None:
    self._forgotten_below = 1
    self._reserve(_FEWEST_PLACES)

  def __len__(self) -> int:
    """How many places are taken; forgotten keys count until the table is rebuilt."""
    return self._taken

  def find(self, keys: Keys) -> np.ndarray:
    """The slice of each key, uint32 [n]; NEVER where it was not seen, or is forgotten."""
    found = np.zeros(len(keys.hash), np.uint32)
    rows = np.arange(len(found))
    places = self._home(keys.hash)
    while len(rows):
      here = self._hash[places]
      hit = np.flatnonzero(here == keys.hash[rows])
      values = self._value[places[hit]]
      same = (values >> _CHECK_SHIFT) == keys.check[rows[hit]]
      found[rows[hit[same]]] = values[same].astype(np.uint32)
      going_on = here != 0
      going_on[hit[same]] = False
      rows, places = rows[going_on], (places[going_on] + 1) & self._mask
    found[found < self._forgotten_below] = NEVER
    return found

  def add(self, keys: Keys, slices: np.ndarray) -> np.ndarray:
    """Adds those keys that are not there, the first of several that are equal.

    Args:
      keys: n keys.
      slices: uint32 [n], from 1 and none that is forgotten.

    Returns:
      bool [n]: which were added.
    """
    n = len(slices)
    if self._taken + n > _MAX_LOAD * len(self._hash):
      self._make_anew(n)
    values = keys.check.astype(np.uint64) << _CHECK_SHIFT | slices
    added = np.zeros(n, bool)
    rows = np.arange(n)
    places = self._home(keys.hash)
    while len(rows):
      here = self._hash[places]
      open_ = here == 0
      going_on = np.ones(len(rows), bool)
      hit = np.flatnonzero(here == keys.hash[rows])
      if len(hit):
        there = self._value[places[hit]]
        hit, there = _where_equal(hit, there, keys.check[rows[hit]])
        forgotten = there.astype(np.uint32) < self._forgotten_below
        open_[hit[forgotten]] = True
        going_on[hit[~forgotten]] = False
      # Of several rows that want one place, the first gets it: each writes its number there, the
      # first of them last.
      free = np.flatnonzero(open_)
      wanted, numbers = places[free], rows[free].astype(np.uint64)
      self._value[wanted[::-1]] = numbers[::-1]
      won = self._value[wanted] == numbers
      winners = numbers[won].astype(np.int64)
      self._taken += len(winners) - int(np.count_nonzero(here[free[won]]))
      self._hash[wanted[won]] = keys.hash[winners]
      self._value[wanted[won]] = values[winners]
      added[winners] = True
      # Those that lost look at the same place again: it may be their own key that is there now.
      places += ~open_
      places &= self._mask
      going_on[free[won]] = False
      rows, places = rows[going_on], places[going_on]
    return added

  def forget(self, below: int) -> None:
    """Forgets the keys of all slices below this one."""
    self._forgotten_below = max(self._forgotten_below, below)

  def _home(self, hashes: np.ndarray) -> np.ndarray:
    return (hashes >> np.uint64(64 - self._bits)).astype(np.int64)

  def _reserve(self, places: int) -> None:
    self._bits = int(places - 1).bit_length()
    self._mask = (1 << self._bits) - 1
    self._hash = np.zeros(1 << self._bits, np.uint64)
    self._value = np.zeros(
      1 << self._bits, np.uint64
    )  # check in the upper half, slice in the lower
    self._taken = 0

  def _make_anew(self, more: int) -> None:
    """Returns a table without forgotten keys, with room for `more` and half as many again."""
    kept = np.flatnonzero(self._hash)
    kept = kept[self._value[kept].astype(np.uint32) >= self._forgotten_below]
    hashes, values = self._hash[kept], self._value[kept]
    self._reserve(max(_FEWEST_PLACES, int((len(kept) * 1.5 + more) / _MAX_LOAD)))
    self.add(Keys(hashes, (values >> _CHECK_SHIFT).astype(np.uint32)), values.astype(np.uint32))


def _where_equal(
  hit: np.ndarray, there: np.ndarray, checks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  equal = (there >> _CHECK_SHIFT) == checks
  return hit[equal], there[equal]
