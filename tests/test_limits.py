"""max_rows and max_bytes: at the limit the lowest scores leave first."""

import numpy as np
import pytest

import tfps
from tests import test_conformance
from tests.checkpoints import assert_same, keys_of
from tests.conformance import Pair
from tests.engines import ENGINES
from tests.reference import Optimizer, Policy
from tfps.checkpoint import CheckpointManager
from tfps.export.capture import TableCapture

ACCESSOR = test_conformance.ACCESSOR


@pytest.fixture(params=ENGINES, scope="module")
def engine_class(request):
  return ENGINES[request.param]


def random_push(rng, keys, width, slots=(1,)):
  n = len(keys)
  show = rng.integers(1, 5, n).astype(np.float32)
  return (
    keys,
    rng.choice(slots, n),
    show,
    rng.binomial(1, 0.3, n) * show,
    rng.normal(size=[n, width]),
  )


@pytest.mark.parametrize("limit", [{"max_rows": 6}, {"max_bytes": 6 * 88}])
def test_any_operations_leave_the_rows_of_the_reference(engine_class, limit):
  test_conformance.run_machine(engine_class, mf_dim=8, accessor=ACCESSOR, num_shards=2, **limit)


@pytest.mark.parametrize("limit", [{"max_rows": 7 * 70}, {"max_bytes": 7 * 6000}])
def test_the_lowest_scores_leave_until_a_part_is_free(engine_class, limit):
  rng = np.random.default_rng(2)
  pair = Pair(engine_class, num_shards=7, accessor=ACCESSOR, **limit)
  for day in range(6):
    for _ in range(3):
      pair.push(*random_push(rng, rng.choice(np.arange(1, 3000), 300, replace=False), 9))
      pair.check_statistics()
    pair.end_of_day(day)
  assert pair.reference.counters["evicted_at_limit"] > 500
  assert 0.9 < pair.reference.fullness() <= 1
  pair.check_all()
  pair.close()


def test_rows_of_many_lengths_stay_below_the_bytes(engine_class):
  rng = np.random.default_rng(3)
  slots = {2: Policy(mf_dim=64, accessor=ACCESSOR), 3: Policy(mf_dim=1, mf=Optimizer("sgd"))}
  engine = engine_class(mf_dim=8, accessor=ACCESSOR, slots=slots, num_shards=2, max_bytes=60_000)
  pair = Pair(engine_class, mf_dim=8, accessor=ACCESSOR, slots=slots, num_shards=2)
  for _ in range(20):
    batch = random_push(rng, rng.choice(np.arange(1, 3000), 200, replace=False), 65, [1, 2, 3])
    engine.push(*batch)
    pair.reference.push(*batch)
    # What is left is as the limit leaves it, whatever it was before.
    gone = set(pair.reference.rows) - set(engine.keys().tolist())
    for key in gone:
      del pair.reference.rows[key]
    assert 50_000 < pair.reference._bytes(pair.reference.keys()) <= 60_000 or not gone
  assert engine.statistics()["evicted_at_limit"] > 1000
  engine.close()
  pair.close()


def pushed(table, keys, shows):
  keys = np.asarray(keys)
  columns = (keys, np.ones(len(keys), np.int32), np.float32(shows), np.zeros(len(keys), np.float32))
  table.push([(*columns, np.ones([len(keys), 1 + table.mf_dim], np.float32))])


def small_table(engine):
  return tfps.FeasignTable("ctr", mf_dim=2, num_shards=2, max_rows=64, engine=engine)


@pytest.mark.parametrize("engine", ["native", "tfra"])
def test_served_rows_that_leave_are_removed_by_the_next_delta(engine):
  table = small_table(engine)
  first = np.arange(1, 51)
  pushed(table, first, np.arange(1, 51) + 20)
  capture = TableCapture(table, "base")
  served = {int(key) for _, _, keys, _ in capture.slices() for key in keys.numpy()}
  capture.commit()
  assert served == set(first.tolist())
  pushed(table, np.arange(101, 151), np.full(50, 1000.0))
  left = served - set(keys_of(table).tolist())
  assert 30 < len(left) < 50
  # The scores are those of the shows, so within a shard the smallest keys left.
  assert set(TableCapture(table, "delta").removed().tolist()) == left
  assert table.statistics()["evicted_at_limit"] == len(left)
  assert 0.9 < table.statistics()["fullness_max"] <= 1


@pytest.mark.parametrize("engine", ["native", "tfra"])
def test_an_increment_knows_what_left(engine, tmp_path):
  table = small_table(engine)
  saver = CheckpointManager(str(tmp_path), None, [table])
  pushed(table, np.arange(1, 51), np.arange(1, 51) + 20)
  saver.save({"day": 1}, incremental=True)
  pushed(table, np.arange(101, 131), np.full(30, 1000.0))
  saver.save({"day": 1}, incremental=True)
  again = small_table(engine)
  CheckpointManager(str(tmp_path), None, [again]).restore()
  assert_same(table, again, np.arange(1, 131))
  assert len(keys_of(table)) <= 64


@pytest.mark.parametrize(
  "limit, message",
  [
    ({"max_rows": 1000}, "max_rows is 1,000, too little for 1,024 virtual shards of 32 each"),
    ({"max_bytes": 10**6}, "max_bytes is 1,000,000, too little for 1,024 virtual shards"),
    ({"max_rows": -1}, "max_rows must be a whole number, 0 for no limit, not -1"),
    ({"max_bytes": 1e9}, "max_bytes must be a whole number, 0 for no limit, not 1000000000.0"),
  ],
)
def test_limits_that_make_no_sense_are_refused(limit, message):
  with pytest.raises(ValueError, match=f"FeasignTable 'ctr': {message}"):
    tfps.FeasignTable("ctr", **limit)
