"""Holding an engine against the reference: the same operations on both, every row compared."""

import collections

import numpy as np

from tests import reference
from tests.reference import ReferenceTable

MESSAGE_STATISTICS = (
  "pushes",
  "repeated_pushes",
  "staleness_sum",
  "staleness_max",
  "tickets_ahead_max",
)


class Pair:
  """An engine's table and the reference's, driven together.

  Statistics must agree exactly to float64 rounding. Weights and optimizer states agree to float32
  rounding: `rtol`, and `atol` for what cancels near zero.
  """

  def __init__(self, engine_class, *, num_shards=1024, rtol=1e-5, atol=1e-6, **settings):
    self.engine = engine_class(num_shards=num_shards, **settings)
    self.reference = ReferenceTable(num_shards=num_shards, **settings)
    self.tolerance = dict(rtol=rtol, atol=atol)

  def close(self):
    self.engine.close()

  def push(self, keys, slots, show, click, gradients, frozen=None):
    width = np.shape(gradients)[1] if len(keys) else 1 + self.engine.mf_dim
    gradients = np.asarray(gradients, np.float32).reshape(len(keys), width)
    show, click = np.float32(show), np.float32(click)
    if frozen is None:
      self.engine.push(keys, slots, show, click, gradients)
      self.reference.push(keys, slots, show, click, gradients)
      return
    # As messages, in which counts are finite.
    step_show = np.where(frozen, np.nan, show)
    self.engine.push_messages(keys, slots, show, click, gradients, frozen)
    self.reference.push(keys, slots, show, click, gradients, step_show)

  def push_read(self, keys, slots, show, click, gradients, readers, frozen, messages=0):
    width = np.shape(gradients)[1] if len(keys) else 1 + self.engine.mf_dim
    gradients = np.asarray(gradients, np.float32).reshape(len(keys), width)
    show, click = np.float32(show), np.float32(click)
    step_show = np.where(frozen, np.nan, show)
    self.engine.push_read(keys, slots, show, click, gradients, readers, frozen, messages)
    self.reference.push_read(keys, slots, show, click, gradients, readers, step_show)

  def set_learning_rates(self, rates, factor):
    self.engine.set_learning_rates(rates, factor)
    self.reference.set_learning_rates(rates, factor)

  def end_of_day(self, day):
    assert self.engine.end_of_day(day) == self.reference.end_of_day(day)

  def end_of_day_in_parts(self, day, first_parts):
    """Ends the day of the shards of each part (first, last), then of all; compares what leaves."""
    expected = self._evictable(day)
    parts = [*first_parts, (0, self.engine.num_shards)]
    self._check_heads([self.engine.end_of_day_rows(day, None, *part) for part in parts], expected)
    assert self.reference.end_of_day(day) == len(expected)

  def check_evictable(self, day):
    expected = self._evictable(day)
    middle = self.engine.num_shards // 2
    parts = [self.engine.evictable(day, 0, middle), self.engine.evictable(day, middle)]
    self._check_heads(parts, expected)
    slots = collections.Counter(row.slot for row in expected.values())
    assert self.engine.count_evictable(day) == slots

  def _evictable(self, day):
    if self.reference.finished_day is not None and day <= self.reference.finished_day:
      return {}
    return {key: self.reference.row(key) for key in self.reference.evictable()}

  def _check_heads(self, parts, expected):
    """Compares EvictedRows with {key: reference Row}: each row is in one part, once."""
    keys, slots, statistics, unseen_days = (np.concatenate(columns) for columns in zip(*parts))
    assert sorted(keys.tolist()) == sorted(expected)
    for i, key in enumerate(keys.tolist()):
      row = expected[key]
      assert (slots[i], unseen_days[i]) == (row.slot, row.unseen_days), f"key {key}"
      np.testing.assert_allclose(
        statistics[i],
        [row.show, row.click, row.delta_score],
        rtol=1e-12,
        atol=1e-12,
        err_msg=f"key {key}",
      )

  def check_pull(self, keys, width=None):
    pulled, expected = self.engine.pull(keys, width), self.reference.pull(keys, width)
    np.testing.assert_allclose(pulled, expected, **self.tolerance)

  def check_rows(self, keys):
    """Compares every field of the rows of `keys`, of which some may be absent."""
    rows = self.engine.inspect(keys)
    for i, key in enumerate(keys):
      expected = self.reference.row(key)
      where = f"key {key}"
      assert rows.found[i] == (expected is not None), where
      if expected is None:
        assert not rows.floats[i].any(), where
        continue
      assert rows.slot[i] == expected.slot, where
      assert rows.unseen_days[i] == expected.unseen_days, where
      assert rows.admitted[i] == (expected.mf is not None), where
      assert rows.served[i] == expected.served, where
      np.testing.assert_allclose(
        rows.statistics[i],
        [expected.show, expected.click, expected.delta_score],
        rtol=1e-12,
        atol=1e-12,
        err_msg=where,
      )
      np.testing.assert_allclose(
        rows.floats[i], self._floats(expected), err_msg=where, **self.tolerance
      )

  def check_statistics(self):
    actual, expected = self.engine.statistics(), self.reference.statistics()
    for name in MESSAGE_STATISTICS:  # of messages, which the reference knows nothing of
      actual.pop(name)
    assert actual.pop("bytes") > 0 or not self.reference.rows
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
      np.testing.assert_allclose(actual[name], value, rtol=1e-12, atol=1e-9, err_msg=name)

  def check_all(self, other_keys=()):
    """Compares everything there is: keys, their rows and `other_keys`, pulls, statistics."""
    keys = self.reference.keys()
    assert sorted(self.engine.keys()) == keys
    keys += list(other_keys)
    self.check_rows(keys)
    self.check_pull(keys)
    self.check_statistics()

  def _floats(self, row):
    floats = np.concatenate([*row.lr, *(row.mf or ())])
    return np.pad(floats, (0, self.engine.row_floats - floats.size))


RESERVED = list(reference.RESERVED)
EXTREME_KEYS = [reference.PADDING, *RESERVED, -(2**63) + 2, -1, 2**63 - 1, 1, 2, 3]
