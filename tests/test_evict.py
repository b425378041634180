"""`tfps evict`: a new checkpoint without what a day's end would evict, else with the same rows."""

import dataclasses
import json
import os
import pathlib

import numpy as np
import pytest
import tf_keras as keras

import tfps
from tests import reference
from tests.checkpoints import assert_same, keys_of, make_table, push_rows, serve
from tests.commands import fails, run, run_json, run_process
from tfps.checkpoint import CheckpointManager, reader, writer

KEYS = np.arange(1, 601) * 7919
CALENDAR = {"epoch": 0, "day": 2}
# As make_table has it.
ACCESSOR = reference.Accessor(create_threshold=1.0, delete_threshold=0.2)
SERVED = KEYS[:200]


def small_model(seed=1):
  keras.utils.set_random_seed(seed)
  model = keras.Sequential([keras.layers.Dense(2, input_shape=[3])])
  model.compile("adam", "mse")
  return model


@pytest.fixture(name="saved")
def _saved(tmp_path):
  """(table, the reference with the same rows, folder whose newest checkpoint holds them)."""
  folder = str(tmp_path / "checkpoints")
  table = make_table(2)
  for slot in ("user", "item", "genre"):
    table.slot_id(slot)
  adam = reference.Optimizer("adam", learning_rate=0.001)
  expected = reference.ReferenceTable(
    mf_dim=3, accessor=ACCESSOR, lr=adam, mf=adam, mf_init_range=0.5
  )
  manager = CheckpointManager(folder, small_model(), [table, make_table(name="other")])

  def push(keys, seed):
    expected.push(*push_rows(table, keys, keys % 3 + 1, seed))

  push(KEYS, seed=1)
  serve(table, SERVED)
  table.end_of_day(0)
  expected.end_of_day(0)
  manager.save({})
  push(KEYS[150:200], seed=2)
  manager.save(CALENDAR, incremental=True)
  assert 0 < len(expected.evictable()) < len(expected.rows) / 2
  return table, expected, folder


def removals_of(path, name="ctr"):
  shards = list(reader.open_checkpoint(path).tables[name].shards())
  return sorted(np.concatenate([shard.removals for shard in shards]).tolist())


def restore(folder, num_servers, model=None):
  table = make_table(num_servers)
  calendar = CheckpointManager(
    folder, model or small_model(2), [table, make_table(num_servers, name="other")]
  ).restore()
  return table, calendar


def lookup(table, keys):
  return {name: value.tobytes() for name, value in table.lookup(keys).items()}


def test_what_is_due_leaves_and_all_else_stays(saved, capsys, monkeypatch):
  table, expected, folder = saved
  monkeypatch.setattr(writer, "_PART_BYTES", 4000)
  dry = run_json(capsys, "evict", folder, "--dry-run")
  assert sorted(os.listdir(folder)) == ["checkpoint-1", "checkpoint-2"]
  found = run_json(capsys, "evict", folder)
  assert found["written"] == f"{folder}/checkpoint-3" and found["tables"] == dry["tables"]
  due = expected.evictable()
  for number, slot in enumerate(("user", "item", "genre"), 1):
    assert found["tables"]["ctr"][slot] == {
      "rows": sum(row.slot == number for row in expected.rows.values()),
      "evicted": sum(expected.row(key).slot == number for key in due),
    }
  assert found["tables"]["other"] == {}

  path = pathlib.Path(folder, "checkpoint-3")
  assert len(list(path.glob("ctr/server-0.data-*"))) > 2
  content = json.loads((path / "manifest.json").read_text())
  assert content["increment_of"] is None and content["calendar"] == CALENDAR
  assert {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()} == {
    "manifest.json", *content["files"]}  # fmt: skip
  kept = sorted(set(expected.rows) - set(due))
  load = content["tables"]["ctr"]["load"]
  assert content["tables"]["ctr"]["rows"] == sum(load["rows"]) == len(kept)
  shards = [reference.virtual_shard(key, 16) for key in kept]
  assert load["rows"] == np.bincount(shards, minlength=16).tolist()

  model = small_model(2)
  for num_servers in (1, 3):
    restored, calendar = restore(folder, num_servers, model)
    assert calendar == CALENDAR and keys_of(restored).tolist() == kept
    assert lookup(restored, kept) == lookup(table, kept)
    assert restored.end_of_day(0) == 0  # the day has ended, as it had
    assert restored.slots == table.slots
  for one, other in zip(model.get_weights(), small_model(1).get_weights()):
    np.testing.assert_array_equal(one, other)
  served = table.lookup(due)["served"]
  removed = sorted(key for key, was_served in zip(due, served) if was_served)
  pending = removals_of(f"{folder}/checkpoint-2")
  assert pending and removed and removals_of(folder) == sorted([*pending, *removed])


def test_nothing_is_due_a_second_time(saved, capsys):
  _, _, folder = saved
  run_json(capsys, "evict", folder)
  removed = removals_of(folder)
  found = run_json(capsys, "evict", folder)["tables"]["ctr"]
  assert all(slot["evicted"] == 0 for slot in found.values())
  assert removals_of(folder) == removed


def test_training_goes_on_as_if_the_rows_had_left_by_themselves(saved, capsys):
  table, _, folder = saved
  run_json(capsys, "evict", folder)
  restored, _ = restore(folder, 2)
  for one in (table, restored):
    one.end_of_day(1)  # evicts first
  assert_same(table, restored, KEYS)
  # The next checkpoints go over the evicted one.
  manager = CheckpointManager(folder, None, [restored])
  manager.save(CALENDAR)
  push_rows(restored, KEYS[:20], 1, seed=5)
  manager.save(CALENDAR, incremental=True)
  assert run_json(capsys, "inspect", folder)["tables"]["ctr"]["rows"] == len(keys_of(restored))


def test_one_table_only(saved, capsys):
  table, _, folder = saved
  found = run_json(capsys, "evict", folder, "--table", "other")
  assert list(found["tables"]) == ["other"]
  assert_same(restore(folder, 1)[0], table, KEYS)


def test_slots_with_policies_of_their_own(tmp_path, capsys):
  kept, dim = tfps.CtrAccessor(create_threshold=0.5, delete_threshold=0.0), 5
  policies = {
    "user": tfps.SlotPolicy(accessor=tfps.CtrAccessor(delete_threshold=1.0), optimizer=tfps.FTRL()),
    "item": tfps.SlotPolicy(mf_dim=dim, accessor=kept),
  }
  table = make_table(2, slot_policies=policies)
  expected = reference.ReferenceTable(
    mf_dim=3,
    accessor=ACCESSOR,
    slots={
      1: reference.Policy(mf_dim=3, accessor=reference.Accessor(delete_threshold=1.0)),
      2: reference.Policy(mf_dim=dim, accessor=reference.Accessor(**dataclasses.asdict(kept))),
    },
  )
  table.slot_id("genre")
  expected.push(*push_rows(table, KEYS, KEYS % 3 + 1, seed=1))
  CheckpointManager(tmp_path, None, [table]).save({})
  found = run_json(capsys, "evict", tmp_path)["tables"]["ctr"]
  due = expected.evictable()
  for number, slot in enumerate(("user", "item", "genre"), 1):
    assert found[slot]["evicted"] == sum(expected.row(key).slot == number for key in due)
  assert found["user"]["evicted"] > found["genre"]["evicted"] > found["item"]["evicted"] == 0
  restored = make_table(3, slot_policies=policies)
  CheckpointManager(tmp_path, None, [restored]).restore()
  kept = sorted(set(expected.rows) - set(due))
  assert keys_of(restored).tolist() == kept and lookup(restored, kept) == lookup(table, kept)
  rows = run_json(capsys, "inspect", tmp_path, "--slot", "item", "--top", 1000)["rows"]
  widths = {len(row["mf_w"]) for row in rows if row["admitted"]}
  assert widths == {dim} and not all(row["admitted"] for row in rows)


def test_other_settings(saved, capsys):
  _, expected, folder = saved
  settings = ["--set", "accessor.delete_threshold=0.5", "--set", "item.accessor.delete_threshold=2"]
  found = run_json(capsys, "evict", folder, "--dry-run", *settings)["tables"]["ctr"]
  for number, slot, threshold in ((1, "user", 0.5), (2, "item", 2), (3, "genre", 0.5)):
    rows = [row for row in expected.rows.values() if row.slot == number]
    due = sum(ACCESSOR.score(row.show, row.click) < threshold for row in rows)
    assert found[slot]["evicted"] == due > 0
  unseen = run_json(
    capsys, "evict", folder, "--dry-run", "--set=accessor.delete_after_unseen_days=0",
    "--set=accessor.delete_threshold=-1",
  )  # fmt: skip
  evicted = sum(slot["evicted"] for slot in unseen["tables"]["ctr"].values())
  assert evicted == sum(row.unseen_days > 0 for row in expected.rows.values()) > 0


def test_into_another_folder(saved, capsys, tmp_path):
  _, expected, folder = saved
  output = tmp_path / "evicted"
  found = run_json(capsys, "evict", f"{folder}/checkpoint-1", "--output", output)
  assert found["written"] == f"{output}/checkpoint-1" and len(os.listdir(folder)) == 2
  assert 0 < len(keys_of(restore(str(output), 1)[0])) < len(expected.rows)


def test_a_newer_checkpoint_is_not_passed_over(saved, capsys):
  _, _, folder = saved
  fails(capsys, "evict", f"{folder}/checkpoint-1", "--output", f"{folder}/../checkpoints/")
  error = fails(capsys, "evict", f"{folder}/checkpoint-1")
  assert f"{folder}/checkpoint-2 is newer" in error and "--output" in error
  assert len(os.listdir(folder)) == 2


def test_text_for_people(saved, capsys):
  _, expected, folder = saved
  code, out, err = run(capsys, "evict", folder, "--dry-run")
  assert code == 0 and err == ""
  assert out.splitlines()[1].split() == ["table", "slot", "rows", "would", "leave"]
  users = sum(expected.row(key).slot == 1 for key in expected.evictable())
  assert [
    line for line in out.splitlines() if line.split()[1:2] == ["user"] and f" {users} (" in line
  ]


def test_as_a_user_runs_it(saved):
  _, _, folder = saved
  code, out, err = run_process("evict", folder)
  assert code == 0 and out.endswith(f"Written: {folder}/checkpoint-3\n") and err == ""


@pytest.mark.parametrize("setting, words", [
  ("accessor.delete_treshold=1", ["delete_treshold", "delete_threshold"]),
  ("delete_threshold=1", ["accessor.NAME=VALUE"]),
  ("accessor.delete_threshold", ["accessor.NAME=VALUE"]),
  ("usr.accessor.delete_threshold=1", ["no slot 'usr'"]),
  ("accessor.delete_threshold=much", ["much"]),
  ("accessor.delete_after_unseen_days=-1", ["between 0 and"]),
])  # fmt: skip
def test_wrong_settings(saved, capsys, setting, words):
  error = fails(capsys, "evict", saved[2], "--table", "ctr", "--set", setting)
  assert all(word in error for word in words)
  assert len(os.listdir(saved[2])) == 2


def test_a_damaged_checkpoint_is_not_evicted_from(saved, capsys):
  _, _, folder = saved
  path = pathlib.Path(folder, "checkpoint-2/dense/model.index")
  path.write_bytes(path.read_bytes()[:-1])
  assert "dense/model.index has" in fails(capsys, "evict", folder)
  assert len(os.listdir(folder)) == 2
  path = pathlib.Path(folder, "checkpoint-1/ctr/server-1.data-00000-of-00001")
  whole = path.read_bytes()
  path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:])
  error = fails(capsys, "evict", f"{folder}/checkpoint-1", "--output", f"{folder}/../output")
  assert "checkpoint-1 is damaged" in error and "ctr/server-1" in error
  assert os.listdir(f"{folder}/../output") == []  # Nothing half written is left.
  path.write_bytes(whole)
  assert "no table 'x'" in fails(capsys, "evict", f"{folder}/checkpoint-1", "--table", "x")
