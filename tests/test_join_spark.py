"""The join as a Spark program gives the samples of the join in one process."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests import join_logs

pytest.importorskip("pyspark")
ROOT = pathlib.Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs a Java")


def run(folder, *arguments, code=0, **fields):
  command = [
    sys.executable,
    "-m",
    "tfps",
    "join",
    f"--config={join_logs.config_file(folder, **fields)}",
    "--once",
    *arguments,
  ]
  # Workers are processes of their own; loopback only.
  env = os.environ | {"PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1"}
  done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)
  assert done.returncode == code, done.stderr
  return done.stdout if code == 0 else done.stderr


def test_the_same_samples_over_a_restart(tmp_path):
  features, actions = join_logs.make(1500)
  # What comes long after closes the windows of all that was before.
  later = {"time": join_logs.BEGIN + 5000.0}
  features.append({**features[0], **later, "request_id": "later"})
  actions.append({**actions[0], **later, "request_id": "later"})
  folders = {engine: tmp_path / engine for engine in ("process", "spark")}
  for part in range(2):
    for engine, folder in folders.items():
      for log, rows in (("features", features), ("actions", actions)):
        size = len(rows) // 2 + 1
        join_logs.write_json(folder / log, f"{part}", rows[part * size : (part + 1) * size])
      metrics = json.loads(run(folder, "--json", engine=engine, spark__master="local[2]"))
  samples = {engine: join_logs.read(folder / "samples") for engine, folder in folders.items()}
  assert sorted(samples["spark"], key=str) == sorted(samples["process"], key=str)
  expected = join_logs.expected(features[:-1], actions[:-1])
  assert len(samples["spark"]) == 1500 and dict(samples["spark"]) == expected
  assert metrics["dropped_by_watermark"] == 0


def test_what_spark_cannot_is_said(tmp_path):
  for fields, arguments, sentence in (
    ({"policy": "early"}, [], "config.policy is 'early', which the engine 'process' has"),
    ({}, ["--close"], "Spark closes windows by its watermark only"),
    ({"features__folder": "/no/such"}, [], "There is no folder /no/such"),
  ):
    assert sentence in run(tmp_path, *arguments, code=1, engine="spark", **fields)
