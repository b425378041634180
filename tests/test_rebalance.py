"""`tfps rebalance`: proposals from measured load, and what a restore makes of them."""

import json
import os
import pathlib
from types import SimpleNamespace

import numpy as np
import pytest

from tests.checkpoints import assert_same, keys_of, make_table, push
from tests.commands import fails, run, run_json, run_process
from tfps.checkpoint import CheckpointManager, reader, rebalance
from tfps.table import placement

SHARDS = 256
ALL_KEYS = np.arange(1, 4001) * 7919
SHARD_OF = placement.virtual_shards(ALL_KEYS, SHARDS)
# Server 1 of 3 has twice the rows of the others.
KEYS = ALL_KEYS[(SHARD_OF % 3 == 1) | (ALL_KEYS % 2 == 0)]
CALENDAR = {"epoch": 0, "day": 2}


def table_of(num_servers, **arguments):
  return make_table(num_servers, num_shards=SHARDS, **arguments)


def manager(folder, *tables):
  return CheckpointManager(folder, None, tables)


@pytest.fixture(name="uneven")
def _uneven(tmp_path):
  """(table on 3 servers, folder of its checkpoints: a full one and an increment)."""
  table = table_of(3)
  folder = str(tmp_path / "checkpoints")
  saver = manager(folder, table)
  push(table, KEYS, seed=1)
  saver.save({})
  table.pull([KEYS[SHARD_OF[np.isin(ALL_KEYS, KEYS)] % 3 == server] for server in range(3)])
  push(table, KEYS[:50], seed=2)
  saver.save(CALENDAR, incremental=True)
  return table, folder


def test_a_proposal_evens_all_measures_and_moves_few_shards(uneven, capsys):
  table, folder = uneven
  before = pathlib.Path(folder, "checkpoint-2/manifest.json").read_bytes()
  found = run_json(capsys, "rebalance", folder)
  assert not found["applied"]
  assert pathlib.Path(folder, "checkpoint-2/manifest.json").read_bytes() == before
  found = found["tables"]["ctr"]
  rows = np.bincount(placement.virtual_shards(KEYS, SHARDS), minlength=SHARDS)
  assignment = np.array(found["assignment"])
  for when, assigned in (("before", table.assignment), ("after", assignment)):
    for name in ("rows", "pulls"):  # Every row was pulled once.
      assert found[when][name] == np.bincount(assigned, weights=rows, minlength=3).tolist()
  assert max(found["before"]["rows"]) > 1.2 * np.mean(found["before"]["rows"])
  for name in ("rows", "bytes", "pulls"):
    after = np.array(found["after"][name])
    assert np.all(np.abs(after / after.mean() - 1) <= 0.1)
  moved = assignment != table.assignment
  assert found["moved_shards"] == moved.sum() and found["moved_rows"] == rows[moved].sum()
  # It must give away 15 of its 100 parts; the others have 25 each.
  must_move = found["before"]["rows"][1] - 1.1 * np.mean(found["before"]["rows"])
  assert must_move <= found["moved_rows"] <= 1.5 * must_move


def test_what_is_applied_is_restored(uneven, capsys):
  table, folder = uneven
  found = run_json(capsys, "rebalance", folder, "--apply")
  assert found["applied"]
  proposed = found["tables"]["ctr"]["assignment"]
  saved = json.loads(pathlib.Path(folder, "checkpoint-2/manifest.json").read_text())["tables"][
    "ctr"
  ]
  assert saved["assignment"] == proposed and saved["saved_on"] == table.assignment.tolist()
  restored = table_of(3)
  saver = manager(folder, restored)
  assert saver.restore() == CALENDAR
  assert restored.assignment.tolist() == proposed
  assert_same(table, restored, KEYS)
  for number, server in enumerate(restored.servers):
    load = np.bincount(proposed, weights=saved["load"]["rows"], minlength=3)
    assert load[number] == len(keys_of_server(restored, server))
  # It stays so from here on, and its even load is measured.
  saver.save(CALENDAR)
  assert reader.open_checkpoint(folder).tables["ctr"].saved.assignment == proposed
  again = run_json(capsys, "rebalance", folder, "--apply")
  assert not again["applied"] and again["tables"]["ctr"]["moved_shards"] == 0


def keys_of_server(table, server):
  alone = type("Alone", (), {"servers": [server], "num_shards": table.num_shards})
  return keys_of(alone)


def test_another_number_of_servers(uneven, capsys):
  table, folder = uneven
  found = run_json(capsys, "rebalance", folder, "--servers", 4, "--apply")["tables"]["ctr"]
  assert reader.open_checkpoint(folder).tables["ctr"].saved.num_servers == 4
  after = np.array(found["after"]["rows"])
  assert after.size == 4 and after.max() <= 1.1 * after.mean()
  for num_servers in (4, 2):
    restored = table_of(num_servers)
    manager(folder, restored).restore()
    assert_same(table, restored, KEYS)
    if num_servers == 4:
      assert restored.assignment.tolist() == found["assignment"]


def test_a_load_that_is_15_percent_above_the_mean_is_left_alone():
  """And one of 25 percent is not."""
  assignment = placement.assign_shards(SHARDS, 2)
  for above, moves in ((0.15, False), (0.25, True)):
    load = np.where(assignment == 0, 1000 * (1 + above), 1000 * (1 - above)).astype(int).tolist()
    load = dict.fromkeys(rebalance.MEASURES, load)
    saved = SimpleNamespace(num_servers=2, assignment=assignment.tolist(), load=load)
    assert rebalance.propose(saved).changes == moves


def test_an_even_table_is_left_alone(tmp_path, capsys):
  table = table_of(2)
  push(table, ALL_KEYS[:1000], seed=1)
  path = manager(tmp_path, table).save({})
  before = pathlib.Path(path, "manifest.json").read_bytes()
  code, out, err = run(capsys, "rebalance", tmp_path, "--apply")
  assert code == 0 and err == "" and out.splitlines()[-1] == "Nothing is to be moved."
  assert pathlib.Path(path, "manifest.json").read_bytes() == before
  found = run_json(capsys, "rebalance", tmp_path, "--servers", 3)["tables"]["ctr"]
  assert found["assignment"] == placement.reassign(table.assignment, 3).tolist()


def test_only_the_named_table_changes(tmp_path, capsys):
  tables = [table_of(3), table_of(3, name="other")]
  for table in tables:
    push(table, KEYS, seed=1)
  manager(tmp_path, *tables).save({})
  run_json(capsys, "rebalance", tmp_path, "--table", "other", "--apply")
  saved = reader.open_checkpoint(tmp_path).tables
  assert saved["ctr"].saved.assignment == tables[0].assignment.tolist()
  assert saved["other"].saved.assignment != tables[1].assignment.tolist()


def test_what_a_killed_apply_leaves_does_no_harm(uneven, capsys):
  table, folder = uneven
  beside = pathlib.Path(folder, "checkpoint-2/new-manifest.json")
  beside.write_text('{"half')
  restored = table_of(3)
  manager(folder, restored).restore()
  assert_same(table, restored, KEYS)
  assert run_json(capsys, "rebalance", folder, "--apply")["applied"] and not beside.exists()


def test_as_a_user_runs_it(uneven):
  _, folder = uneven
  code, out, err = run_process("rebalance", folder, "--apply")
  assert code == 0 and err == "", err
  lines = out.splitlines()
  assert lines[0] == f"{folder}/checkpoint-2" and "by rows on server 1" in lines[2]
  assert [line.split()[0] for line in lines[4:7]] == ["0", "1", "2"]
  assert lines[-1].startswith("Applied")


def test_wrong_input(uneven, capsys):
  _, folder = uneven
  assert "1 or more" in fails(capsys, "rebalance", folder, "--servers", 0, code=2)
  assert "no table 'x'" in fails(capsys, "rebalance", folder, "--table", "x")
  assert "no such folder" in fails(capsys, "rebalance", f"{folder}/none")
  os.truncate(f"{folder}/checkpoint-2/manifest.json", 99)
  assert "manifest.json is truncated" in fails(capsys, "rebalance", folder)
