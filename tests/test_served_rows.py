"""Whatever the order of training, exports, evictions and restarts, serving holds what docs/semantics.md says."""

import copy
import shutil
import tempfile

from hypothesis import settings, stateful, strategies as st
import numpy as np
import tensorflow as tf
import tfps
from tests import exports, reference
from tests.checkpoints import make_table
from tests.test_fold import apply
from tfps import placement
from tfps.checkpoint import CheckpointManager
from tfps.export.capture import TableCapture

KEYS = [int(reference.splitmix64(i)) - 2**63 for i in range(12)]
# A handful of pushes and days crosses each of these in both directions.
ACCESSOR = dict(
  nonclk_coeff=0.125, create_threshold=2.0, base_update_threshold=0.75, delta_keep_days=1,
  delete_threshold=0.375, delete_after_unseen_days=2, decay_rate=0.5,
)  # fmt: skip


class Schedule(stateful.RuleBasedStateMachine):
  """A table on two servers, the reference, and what a server holds after the exports."""

  @stateful.initialize(threshold=st.sampled_from([0.0, 0.0, 0.5, 2.0]))
  def begin(self, threshold):
    self.threshold = threshold
    self.folder = tempfile.mkdtemp()
    accessor = {**ACCESSOR, "delta_update_threshold": threshold}
    self.make = lambda: make_table(
      2, mf_dim=2, accessor=tfps.CtrAccessor(**accessor), optimizer=tfps.SGD(learning_rate=0.25)
    )
    self.table = self.make()
    sgd = reference.Optimizer("sgd", learning_rate=0.25)
    self.expected = reference.ReferenceTable(
      mf_dim=2, accessor=reference.Accessor(**accessor), lr=sgd, mf=sgd, mf_init_range=0.5
    )
    self.saved = None
    self.day = 0
    self.new_lineage()

  def new_lineage(self):
    self.served = None  # {key: row} of a server, once there is a base
    self.evicted = set()  # keys that it holds and the table dropped since
    self.capture = None

  @stateful.rule(
    keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=6, unique=True),
    seed=st.integers(0, 2**16),
  )
  def push(self, keys, seed):
    rng = np.random.default_rng(seed)
    keys = np.array(keys)
    show = rng.integers(1, 4, len(keys)).astype(np.float32)
    click = rng.binomial(1, 0.3, len(keys)).astype(np.float32)
    gradients = rng.normal(size=[len(keys), 3]).astype(np.float32)
    columns = (keys, np.ones(len(keys), np.int32), show, click, gradients)
    server_of = self.table.assignment[placement.virtual_shards(keys, self.table.num_shards)]
    self.table.push([tuple(c[server_of == i] for c in columns) for i in range(2)])
    self.expected.push(*columns)

  @stateful.rule()
  def end_of_day(self):
    leaving = set(self.expected.evictable())
    self.expected.end_of_day(self.day)
    self.table.end_of_day(self.day)
    self.day += 1
    self.evicted |= leaving & set(self.served or ())
    if self.capture:
      self.left_since |= leaving

  @stateful.precondition(lambda self: not self.capture)
  @stateful.rule(base=st.booleans())
  def begin_export(self, base):
    base = base or self.served is None
    self.which = "base" if base else "delta"
    self.capture = TableCapture(self.table, self.which)
    self.left_since = set()
    pairs = [
      (int(key), tuple(row))
      for _, _, keys, rows in self.capture.slices()
      for key, row in zip(keys.numpy(), rows.numpy())
    ]
    self.captured = dict(pairs)
    assert len(pairs) == len(self.captured)
    self.base_now = self._rows(self._in(0.0))
    wanted = self.base_now if base else self._rows(self._in(self.threshold))
    assert self.captured == wanted
    self.scores = {key: self.expected.rows[key].delta_score for key in wanted}
    self.removed = set(self.capture.removed().tolist())
    if not base:
      gone = set(self.served) - set(self.base_now) | self.evicted
      assert self.removed == gone - set(wanted)

  @stateful.precondition(lambda self: self.capture)
  @stateful.rule()
  def export_is_durable(self):
    self.capture.commit()
    self.capture = None
    before = {} if self.which == "base" else self.served
    kept = {key: row for key, row in before.items() if key not in self.removed}
    self.served = {**kept, **self.captured}
    for key in set(self.captured) - self.left_since:
      self.expected.rows[key].delta_score -= self.scores[key]
    self.evicted -= (self.removed | set(self.captured)) - self.left_since
    self.evicted |= self.left_since & set(self.captured)
    self.evicted &= set(self.served)
    # What a server holds: the newest artifact's rows, and nothing that a base would not hold.
    for key in self.captured:
      assert self.served[key] == self.captured[key]
    assert set(self.served) <= set(self.base_now)
    if self.which == "base" or self.threshold == 0:
      assert self.served == self.base_now
    self.check_statistics()

  @stateful.precondition(lambda self: self.capture)
  @stateful.rule()
  def export_fails(self):
    self.capture = None

  @stateful.rule()
  def checkpoint(self):
    manager = CheckpointManager(self.folder, None, [self.table])
    self.saved = manager.save({}), copy.deepcopy(self.expected), self.day

  @stateful.precondition(lambda self: self.saved)
  @stateful.rule()
  def restart(self):
    path, expected, self.day = self.saved
    self.expected = copy.deepcopy(expected)
    self.table = self.make()
    CheckpointManager(self.folder, None, [self.table]).restore(path)
    self.new_lineage()

  def check_statistics(self):
    """No delta_score is lost or counted twice, and `served` is what the server holds."""
    keys = np.array(self.expected.keys(), np.int64)
    there = self.table.lookup(keys)
    scores = [self.expected.rows[key].delta_score for key in keys.tolist()]
    np.testing.assert_array_equal(there["statistics"][:, 2], scores)
    served = [key in self.served and key not in self.evicted for key in keys.tolist()]
    np.testing.assert_array_equal(there["served"], served)

  def _in(self, threshold):
    """The keys of an export."""
    accessor = self.expected.policy.accessor
    return [
      key
      for key, row in self.expected.rows.items()
      if accessor.score(row.show, row.click) >= accessor.base_update_threshold
      and row.delta_score >= threshold
      and row.unseen_days <= accessor.delta_keep_days
    ]

  def _rows(self, keys):
    """{key: row} as the table has it, close to what the reference has."""
    found = self.table.lookup(keys)
    rows = np.concatenate([found["lr_w"].reshape(-1, 1), found["mf_w"]], axis=1)
    np.testing.assert_allclose(rows, self.expected.pull(np.array(keys, np.int64)), atol=1e-5)
    return {key: tuple(row) for key, row in zip(keys, rows)}

  def teardown(self):
    shutil.rmtree(getattr(self, "folder", ""), ignore_errors=True)


TestSchedule = Schedule.TestCase
TestSchedule.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
