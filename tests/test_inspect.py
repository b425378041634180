"""`tfps inspect`: what it prints is what the tables held."""

import json
import math
import os
import pathlib

import numpy as np
import pytest

import tfps
from tests.checkpoints import keys_of, make_table, push_rows, serve
from tests.commands import fails, run, run_json, run_process
from tfps.checkpoint import CheckpointManager, summary

CALENDAR = {"epoch": 0, "day": 3, "day_name": "day-3", "tickets": 20, "records": 9, "ended": False}


def feasigns(slot, values):
  return tfps.feasign(slot, np.asarray(values)).numpy()


def users(numbers):
  return feasigns("user", [f"u{i}" for i in numbers])


@pytest.fixture(name="saved", scope="module")
def _saved(tmp_path_factory):
  """(table, folder of its checkpoints): two slots, a full one and increments over it."""
  folder = str(tmp_path_factory.mktemp("checkpoints"))
  table = make_table(2)
  slots = [table.slot_id(slot) for slot in ("user", "age")]
  manager = CheckpointManager(folder, None, [table, make_table(name="other")])
  everyone, ages = users(range(300)), feasigns("age", range(100))
  push_rows(table, everyone, slots[0], seed=1)
  push_rows(table, ages, slots[1], seed=2)
  serve(table, everyone[:60])
  table.end_of_day(0)
  table.end_of_day(1)
  manager.save({})
  push_rows(table, users(range(30, 130)), slots[0], seed=3)
  manager.save(CALENDAR, incremental=True)
  push_rows(table, ages[:5], slots[1], seed=4)
  manager.save(CALENDAR, incremental=True)
  return table, folder


def test_json_counts_every_row(saved, capsys):
  table, folder = saved
  found = run_json(capsys, "inspect", folder)
  assert found["checkpoint"] == f"{folder}/checkpoint-3" and found["calendar"] == CALENDAR
  assert found["chain"] == [f"{folder}/checkpoint-{i}" for i in (1, 2, 3)]
  assert found["tables"]["other"]["rows"] == 0
  of_table = found["tables"]["ctr"]
  keys = keys_of(table)
  rows = table.lookup(keys)
  assert of_table["rows"] == len(keys) and of_table["admitted"] == rows["admitted"].sum()
  assert of_table["served"] == rows["served"].sum() > 0
  assert of_table["pending_removals"] == 60 - of_table["served"] > 0
  assert (of_table["num_servers"], of_table["num_shards"]) == (2, 16)
  assert of_table["bytes"] == sum(
    run_json(capsys, "rebalance", folder)["tables"]["ctr"]["before"]["bytes"]
  )
  files = pathlib.Path(folder).glob("*/ctr/*")
  assert of_table["file_bytes"] == sum(path.stat().st_size for path in files)
  assert list(of_table["slots"]) == ["user", "age"]
  for number, slot in enumerate(("user", "age"), 1):
    of_slot = rows["slot"] == number
    counted = of_table["slots"][slot]
    assert counted["rows"] == of_slot.sum()
    assert counted["admitted"] == rows["admitted"][of_slot].sum()
    assert counted["served"] == rows["served"][of_slot].sum()
    show, click, _ = rows["statistics"][of_slot].T
    for name, values in (
      ("shows", show),
      ("scores", table.accessor.score(show, click)),
      ("unseen_days", rows["unseen_days"][of_slot]),
    ):
      edges = [-math.inf if edge is None else edge for edge in counted[name]["edges"]]
      expected = [
        np.sum((values >= begin) & (values < end))
        for begin, end in zip(edges, [*edges[1:], math.inf])
      ]
      assert counted[name]["counts"] == expected and sum(expected) == of_slot.sum()


def test_text_for_people(saved, capsys):
  table, folder = saved
  code, out, err = run(capsys, "inspect", f"{folder}/checkpoint-3", "--table", "ctr")
  assert code == 0 and err == ""
  lines = out.splitlines()
  assert lines[0].split() == ["checkpoint", f"{folder}/checkpoint-3"]
  assert "increments  2 over checkpoint-1" in lines
  assert "calendar    day-3 with 20 tickets finished" in lines
  total = len(keys_of(table))
  assert any(line.split()[:2] == ["all", f"{total:,}"] for line in lines)
  assert not any("other" in line for line in lines)
  for title in ("shows", "scores", "unseen days"):
    assert title in out
  assert out.count("####################") >= 6  # the fullest bucket of each histogram
  assert max(map(len, lines)) < 130 and all(line == line.rstrip() for line in lines)


def test_one_slot(saved, capsys):
  _, folder = saved
  every = run_json(capsys, "inspect", folder)["tables"]["ctr"]["slots"]
  one = run_json(capsys, "inspect", folder, "--slot", "age")["tables"]
  assert list(one) == ["ctr"] and one["ctr"]["slots"] == {"age": every["age"]}


def check_row(table, row):
  there = {name: value[0] for name, value in table.lookup([row["key"]]).items()}
  show, click, delta_score = there["statistics"]
  assert [row[name] for name in ("show", "click", "delta_score")] == [show, click, delta_score]
  assert row["score"] == table.accessor.score(show, click)
  assert row["unseen_days"] == there["unseen_days"]
  assert row["admitted"] == there["admitted"] and row["served"] == there["served"]
  assert row["server"] == table.assignment[row["shard"]]
  floats = {"lr_w": [row["lr_w"]], "lr_state": row["lr_state"]}
  assert ("mf_w" in row) == row["admitted"]
  if row["admitted"]:
    floats |= {"mf_w": row["mf_w"], "mf_state": row["mf_state"]}
  for name, value in floats.items():
    assert np.array(value, np.float32).tobytes() == np.atleast_1d(there[name]).tobytes()


def test_rows_by_key(saved, capsys):
  table, folder = saved
  keys = keys_of(table)[[0, 7, -1]]  # Negative ones, too.
  as_unsigned = [str(keys[0]), f"{int(keys[1]) % 2**64}", f"{int(keys[2]) % 2**64:#x}"]
  rows = run_json(capsys, "inspect", folder, "--key", *as_unsigned)["rows"]
  assert [row["key"] for row in rows] == keys.tolist()
  for row in rows:
    check_row(table, row)
  code, out, _ = run(capsys, "inspect", folder, "--key", *keys)
  assert code == 0
  for row in rows:
    for name in ("show", "score", "lr_w"):
      assert f"{row[name]:.6g}" in out


def test_rows_by_value(saved, capsys):
  table, folder = saved
  rows = run_json(capsys, "inspect", folder, "--slot", "user", "--value", "u31", "u129")["rows"]
  assert [row["key"] for row in rows] == users([31, 129]).tolist()
  for row in rows:
    assert (row["slot"], row["value_type"]) == ("user", "string")
    check_row(table, row)
  row = run_json(capsys, "inspect", folder, "--slot", "age", "--value", "3")["rows"][0]
  assert row["key"] == feasigns("age", [3])[0] and row["value_type"] == "int"
  _, out, _ = run(capsys, "inspect", folder, "--slot", "age", "--value", "3")
  assert out.startswith(f"feasign {row['key']}, age '3' as int\n")


def test_a_value_that_looks_like_an_integer_may_be_a_string(tmp_path, capsys):
  table = make_table()
  keys = feasigns("zip", ["08012", "7", "9"])
  push_rows(table, keys, table.slot_id("zip"), seed=1)
  push_rows(table, feasigns("zip", [9]), 1, seed=1)
  CheckpointManager(tmp_path, None, [table]).save({})
  rows = run_json(capsys, "inspect", tmp_path, "--slot", "zip", "--value", "08012", "7", "9")[
    "rows"
  ]
  assert [row["value_type"] for row in rows] == ["string", "string", "int"]
  assert [row["key"] for row in rows[:2]] == keys[:2].tolist()
  told = ("--slot", "zip", "--value", "9", "--value-type", "string")
  assert run_json(capsys, "inspect", tmp_path, *told)["rows"][0]["key"] == keys[2]


def test_absent(saved, capsys):
  _, folder = saved
  code, out, err = run(capsys, "inspect", folder, "--key", "12345")
  assert (code, err) == (1, "")
  assert out == "feasign 12345 is absent from tables ctr, other.\n"
  there = keys_of(saved[0])[0]
  code, out, _ = run(capsys, "inspect", folder, "--table", "ctr", "--key", there, "12345", "--json")
  assert code == 1 and [row["found"] for row in json.loads(out)["rows"]] == [True, False]
  code, out, _ = run(capsys, "inspect", folder, "--slot", "user", "--value", "999")
  assert code == 1 and out.count("absent from table ctr") == 2  # as an integer, as a string


@pytest.mark.parametrize("slot", [None, "age"])
@pytest.mark.parametrize("n", [1, 10, 10_000])
def test_the_rows_of_highest_score(saved, capsys, slot, n):
  table, folder = saved
  keys = keys_of(table)
  rows = table.lookup(keys)
  if slot:
    keys = keys[rows["slot"] == table.slots[slot]]
    rows = table.lookup(keys)
  scores = table.accessor.score(*rows["statistics"][:, :2].T)
  expected = sorted(zip(-scores, keys))[:n]
  narrowed = ["--slot", slot] if slot else []
  found = run_json(capsys, "inspect", folder, "--top", n, *narrowed)["rows"]
  assert [(-row["score"], row["key"]) for row in found] == expected
  check_row(table, found[0])
  _, out, _ = run(capsys, "inspect", folder, "--top", n, *narrowed)
  lines = out.splitlines()
  assert lines[0].split()[:4] == ["table", "slot", "key", "score"]
  assert [int(line.split()[2]) for line in lines[1:]] == [key for _, key in expected]


def test_as_a_user_runs_it(saved):
  _, folder = saved
  code, out, err = run_process("inspect", folder)
  assert code == 0 and "table ctr" in out and err == ""


@pytest.mark.parametrize("arguments, words", [
  (["--table", "crt"], ["no table 'crt'", "ctr"]),
  (["--slot", "usr"], ["slot 'usr'", "age, user"]),
  (["--slot", "age", "--value", "x", "--value-type", "int"], ["'x' is no integer"]),
])  # fmt: skip
def test_what_is_not_there(saved, capsys, arguments, words):
  error = fails(capsys, "inspect", saved[1], *arguments)
  assert all(word in error for word in words)


@pytest.mark.parametrize("arguments, words", [
  (["--value", "u1"], "needs --slot"), (["--top", "0"], "1 or more"), (["--key", "u1"], "'u1'"),
  (["--key", 2**64], "64 bits"), (["--key", "1", "--slot", "age"], "no --slot"),
  (["--key", "1", "--top", "2"], "not allowed"),
])  # fmt: skip
def test_wrong_arguments(capsys, arguments, words):
  assert words in fails(capsys, "inspect", "/nowhere", *arguments, code=2)


def test_no_checkpoint(tmp_path, capsys):
  assert "no checkpoint at" in fails(capsys, "inspect", tmp_path)
  assert "no such folder" in fails(capsys, "inspect", tmp_path / "none")


@pytest.mark.parametrize("arguments", [[], ["--key", "5"]])
def test_a_damaged_file_is_named(saved, capsys, arguments):
  path = pathlib.Path(saved[1], "checkpoint-1/ctr/server-1.data-00000-of-00001")
  whole = path.read_bytes()
  os.truncate(path, 100)
  try:
    error = fails(capsys, "inspect", saved[1], *arguments)
  finally:
    path.write_bytes(whole)
  assert "checkpoint-1" in error and "ctr/server-1.data-00000-of-00001 has 100 bytes" in error


def test_the_edges_of_histograms():
  histogram = summary.Histogram(summary.COUNT_EDGES)
  histogram.add(np.array([-1e9, -0.5, 0, 0.0099, 0.01, 0.02, 1e30]))
  assert histogram.counts[:4].tolist() == [2, 2, 1, 1] and histogram.counts[-1] == 1
  days = summary.Histogram(summary.DAY_EDGES)
  days.add(np.array([0, 1, 2, 3, 4, 65535], np.uint16))
  assert days.counts.tolist() == [1, 1, 2, 1] + [0] * 12 + [1]
