"""`tfps join` as a command: files in, files out, restarts, bad input."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests import commands, join_logs
from tests.patience import PATIENCE, wait_until
from tests.soak import join as soak
from tfps.join import run as run_lib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def start(folder, *arguments, **fields):
  command = [
    sys.executable,
    "-m",
    "tfps",
    "join",
    f"--config={join_logs.config_file(folder, **fields)}",
    *arguments,
  ]
  env = os.environ | {"PYTHONPATH": str(ROOT)}
  return subprocess.Popen(
    command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )


def run(capsys, folder, *arguments, **fields):
  """The metrics of a join that ends by itself, in this process."""
  config = join_logs.config_file(folder, **fields)
  return commands.run_json(capsys, "join", f"--config={config}", "--once", *arguments)


def fails(capsys, folder, **fields):
  """The sentence that it ends with."""
  config = join_logs.config_file(folder, **fields)
  return commands.fails(capsys, "join", f"--config={config}", "--once")


@pytest.mark.parametrize("write", ["json", "parquet"])
def test_every_record_once_with_all_its_actions(tmp_path, capsys, write):
  features, actions = join_logs.make(3000)
  writer = getattr(join_logs, f"write_{write}")
  fields = {
    "batch_bytes": 50_000,
    "features__format": write,
    "actions__format": write,
    "samples__records_per_file": 700,
  }
  for part in range(3):
    for log, rows in (("features", features), ("actions", actions)):
      size = len(rows) // 3 + 1
      writer(tmp_path / log / f"hour={part}", "part", rows[part * size : (part + 1) * size])
    metrics = run(capsys, tmp_path, *["--close"] * (part == 2), **fields)
  samples = join_logs.read(tmp_path / "samples")
  assert len(samples) == 3000 and dict(samples) == join_logs.expected(features, actions)
  assert (
    metrics["samples"] == metrics["features"] == 3000
    and metrics["waiting_features"] == metrics["waiting_actions"] == 0
  )
  assert metrics["duplicate_features"] == len(features) - 3000
  unknown = sum(row["action"] == "share" for row in actions)
  assert metrics["unknown_actions"] == unknown
  assert metrics["late_actions"] > 0 and metrics["actions"] == len(actions) - unknown
  ended = sum(metrics[f"{what}_actions"] for what in ("used", "late", "duplicate", "unmatched"))
  assert ended == metrics["actions"]
  assert json.loads((tmp_path / "state" / "metrics.json").read_text())["samples"] == 3000
  assert not list((tmp_path / "state" / "segments").iterdir())


def test_early_shows_once_and_gives_each_label_once(tmp_path, capsys):
  features, actions = join_logs.make(1000)
  for log, rows in (("features", features), ("actions", actions)):
    join_logs.write_json(tmp_path / log, "part", rows)
  run(capsys, tmp_path, "--close", policy="early", batch_bytes=50_000)
  samples = join_logs.read(tmp_path / "samples")
  expected = join_logs.expected(features, actions, labels=("click", "like"))
  negatives = {ids: row for ids, row in samples if row["show"] == 1}
  assert len(negatives) == sum(row["show"] for _, row in samples) == 1000
  assert all(
    row["label/click"] == row["click"] == row["label/like"] == 0 and row["weight/like"] == 1
    for row in negatives.values()
  )
  for name, other in (("click", "like"), ("like", "click")):
    given = [ids for ids, row in samples if row[f"label/{name}"] == 1]
    assert sorted(given) == sorted(
      ids for ids, row in expected.items() if row[f"label/{name}"] == 1
    )
    for ids, row in samples:
      if row[f"label/{name}"] == 1:
        assert (row["show"], row["click"], row[f"weight/{name}"], row[f"weight/{other}"]) == (
          0,
          name == "click",
          1,
          0,
        )
        assert {slot: row[slot] for slot in ("user_id", "tags", "time")} == {
          slot: expected[ids][slot] for slot in ("user_id", "tags", "time")
        }


def test_follows_files_that_grow_and_ends_with_sigterm(tmp_path, capsys):
  features, actions = join_logs.make(400)
  for log in ("features", "actions"):
    (tmp_path / log).mkdir()
  process = start(tmp_path)
  try:
    files = [open(tmp_path / log / "log", "w") for log in ("features", "actions")]
    for part in range(4):
      for file, rows in zip(files, (features, actions)):
        size = len(rows) // 4 + 1
        text = "".join(json.dumps(row) + "\n" for row in rows[part * size : (part + 1) * size])
        file.write(text[:-20])  # a line that is not finished yet
        file.flush()
        time.sleep(0.3)
        file.write(text[-20:])
        file.flush()
    wait_until(
      lambda: list((tmp_path / "samples").glob("samples-*")), lambda: process.poll() is None
    )
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE)
  finally:
    process.kill()
  assert process.returncode == 0, err
  assert "watermark_lag" in out
  run(capsys, tmp_path, "--close")
  samples = join_logs.read(tmp_path / "samples")
  assert len(samples) == 400 and dict(samples) == join_logs.expected(features, actions)


def test_actions_wait_in_their_log_while_no_feature_records_come(tmp_path, monkeypatch):
  monkeypatch.setattr(run_lib, "_MOST_UNMATCHED", 50)
  features, actions = join_logs.make(400)
  (tmp_path / "features").mkdir()
  join_logs.write_json(tmp_path / "actions", "log", actions)
  join = run_lib.Run(join_logs.config(tmp_path, batch_bytes=2000))
  try:
    reads = [join._step() for _ in range(20)]
    assert sum(reads) < len(actions) / 2 and reads[-1] == 0
    assert 50 <= join._joiner.unmatched < 100
    join_logs.write_json(tmp_path / "features", "log", features)
    while join._step():
      pass
    assert join._joiner.unmatched < 50
  finally:
    join._store.close()
  run_lib.Run(join_logs.config(tmp_path), once=True, close=True).run()
  samples = join_logs.read(tmp_path / "samples")
  assert len(samples) == 400 and dict(samples) == join_logs.expected(features, actions)


def test_a_new_state_writes_no_file_anew(tmp_path):
  features, actions = join_logs.make(50)
  for log, rows in (("features", features), ("actions", actions)):
    join_logs.write_json(tmp_path / log, "part", rows)
  for state in ("one", "two"):
    config = join_logs.config(tmp_path, state=f"{tmp_path}/{state}", samples__records_per_file=20)
    run_lib.Run(config, once=True, close=True).run()
  samples = join_logs.read(tmp_path / "samples")
  assert samples[:50] == samples[50:] and len(samples) == 100


def test_killed_at_random_it_neither_loses_nor_repeats(tmp_path):
  soak.soak(tmp_path, kills=2, records=3000, seed=1)


@pytest.mark.parametrize(
  "fields, sentence",
  [
    ({"policy": "soon"}, "config.policy is 'soon'; it must be one of 'wait', 'early'"),
    ({"labels": {}}, "config.labels is empty"),
    ({"labels": {"x": {"action": "x"}}}, "config.labels.x needs an action and a wait"),
    ({"features__folder": "/no/such"}, "There is no folder /no/such"),
    ({"features__folder": ""}, "config.features needs a folder or a topic"),
    ({"click_label": "buy"}, "config.click_label is 'buy', which is none of click"),
    ({"slots": {"user_id": "text"}}, "config.slots.user_id is 'text'"),
    ({"features__request_id": "rid"}, "has no field 'rid'"),
    (
      {"features__time": "user_id", "slots": {"hour": "int"}},
      "no time: seconds since 1970, or a text like",
    ),
    ({"features__time": "user_id"}, "A feature is called 'time', which samples use themselves"),
    (
      {"slots": {"user_id": "int"}},
      "no whole number, but config.slots.user_id says 'int'",
    ),
  ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, capsys, fields, sentence):
  features, actions = join_logs.make(10)
  join_logs.write_json(tmp_path / "features", "a", features)
  join_logs.write_json(tmp_path / "actions", "a", actions)
  assert sentence in fails(capsys, tmp_path, **fields)


def test_bad_records_stop_it_or_are_counted(tmp_path, capsys):
  features, actions = join_logs.make(20)
  bad = [
    '{"request_id": "r", "item_id"',
    '{"request_id": null, "item_id": "i", "time": 1780000000}',
    "[1]",
  ]
  bad.append('{"request_id": "r", "item_id": "i", "time": 9780000000}')
  join_logs.write_json(tmp_path / "features", "a", features)
  with open(tmp_path / "features" / "a", "a") as file:
    file.write("\n".join(bad))  # the last line has no end
  join_logs.write_json(tmp_path / "actions", "a", actions)
  assert "is no JSON object" in fails(capsys, tmp_path)
  assert not list((tmp_path / "samples").iterdir())
  metrics = run(capsys, tmp_path, "--close", bad_records="skip")
  assert metrics["bad_records"] == 4 and metrics["samples"] == 20


def test_one_process_at_a_time_and_the_same_join(tmp_path, capsys):
  features, actions = join_logs.make(20)
  join_logs.write_json(tmp_path / "features", "a", features)
  join_logs.write_json(tmp_path / "actions", "a", actions)
  process = start(tmp_path)
  try:
    metrics = tmp_path / "state" / "metrics.json"
    wait_until(metrics.exists, lambda: process.poll() is None)
    assert "Another process is joining" in fails(capsys, tmp_path)
  finally:
    process.kill()
    process.communicate()
  assert "read with policy 'wait', now it is 'early'" in fails(capsys, tmp_path, policy="early")
