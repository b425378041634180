"""Checkpoints between full ones: only what was touched is written, and every row comes back."""

import copy
import functools
import itertools
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import stateful
from hypothesis import strategies as st

from tests import test_conformance
from tests.checkpoints import KEYS, assert_same, checkpoints_in, make_table, push
from tests.conformance import Pair
from tests.servers_engine import ServersEngine
from tfps.checkpoint import CheckpointError, CheckpointManager, evict, reader
from tfps.checkpoint.folder import CHECKPOINTS

DAY = {"day": 1}


def manager(folder, *tables, **arguments):
  return CheckpointManager(str(folder), None, tables, **arguments)


def bytes_in(path):
  return sum(file.stat().st_size for file in pathlib.Path(path).rglob("*.data-*"))


def restored(folder, num_servers=1, **arguments):
  table = make_table(num_servers, **arguments)
  manager(folder, table).restore()
  return table


def test_an_increment_holds_what_was_touched(tmp_path):
  keys = np.arange(1, 30_001)
  table = make_table(2)
  push(table, keys, seed=1)
  saver = manager(tmp_path, table)
  full = saver.save(DAY, incremental=True)
  assert CHECKPOINTS.read(full).increment_of is None  # There was none before.
  push(table, keys[:300], seed=2)
  increment = saver.save(DAY, incremental=True)
  assert CHECKPOINTS.read(increment).increment_of == "checkpoint-1"
  rows = [
    tf.train.load_checkpoint(f"{increment}/ctr/server-{server}").get_tensor(f"ctr/shard-{shard:05}/keys")
    for shard, server in enumerate(table.assignment)
  ]  # fmt: skip
  assert sorted(np.concatenate(rows)) == keys[:300].tolist()
  assert bytes_in(increment) < bytes_in(full) / 50
  push(table, keys[200:500] + 29_900, seed=3)  # Some are new.
  saver.save(DAY, incremental=True)
  assert_same(table, restored(tmp_path, 3), np.arange(1, 30_500))


def test_after_a_days_end_an_increment_is_whole_again(tmp_path):
  table = make_table()
  push(table, KEYS, seed=1)
  saver = manager(tmp_path, table)
  saver.save(DAY)
  table.end_of_day(1)
  assert 0 < table.statistics()["rows"] < len(KEYS)
  saver.save(DAY, incremental=True)
  other = restored(tmp_path)
  assert_same(table, other)
  assert other.end_of_day(1) == 0


def test_what_the_last_ones_go_over_is_kept(tmp_path):
  table = make_table()
  push(table, KEYS)
  saver = manager(tmp_path, table, keep=2)
  for seed in range(5):
    push(table, KEYS[:20], seed)
    saver.save(DAY, incremental=True)
  # 4 and 5 are wanted, and go over 1, 2 and 3.
  assert checkpoints_in(tmp_path) == [f"checkpoint-{i}" for i in (1, 2, 3, 4, 5)]
  assert_same(table, restored(tmp_path))
  saver.save(DAY)
  assert len(checkpoints_in(tmp_path)) == 6  # 5 is still wanted.
  saver.save(DAY)
  assert checkpoints_in(tmp_path) == ["checkpoint-6", "checkpoint-7"]
  assert_same(table, restored(tmp_path))


def test_once_they_hold_as_much_as_the_table_a_full_one_follows(tmp_path):
  table = make_table()
  push(table, KEYS)
  saver = manager(tmp_path, table, keep=9)
  paths = []
  for seed in range(7):
    push(table, KEYS[: len(KEYS) // 2 + 1], seed)
    paths.append(saver.save(DAY, incremental=True))
  full = [CHECKPOINTS.read(path).increment_of is None for path in paths]
  assert full == [True, False, False, True, False, False, True]


def test_after_a_save_that_failed_nothing_is_missing(tmp_path, monkeypatch):
  table = make_table()
  push(table, KEYS, seed=1)
  saver = manager(tmp_path, table)
  saver.save(DAY)
  push(table, KEYS[:9], seed=2)
  with monkeypatch.context() as patch:
    patch.setattr(
      CHECKPOINTS, "_write_manifest", lambda *_: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
      saver.save(DAY, incremental=True)
  push(table, KEYS[9:12], seed=3)
  path = saver.save(DAY, incremental=True)
  assert CHECKPOINTS.read(path).increment_of is None
  assert_same(table, restored(tmp_path))


def test_where_a_server_could_not_write_nothing_is_missing(tmp_path):
  table = make_table()
  push(table, KEYS, seed=1)
  saver = manager(tmp_path, table)
  saver.save(DAY)
  push(table, KEYS[:9], seed=2)
  (tmp_path / "file").touch()
  with pytest.raises(tf.errors.OpError):
    manager(tmp_path / "file", table).save(DAY, incremental=True)
  # The other manager knows nothing of it, and its increment has all rows.
  saver.save(DAY, incremental=True)
  assert_same(table, restored(tmp_path))


@pytest.mark.parametrize(
  "file", ["manifest.json", "ctr/server-0.index", "ctr/server-0.data-00000-of-00001"]
)
def test_damage_in_one_that_it_goes_over_is_named(tmp_path, file):
  table = make_table()
  push(table, KEYS, seed=1)
  saver = manager(tmp_path, table, keep=9)
  for seed in range(3):
    push(table, KEYS[:9], seed)
    saver.save(DAY, incremental=True)
  (tmp_path / "checkpoint-2" / file).unlink()
  other = make_table()
  push(other, KEYS[:3])
  with pytest.raises(CheckpointError) as error:
    manager(tmp_path, other).restore()
  assert f"it goes over {tmp_path}/checkpoint-2, and there {file} is missing" in str(error.value)
  assert f"the last complete checkpoint is {tmp_path}/checkpoint-1:" in str(error.value)
  assert other.statistics()["rows"] == 3
  assert manager(tmp_path, other).restore(tmp_path / "checkpoint-1") == DAY


@pytest.mark.parametrize("before, after", [(1, 2), (2, 3), (3, 4), (3, 2), (5, 1)])
def test_only_the_shards_that_must_move_do(tmp_path, before, after):
  table = make_table(before, num_shards=240)
  push(table, KEYS)
  manager(tmp_path, table).save(DAY)
  other = restored(tmp_path, after, num_shards=240)
  assert_same(table, other)
  moved = np.mean(table.assignment != other.assignment)
  assert moved == pytest.approx(abs(after - before) / max(before, after), abs=0.01)
  assert np.ptp(np.bincount(other.assignment, minlength=after)) <= 2


def test_a_table_that_is_in_use_keeps_its_assignment(tmp_path):
  table = make_table(2)
  push(table, KEYS)
  manager(tmp_path, table).save(DAY)
  other = make_table(3)
  used = other.fix_assignment().copy()
  manager(tmp_path, other).restore()
  np.testing.assert_array_equal(other.assignment, used)
  assert_same(table, other)


class CheckpointMachine(test_conformance.TableMachine):
  """Random operations with checkpoints and kills between them, on 1 to 5 servers."""

  folders = None  # An iterator of empty folders.
  engines = None  # An iterator: each restart is on the next.

  def __init__(self):
    stateful.RuleBasedStateMachine.__init__(self)
    self.folder = next(self.folders)
    self.day = 0
    self._start(num_servers=2, reference=None)
    # Rows, and a full checkpoint of them, that increments may go over.
    n = len(test_conformance.KEYS)
    self.pair.push(test_conformance.KEYS, [1] * n, [3.0] * n, [2.0] * n, np.ones([n, 4]))
    self.save(incremental=False)

  def _start(self, num_servers, reference):
    engine_class = functools.partial(
      ServersEngine, num_servers=num_servers, engine=next(self.engines)
    )
    self.pair = Pair(engine_class, num_shards=7, **self.settings)
    if reference is not None:
      # Learning rates that were set are of the process, not of the rows.
      reference.policy, reference.slots = self.pair.reference.policy, self.pair.reference.slots
      self.pair.reference = reference
    self.manager = manager(self.folder, self.pair.engine.table)

  def teardown(self):
    self.pair.check_rows(test_conformance.KEYS)
    self.pair.close()

  @stateful.rule(incremental=st.sampled_from([True, True, False]))
  def save(self, incremental):
    self.manager.save({"day": self.day}, incremental=incremental)
    self.saved = copy.deepcopy(self.pair.reference)

  @stateful.rule(num_servers=st.integers(1, 5), torn=st.booleans())
  def kill_and_restore(self, num_servers, torn):
    """What was done since the last checkpoint is lost; one may have been half written."""
    if torn:
      os.rename(
        self.manager.save({"day": -1}, incremental=True), f"{self.folder}/writing-checkpoint-99"
      )
    self._restart(num_servers)

  @stateful.rule(num_servers=st.integers(1, 5))
  def evict_from_the_files(self, num_servers):
    """As `tfps evict` does: the rows that are due leave the last checkpoint, and no day ends."""
    checkpoint = reader.open_checkpoint(self.folder)
    due = self.saved.evictable()
    _, counts = evict.write(checkpoint, {"ctr": checkpoint.tables["ctr"].layout})
    assert sum(slot["evicted"] for slot in counts["ctr"].values()) == len(due)
    for key in due:
      del self.saved.rows[key]
    self._restart(num_servers)

  def _restart(self, num_servers):
    self.pair.close()
    # Counters are of the process, not of the rows.
    self.saved.counters = dict.fromkeys(self.saved.counters, 0)
    self._start(num_servers, copy.deepcopy(self.saved))
    self.day = self.manager.restore()["day"]


@pytest.mark.parametrize(
  "name, with_slots, restarts_on",
  [
    ("adagrad", False, ["native"]),
    ("adam", False, ["native"]),
    ("sgd", True, ["native"]),
    pytest.param("adam", True, ["tfra", "tfra", "native"], id="adam-True-tfra"),
  ],
)
def test_any_operations_with_checkpoints_and_kills_leave_the_rows_of_the_reference(
  tmp_path, name, with_slots, restarts_on
):
  rng = np.random.default_rng(4)
  slots = {number: test_conformance.random_policy(rng) for number in (1, 2)} if with_slots else {}

  class Machine(CheckpointMachine):
    settings = dict(
      mf_dim=3,
      accessor=test_conformance.ACCESSOR,
      lr=test_conformance.optimizer("ftrl"),
      mf=test_conformance.optimizer(name),
      slots=slots,
      mf_init_range=0.5,
    )
    folders = (f"{tmp_path}/{number}" for number in itertools.count())
    engines = itertools.cycle(restarts_on)

  stateful.run_state_machine_as_test(Machine)
