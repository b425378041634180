"""Tables whose rows are in TFRA's tables, beside native ones: a user sees no difference."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import tfps
from tests import checkpoints, exports
from tests.patience import PATIENCE
from tfps import native
from tfps.checkpoint import CheckpointManager
from tfps.export.capture import TableCapture

# Is TFRA's op library in this process?
LOADED = "def loaded(): return '_cuckoo_hashtable_ops' in open('/proc/self/maps').read()\n"
NOT_INSTALLED = """
import importlib.util
find = importlib.util.find_spec
gone = "tensorflow_recommenders_addons"
importlib.util.find_spec = lambda name, *rest: None if name == gone else find(name, *rest)
"""


def run(program):
  """What a Python process of its own prints."""
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout.strip()


def other(engine):
  return {"native": "tfra", "tfra": "native"}[engine]


def test_a_model_learns_and_serves_the_same(tmp_path):
  accessor = tfps.CtrAccessor(create_threshold=4.0, base_update_threshold=3.0, delete_threshold=2.5)
  results = []
  for engine in ("native", "tfra"):
    model, table = exports.make_small_model(accessor=accessor, engine=engine)
    table.end_of_day(0)
    exports.train_small_model(model, seed=1)
    exporter = tfps.export.Exporter(model, tmp_path / engine, exports.SMALL_RAW)
    with contextlib.closing(tfps.export.SavedModelSession(exporter.base())) as session:
      served = session.run({"city": np.array([f"w{i}" for i in range(25)])})["predictions"]
    results.append((table, served))
  (native_table, native_served), (tfra_table, tfra_served) = results
  keys = checkpoints.keys_of(native_table)
  np.testing.assert_array_equal(keys, checkpoints.keys_of(tfra_table))
  there = tfra_table.lookup(keys)
  assert 0 < there["admitted"].mean() < 1 and 0 < there["served"].mean() < 1
  for name, value in native_table.lookup(keys).items():
    np.testing.assert_allclose(there[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
  totals, expected = tfra_table.statistics(), native_table.statistics()
  assert 0 < totals.pop("bytes") != expected.pop("bytes")
  assert totals["evicted"] > 0
  assert totals == pytest.approx(expected, rel=1e-9)
  assert np.ptp(tfra_served) > 1e-3
  np.testing.assert_allclose(tfra_served, native_served, atol=1e-5, rtol=0)


@pytest.mark.parametrize("engine", ["native", "tfra"])
def test_a_checkpoint_of_one_engine_restores_into_the_other(tmp_path, engine):
  policies = {"1": tfps.SlotPolicy(mf_dim=7), "2": tfps.SlotPolicy(optimizer=tfps.SGD())}
  settings = dict(slot_policies=policies, lr_optimizer=tfps.FTRL())
  table = checkpoints.make_table(2, engine=engine, **settings)
  checkpoints.push(table, checkpoints.KEYS, seed=1)
  TableCapture(table, "base").commit()
  table.end_of_day(0)
  manager = CheckpointManager(str(tmp_path), None, [table])
  manager.save({})
  checkpoints.push(table, checkpoints.KEYS[:90], seed=2)
  manager.save({}, incremental=True)
  there = table.lookup(checkpoints.KEYS)
  assert 0 < there["served"].sum() < there["found"].sum() < len(checkpoints.KEYS)
  assert 0 < there["admitted"].sum() < there["found"].sum()
  restored = checkpoints.make_table(3, engine=other(engine), **settings)
  CheckpointManager(str(tmp_path), None, [restored]).restore()
  checkpoints.assert_same(table, restored)
  for trained in (table, restored):
    checkpoints.push(trained, checkpoints.KEYS[50:], seed=3)
    assert trained.end_of_day(0) == 0
    trained.end_of_day(1)
  checkpoints.assert_same(table, restored)


def test_rows_go_over_rows_of_another_length():
  both = [
    checkpoints.make_table(
      engine=engine, slot_policies={"short": tfps.SlotPolicy(mf_dim=1)}, mf_dim=4
    )
    for engine in ("native", "tfra")
  ]
  keys = np.array([5, 6, 7, 8])
  head_floats = 1 + both[0].lookup(keys)["lr_state"].shape[1]
  for table in both:
    for slots, flags in (([2, 2, 1, 1], [1, 0, 1, 0]), ([1, 1, 2, 2], [1, 1, 0, 0])):
      lengths = [
        table.policy_of("short" if slot == 1 else "other").layout.row.width(True)
        if flag
        else head_floats
        for slot, flag in zip(slots, flags)
      ]
      floats = np.arange(sum(lengths), dtype=np.float32)
      statistics = np.ones([4, 3])
      table.upsert(keys, slots, statistics, [0] * 4, flags, floats, np.cumsum([0, *lengths]))
    assert table.statistics()["rows"] == 4 and table.statistics()["admitted"] == 2
  checkpoints.assert_same(*both, keys)
  assert not both[1].lookup(keys[2:])["mf_w"].any()
  # Once admitted again, they begin anew.
  for table in both:
    checkpoints.push_rows(table, keys, 2, seed=1)
  checkpoints.assert_same(*both, keys)
  assert both[1].statistics()["admitted"] == 4


def test_a_name_is_of_one_engine():
  first = native.ops.tfps_table(shared_name="taken", engine="tfra")
  with pytest.raises(tf.errors.InvalidArgumentError, match="exists with engine='tfra'"):
    native.ops.tfps_table(shared_name="taken")
  tf.raw_ops.DestroyResourceOp(resource=first)


def test_a_table_frees_what_tfra_holds():
  before = native.ops.tfps_table(shared_name="freed", engine="tfra")
  row = ([7], [1], [1.0], [0.0], np.ones([1, 9], np.float32))
  native.ops.tfps_push(before, *row)
  tf.raw_ops.DestroyResourceOp(resource=before)
  again = native.ops.tfps_table(shared_name="freed", engine="tfra")
  assert not native.ops.tfps_pull(table=again, keys=[7], row_width=9).numpy().any()
  tf.raw_ops.DestroyResourceOp(resource=again)


def test_tfra_is_loaded_for_its_engine_only_and_can_be_used_beside_it():
  told = run(
    f"{LOADED}import tfps\n"
    "table = tfps.FeasignTable('one'); print(loaded())\n"
    "table = tfps.FeasignTable('two', engine='tfra'); print(loaded())\n"
    "from tests import tfra_tables\n"
    "print(tfra_tables.contents(tfra_tables.variable('three', 1, 1))['values'].shape)\n"
  )
  lines = told.splitlines()  # TFRA has a word of its own between them.
  assert (lines[0], lines[1], lines[-1]) == ("False", "True", "(300, 4)")


def test_without_tfra_the_native_engine_works_and_the_other_says_what_to_do():
  told = run(
    f"{NOT_INSTALLED}import tfps\n"
    "tfps.FeasignTable('one')\n"
    "try:\n  tfps.FeasignTable('two', engine='tfra')\nexcept ValueError as error:\n  print(error)\n"
  )
  assert told == (
    "FeasignTable 'two' on /device:CPU:0: engine='tfra' needs TensorFlow Recommenders Addons, "
    "which is not installed for the process that is to hold the rows: run `pip install --no-deps "
    "tensorflow-recommenders-addons==0.8.1` there, or use engine='native'."
  )


def test_a_tfra_that_does_not_load_is_named():
  told = run(
    f"{NOT_INSTALLED}import tfps\n"
    "from tfps import native\n"
    "native._symbols.tfps_set_tfra_library(b'/nowhere/ops.so')\n"
    "try:\n  tfps.FeasignTable('two', engine='tfra')\nexcept ValueError as error:\n  print(error)\n"
  )
  assert "cannot use the ops of TensorFlow Recommenders Addons in /nowhere/ops.so, perhaps" in told
  assert len(told.splitlines()) == 1


def test_an_engine_that_there_is_not():
  with pytest.raises(ValueError, match="engine must be one of .'native', 'tfra'., not 'redis'"):
    tfps.FeasignTable("ctr", engine="redis")
