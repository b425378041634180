"""Checkpoints of tables: every row comes back bit for bit, and what is damaged is named."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tests.checkpoints import (
  KEYS,
  assert_same,
  checkpoints_in,
  keys_of,
  make_table,
  push,
  saved_rows,
)
from tfps import native
from tfps.checkpoint import CheckpointError, CheckpointManager

ROOT = pathlib.Path(__file__).resolve().parent.parent
CALENDAR = {"epoch": 0, "day": 3, "tickets": 17}


def full_table(num_servers=1, **arguments):
  table = make_table(num_servers, **arguments)
  push(table, KEYS, seed=1)
  table.end_of_day(0)
  push(table, KEYS[::2], seed=2)
  table.slot_id("user")
  return table


def manager(folder, *tables, model=None, **arguments):
  return CheckpointManager(str(folder), model, tables, **arguments)


def flip(path, at):
  data = bytearray(path.read_bytes())
  data[int(at * (len(data) - 1))] ^= 4
  path.write_bytes(data)


@pytest.mark.parametrize(
  "optimizer", [tfps.SGD(), tfps.Adagrad(), tfps.StdAdagrad(), tfps.Adam(), tfps.FTRL()]
)
def test_every_optimizers_rows_come_back_bit_for_bit(tmp_path, optimizer):
  table = full_table(optimizer=optimizer)
  path = manager(tmp_path, table).save(CALENDAR)
  assert path == f"{tmp_path}/checkpoint-1"
  other = make_table(optimizer=optimizer)
  assert manager(tmp_path, other).restore() == CALENDAR
  admitted = table.lookup(KEYS)["admitted"]
  assert 0 < admitted.sum() < len(KEYS)
  assert_same(table, other)
  assert other.slots == {"user": 1}


def test_what_a_table_held_is_replaced(tmp_path):
  table = full_table()
  manager(tmp_path, table).save(CALENDAR)
  push(table, KEYS + 1, seed=3)
  table.end_of_day(1)
  manager(tmp_path, table).restore()
  assert_same(table, full_table())


@pytest.mark.parametrize("before, after", [(1, 2), (1, 3), (2, 1), (3, 2), (2, 5)])
def test_onto_another_number_of_servers(tmp_path, before, after):
  table = full_table(before)
  manager(tmp_path, table).save(CALENDAR)
  other = make_table(after)
  manager(tmp_path, other).restore()
  assert_same(table, other)
  # Each row is where its pushes go, and the days are counted on.
  for one in (table, other):
    assert one.end_of_day(0) == 0
    push(one, KEYS, seed=4)
    one.end_of_day(1)
  assert_same(table, other)


def test_stock_tools_read_it(tmp_path):
  table = full_table(2, optimizer=tfps.Adagrad())
  rows = saved_rows(manager(tmp_path, table).save(CALENDAR), "ctr", 2, 6)
  assert sorted(rows) == keys_of(table).tolist()
  found = table.lookup(list(rows))
  for i, (slot, statistics, unseen_days, flags, floats, finished_day) in enumerate(rows.values()):
    assert slot == found["slot"][i].tobytes()
    assert statistics == found["statistics"][i].tobytes()
    assert np.frombuffer(unseen_days, np.uint16) == found["unseen_days"][i]
    assert np.frombuffer(flags, np.uint16) == found["admitted"][i]
    parts = ["lr_w", "lr_state", *(["mf_w", "mf_state"] if found["admitted"][i] else [])]
    assert floats == b"".join(found[part][i].tobytes() for part in parts)
    assert finished_day == 0


def test_the_manifest_says_what_there_is(tmp_path):
  table = full_table(2)
  path = pathlib.Path(manager(tmp_path, table).save(CALENDAR))
  content = json.loads((path / "manifest.json").read_text())
  assert content["format"] == 2 and content["calendar"] == CALENDAR
  saved = content["tables"]["ctr"]
  assert saved["rows"] == sum(saved["load"]["rows"]) == len(keys_of(table))
  assert saved["assignment"] == saved["saved_on"] == table.assignment.tolist()
  assert (saved["num_shards"], saved["num_servers"]) == (16, 2)
  assert saved["slots"] == {"user": 1} and saved["options"] == table.options
  files = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
  assert files - {"manifest.json"} == set(content["files"])


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
@pytest.mark.parametrize(
  "file",
  [
    "manifest.json",
    "ctr/server-0.index",
    "ctr/server-0.data-00000-of-00001",
    "ctr/server-1.data-00000-of-00001",
    "dense/model.index",
    "dense/model.data-00000-of-00001",
  ],
)
def test_a_damaged_file_is_named_and_the_last_complete_checkpoint_offered(tmp_path, file, harm):
  table, model = full_table(2), small_model()
  saver = manager(tmp_path, table, model=model)
  good, bad = saver.save({"at": 1}), saver.save({"at": 2})
  path = pathlib.Path(bad, file)
  if harm == "flip":
    flip(path, 0.6)
  elif harm == "truncate":
    os.truncate(path, path.stat().st_size // 2)
  else:
    path.unlink()
  other = make_table(2)
  push(other, KEYS[:5])
  expected = make_table(2)
  push(expected, KEYS[:5])
  reader = manager(tmp_path, other, model=small_model())
  with pytest.raises(CheckpointError) as raised:
    reader.restore(bad)
  sentence = str(raised.value)
  assert file in sentence and bad in sentence and good in sentence and "\n" not in sentence
  if not (harm == "flip" and "ctr/" in file and ".data-" in file):  # found while it is read
    assert_same(other, expected)  # nothing was touched
  if (file, harm) == ("manifest.json", "remove"):
    assert reader.latest() == good
  else:
    with pytest.raises(CheckpointError):  # never silently an older one
      reader.restore()
  assert manager(tmp_path, make_table(), model=small_model()).restore(good) == {"at": 1}


def test_any_flipped_bit_of_a_tables_data_is_found(tmp_path):
  path = pathlib.Path(
    manager(tmp_path, full_table()).save(CALENDAR), "ctr/server-0.data-00000-of-00001"
  )
  whole = path.read_bytes()
  for at in np.linspace(0, 1, 12):
    flip(path, at)
    with pytest.raises(CheckpointError, match="server-0.data"):
      manager(tmp_path, make_table()).restore()
    path.write_bytes(whole)
  manager(tmp_path, make_table()).restore()


def test_no_other_complete_checkpoint(tmp_path):
  path = manager(tmp_path, full_table()).save(CALENDAR)
  pathlib.Path(path, "ctr/server-0.index").unlink()
  with pytest.raises(CheckpointError, match="no other complete checkpoint"):
    manager(tmp_path, make_table()).restore()


@pytest.mark.parametrize("arguments, words", [
  ({"mf_dim": 4}, ["mf_dim=3", "mf_dim=4"]),
  ({"num_shards": 32}, ["num_shards=16", "num_shards=32"]),
  ({"optimizer": tfps.Adagrad()}, ["optimizer=adam", "optimizer=adagrad"]),
  ({"name": "ctr2"}, ["no table 'ctr2'", "'ctr'"]),
])  # fmt: skip
def test_a_table_that_does_not_fit(tmp_path, arguments, words):
  manager(tmp_path, full_table()).save(CALENDAR)
  with pytest.raises(CheckpointError) as raised:
    manager(tmp_path, make_table(**arguments)).restore()
  assert all(word in str(raised.value) for word in words) and "\n" not in str(raised.value)


def test_settings_that_leave_rows_as_they_are_may_change(tmp_path):
  table = full_table()
  manager(tmp_path, table).save(CALENDAR)
  other = make_table(
    accessor=tfps.CtrAccessor(create_threshold=5), optimizer=tfps.Adam(0.1), seed=4
  )
  manager(tmp_path, other).restore()
  assert_same(table, other)


def test_rows_get_the_numbers_that_their_slots_have_now(tmp_path):
  table = full_table()  # Its rows have slots 0, 1 and 2.
  assert [table.slot_id(slot) for slot in ("user", "item")] == [1, 2]
  manager(tmp_path, table).save(CALENDAR)
  other = make_table()
  for slot in ("new", "item"):
    other.slot_id(slot)
  manager(tmp_path, other).restore()
  assert other.slots == {"new": 1, "item": 2, "user": 3}
  numbers = np.array([0, 3, 2])[table.lookup(KEYS)["slot"]]
  found = table.lookup(KEYS)["found"]
  np.testing.assert_array_equal(other.lookup(KEYS)["slot"][found], numbers[found])


def test_the_op_refuses_what_is_not_there(tmp_path):
  table = full_table()
  prefix = f"{manager(tmp_path, table).save(CALENDAR)}/ctr/server-0"
  handle = table.servers[0].handle
  same = dict(saved_slots=np.zeros([0], np.int32), slots=np.zeros([0], np.int32))
  with pytest.raises(tf.errors.NotFoundError, match="holds no tensor 'x/shard-00003/keys'"):
    native.ops.tfps_restore(table=handle, prefix=prefix, table_name="x", shards=[3], **same)
  with pytest.raises(tf.errors.InvalidArgumentError, match="from 0 to 15"):
    native.ops.tfps_restore(table=handle, prefix=prefix, table_name="ctr", shards=[16], **same)
  wider = make_table(mf_dim=4)
  with pytest.raises(tf.errors.InvalidArgumentError, match=r"ctr/shard-00003/.*mf_dim"):
    native.ops.tfps_restore(
      table=wider.servers[0].handle, prefix=prefix, table_name="ctr", shards=[3], **same
    )


def test_the_last_ones_are_kept_and_leftovers_go(tmp_path):
  table = make_table()
  saver = manager(tmp_path, table, keep=2)
  for _ in range(4):
    saver.save(CALENDAR)
  assert checkpoints_in(tmp_path) == ["checkpoint-3", "checkpoint-4"]
  for leftover in ("writing-checkpoint-5/ctr", "removing-checkpoint-2", "checkpoint-9", "mine"):
    (tmp_path / leftover).mkdir(parents=True)
  saver = manager(tmp_path, table, keep=2)
  assert checkpoints_in(tmp_path) == ["checkpoint-3", "checkpoint-4", "checkpoint-9", "mine"]
  assert saver.latest() == f"{tmp_path}/checkpoint-4"  # 9 has no manifest
  (tmp_path / "checkpoint-9").rmdir()
  assert saver.save(CALENDAR) == f"{tmp_path}/checkpoint-5"


def test_nothing_to_restore(tmp_path):
  assert manager(tmp_path / "none", make_table()).restore() is None


@pytest.mark.parametrize("tables, words", [
  (["a", "a"], "'a'"), (["dense"], "'dense'"), (["a/b"], "'a/b'")])  # fmt: skip
def test_names_that_cannot_be_saved(tmp_path, tables, words):
  with pytest.raises(ValueError, match=words):
    manager(tmp_path, *(make_table(name=name) for name in tables))


def small_model(units=2):
  keras.utils.set_random_seed(1)
  model = keras.Sequential([keras.layers.Dense(units, input_shape=[3])])
  model.compile("adam", "mse", metrics=["mae"], run_eagerly=True)
  return model


def test_dense_weights_and_optimizer_come_back(tmp_path):
  x, y = np.random.default_rng(0).normal(size=[2, 32, 3]).astype(np.float32)
  model = small_model()
  model.fit(x, y[:, :2], verbose=0)
  manager(tmp_path, model=model).save(CALENDAR)
  other = small_model()
  other.fit(x[::-1], y[:, :2], verbose=0)
  manager(tmp_path, model=other).restore()
  for one in (model, other):
    one.fit(x, y[:, 1:], shuffle=False, verbose=0)
  for a, b in zip(
    model.variables + model.optimizer.variables, other.variables + other.optimizer.variables
  ):
    np.testing.assert_array_equal(a, b)


def test_a_model_that_does_not_fit(tmp_path):
  manager(tmp_path, full_table(), model=small_model()).save(CALENDAR)
  table = make_table()
  with pytest.raises(CheckpointError, match=r"/kernel' was \[3, 2\] and is \[3, 5\]") as raised:
    manager(tmp_path, table, model=small_model(units=5)).restore()
  assert "\n" not in str(raised.value)
  assert not keys_of(table).size


KILLED = """
import sys
from tests.test_checkpoint import full_table, manager
saver = manager(sys.argv[1], full_table(), keep=2)
number = 0
while True:
  number += 1
  saver.save({"number": number})
  print(number, flush=True)
"""


def test_a_kill_while_saving_leaves_the_last_complete_one(tmp_path):
  expected = full_table()
  rng = np.random.default_rng(0)
  last = 0
  process = None
  for _ in range(2):
    process = subprocess.Popen(
      [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
      for _ in range(3):
        assert process.stdout.readline()
      time.sleep(rng.uniform(0, 0.2))
    finally:
      os.kill(process.pid, signal.SIGKILL)
      rest = process.stdout.read().split()
      process.wait()
    table = make_table()
    reader = manager(tmp_path, table)
    calendar = reader.restore()
    reader.close()
    assert calendar["number"] >= int(rest[-1] if rest else 3)
    assert_same(table, expected)
    number = int(reader.latest().rsplit("-", 1)[1])
    assert number > last
    last = number
    assert set(checkpoints_in(tmp_path)) == {
      path.parent.name for path in tmp_path.glob("*/manifest.json")
    }
