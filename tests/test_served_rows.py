"""Whatever the order of training, exports, evictions, restarts: serving follows semantics.md."""

import copy
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import settings, stateful
from hypothesis import strategies as st

import tfps
from tests import exports, reference
from tests.checkpoints import make_table
from tests.patience import PATIENCE
from tests.test_fold import apply
from tfps.checkpoint import CheckpointManager
from tfps.export import artifact
from tfps.export.artifact import ARTIFACTS
from tfps.export.capture import TableCapture
from tfps.graph.autograph import libraries_unconverted
from tfps.table import placement

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEYS = [int(reference.splitmix64(i)) - 2**63 for i in range(12)]
# A handful of pushes and days crosses each of these in both directions.
ACCESSOR = dict(
  nonclk_coeff=0.125, create_threshold=2.0, base_update_threshold=0.75, delta_keep_days=1,
  delete_threshold=0.375, delete_after_unseen_days=2, decay_rate=0.5,
)  # fmt: skip


class Schedule(stateful.RuleBasedStateMachine):
  """A table on two servers, the reference, and what a server holds after the exports."""

  engine = "native"

  @stateful.initialize(threshold=st.sampled_from([0.0, 0.0, 0.5, 2.0]))
  def begin(self, threshold):
    self.threshold = threshold
    self.folder = tempfile.mkdtemp()
    accessor = {**ACCESSOR, "delta_update_threshold": threshold}
    self.make = lambda: make_table(
      2, mf_dim=2, accessor=tfps.CtrAccessor(**accessor), optimizer=tfps.SGD(learning_rate=0.25),
      engine=self.engine,
    )  # fmt: skip
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
TestSchedule.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


class TfraSchedule(Schedule):
  """The same with TFRA's tables."""

  engine = "tfra"


TestTfraSchedule = TfraSchedule.TestCase
TestTfraSchedule.settings = settings(TestSchedule.settings, max_examples=15)


@pytest.mark.parametrize("base", [True, False])
@pytest.mark.parametrize("schedule_class", [Schedule, TfraSchedule])
def test_a_captured_row_that_is_evicted_and_comes_back_is_another_row(schedule_class, base):
  schedule = schedule_class()
  schedule.begin(threshold=0.0)
  schedule.push(KEYS, seed=1)
  schedule.push(KEYS, seed=2)
  schedule.begin_export(base=True)
  schedule.export_is_durable()
  schedule.push(KEYS, seed=3)
  schedule.begin_export(base)
  for _ in range(4):
    schedule.end_of_day()
  schedule.push(KEYS[:5], seed=5)
  assert schedule.left_since == set(KEYS)
  schedule.export_is_durable()
  schedule.push(KEYS[:3], seed=6)
  schedule.begin_export(base=False)
  assert schedule.removed >= set(KEYS[5:])
  schedule.export_is_durable()
  schedule.teardown()


class Trainer:
  """A process's model with its exporter, and a server that follows it."""

  def __init__(self, folder, checkpoints, threshold, restore):
    accessor = tfps.CtrAccessor(
      create_threshold=1.0, base_update_threshold=0.6, delta_update_threshold=threshold,
      delta_keep_days=1, delete_threshold=0.3, delete_after_unseen_days=2, decay_rate=0.7,
    )  # fmt: skip
    self.model, self.table = exports.make_small_model(train=True, accessor=accessor)
    self.manager = CheckpointManager(checkpoints, self.model, [self.table])
    self.day = self.manager.restore()["day"] if restore else 0
    self.exporter = tfps.export.Exporter(self.model, folder, exports.SMALL_RAW)
    self.server = None

  def base(self):
    if self.server:
      self.server.close()
    self.server = tfps.export.SavedModelSession(self.exporter.base())

  @libraries_unconverted()
  def step(self, rng):
    """Something of a day, then a delta that the server takes."""
    for _ in range(rng.integers(3)):
      words = [f"w{i}" for i in rng.choice(np.arange(40)[rng.integers(30) :], 16)]
      clicks = rng.binomial(1, 0.4, (16, 1)).astype(np.float32)
      self.model.train_on_batch({"city": tf.constant(words)}, clicks)
    for _ in range(rng.integers(3)):
      self.day += 1
      self.table.end_of_day(self.day)
    apply(self.server, self.exporter.delta())


@pytest.mark.parametrize("seed", [0, 1])
def test_a_server_predicts_what_a_base_of_that_moment_does_also_after_a_crash(tmp_path, seed):
  rng = np.random.default_rng(seed)
  raw = {"city": np.array([f"w{i}" for i in range(45)])}
  checkpoints, folder = tmp_path / "checkpoints", tmp_path / "export"
  trainer = Trainer(folder, checkpoints, 0.0, restore=False)
  trainer.base()
  for at in range(3):
    trainer.step(rng)
    if at == 1:
      trainer.manager.save({"day": trainer.day})
  old = trainer
  trainer = Trainer(folder, checkpoints, 0.0, restore=True)
  with pytest.raises(tfps.export.ExportError, match="export a base"):
    trainer.exporter.delta()
  trainer.base()
  for _ in range(2):
    trainer.step(rng)
  # Neither server takes what is of the other's lineage, and so stays what it is.
  before = old.server.run(raw)["predictions"]
  for server, delta in ((old.server, "2/1"), (trainer.server, "1/3")):
    with pytest.raises(ValueError, match="of lineage"):
      apply(server, f"{folder}/delta/{delta}")
  np.testing.assert_array_equal(old.server.run(raw)["predictions"], before)
  served = trainer.server.run(raw)["predictions"]
  trainer.exporter.close()
  other = tfps.export.Exporter(trainer.model, tmp_path / "other", exports.SMALL_RAW)
  fresh = tfps.export.SavedModelSession(other.base())
  np.testing.assert_allclose(served, fresh.run(raw)["predictions"], atol=1e-6, rtol=0)
  assert np.ptp(served) > 1e-3
  for session in (old.server, trainer.server, fresh):
    session.close()


KILLED = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
import tfps
from tests.test_served_rows import Trainer
from tfps.export import capture
from tfps.storage import files
import numpy as np
folder, checkpoints, point = sys.argv[1:]
trainer = Trainer(folder, checkpoints, 0.0, restore=False)
trainer.base()
trainer.manager.save({{"day": 0}})
def kill(*arguments, **named):
  os.kill(os.getpid(), signal.SIGKILL)
points = {{"sync": (files, "sync_all"), "commit": (capture.TableCapture, "commit")}}
setattr(*points[point], kill)
trainer.exporter.delta()
"""


@pytest.mark.parametrize("point, deltas", [("sync", []), ("commit", [1])])
def test_a_killed_delta_is_whole_or_not_there_and_counts_nothing(tmp_path, point, deltas):
  folder, checkpoints = tmp_path / "export", tmp_path / "checkpoints"
  done = subprocess.run(
    [sys.executable, "-c", KILLED, folder, checkpoints, point],
    capture_output=True, text=True, timeout=PATIENCE, check=False,
  )  # fmt: skip
  assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
  assert ARTIFACTS.numbers(f"{folder}/delta/1") == deltas
  for number in deltas:
    path = f"{folder}/delta/1/{number}"
    artifact.check_files(path, ARTIFACTS.read(path))
  # The trainer that goes on has delta_score as of its checkpoint, and can only begin a lineage.
  trainer = Trainer(folder, checkpoints, 0.0, restore=True)
  with pytest.raises(tfps.export.ExportError, match="export a base"):
    trainer.exporter.delta()
  trainer.base()
  assert ARTIFACTS.read(f"{folder}/base/2").lineage != ARTIFACTS.read(f"{folder}/base/1").lineage
  trainer.server.close()
