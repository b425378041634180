"""Training on a cluster: real processes, the same config as in one process."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from tests import held
from tests.patience import PATIENCE, wait_until
from tests.soak import jobs
from tfps.cli import launch, main

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "quickstart.py"
SMALL = [
  "--config.data.days=3",
  "--config.data.examples_per_day=6000",
  "--config.batch_size=128",
  "--config.end_of_day=False",
]

# A user's own script with Keras's DatasetCreator, every worker of which reads 10 batches of 8
# examples.
DATASET_CREATOR = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import tensorflow as tf, tf_keras as keras, tfps
from models.deepfm import DeepFM

strategy = tfps.strategy()
with strategy.scope():
  table = tfps.FeasignTable("ctr", mf_dim=4)
  # So many units that some of them let the gradient of what was imported through.
  model = DeepFM(table, ["user"], hidden=[32])
  model.compile("adam", "binary_crossentropy", metrics=["AUC"])

# Rows from elsewhere go to the servers that have their shards: 300 users who do not train, and one
# who does.
vectors = {{"keys": tf.range(7, 308).numpy(), "values": tf.fill([301, 4], 0.5).numpy()}}
print("imported", tfps.migration.import_numpy(table, "user", vectors), flush=True)

def dataset(context):
  users = tf.data.Dataset.range(8).repeat()
  examples = users.map(
    lambda user: ({{"user": tfps.feasign("user", user)}}, [tf.cast(user % 2, tf.float32)])
  )
  return examples.batch(8)

model.fit(keras.utils.experimental.DatasetCreator(dataset), steps_per_epoch=10, epochs=2, verbose=2)
print("shows", table.statistics()["show"], "rows", table.statistics()["rows"], flush=True)
found = table.lookup(tfps.feasign("user", tf.range(308)))
as_imported = (found["mf_w"] == 0.5).all(axis=1).sum()
print("admitted", found["admitted"].sum(), "as imported", as_imported, flush=True)
"""


def run_tfps(*arguments, log_level=1):
  command = [sys.executable, "-m", "tfps", *map(str, arguments)]
  env = jobs.environment(TF_CPP_MIN_LOG_LEVEL=str(log_level))
  done = subprocess.run(
    command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
  )
  assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
  return done


@pytest.fixture(name="alone", scope="module")
def _alone(tmp_path_factory):
  path = tmp_path_factory.mktemp("alone") / "summary.json"
  assert main.main(["train", f"--config={CONFIG}", *SMALL, f"--config.summary_file={path}"]) == 0
  return json.loads(path.read_text())


@pytest.fixture(name="cluster", scope="module")
def _cluster(tmp_path_factory):
  folder = tmp_path_factory.mktemp("cluster")
  path = folder / "summary.json"
  done = run_tfps(
    "launch", "--workers=2", "--ps=2", f"--log-dir={folder / 'logs'}", "--",
    "train", f"--config={CONFIG}", *SMALL, f"--config.summary_file={path}",
  )  # fmt: skip
  return done, json.loads(path.read_text())


def test_a_cluster_counts_every_occurrence_exactly_once(alone, cluster):
  _, summary = cluster
  assert summary["examples"] == 18_000
  for total in ("rows", "show", "click"):
    assert summary["table"][total] == alone["table"][total], total


def test_a_cluster_counts_the_same_in_tfras_tables(alone, tmp_path):
  path, logs = tmp_path / "summary.json", tmp_path / "logs"
  run_tfps(
    "launch", "--workers=2", "--ps=2", f"--log-dir={logs}", "--",
    "train", f"--config={CONFIG}", *SMALL, "--config.table.engine=tfra",
    f"--config.summary_file={path}",
    log_level=0,
  )  # fmt: skip
  for server in (0, 1):  # TFRA tells when it makes a table.
    assert "HashTable on CPU is created" in (logs / f"ps-{server}.log").read_text()
  summary = json.loads(path.read_text())
  for total in ("rows", "show", "click", "admitted"):
    assert summary["table"][total] == alone["table"][total], total
  assert summary["total"]["auc"] == pytest.approx(alone["total"]["auc"], abs=0.02)


def test_a_cluster_learns_what_one_process_learns(alone, cluster):
  _, summary = cluster
  assert alone["days"]["day-2"]["auc"] > 0.6
  assert summary["total"]["auc"] == pytest.approx(alone["total"]["auc"], abs=0.02)


def test_a_cluster_shows_progress_in_finished_tickets(cluster):
  done, _ = cluster
  # 3 days of 6,000 examples in tickets of 10 batches of 128.
  assert "15/15 [" in done.stdout
  assert "auc:" in done.stdout
  assert "day-2" in done.stdout


def test_a_lost_worker_is_survived_and_its_ticket_runs_again(alone, tmp_path):
  """The clicks are in Parquet files here, which the workers read with pyarrow."""
  path, hold = tmp_path / "summary.json", tmp_path / "hold"
  # It does not end before the worker is killed.
  config = held.config_file(tmp_path, hold, first=30, make="columns")
  hold.touch()
  command = [sys.executable, "-m", "tfps", "train", f"--config={config}", *SMALL]
  command += ["--config.batches_per_ticket=2", f"--config.summary_file={path}"]
  processes = {}
  try:
    for job, index, config in launch._tf_configs(workers=2, ps=1):
      with open(tmp_path / f"{job}{index}.txt", "wb") as out:
        processes[job, index] = subprocess.Popen(
          command,
          stdout=out,
          stderr=subprocess.STDOUT,
          env=jobs.environment(TF_CONFIG=json.dumps(config)),
        )
    chief_output = tmp_path / "chief0.txt"
    wait_until(
      lambda: re.search(r"\b([5-9]|\d\d)/72 \[", chief_output.read_text()),
      lambda: processes["chief", 0].poll() is None,
      lambda: chief_output.read_text()[-3000:],
    )
    processes["worker", 0].kill()
    hold.unlink()
    assert processes["chief", 0].wait(PATIENCE) == 0, chief_output.read_text()[-3000:]
    assert processes["worker", 1].wait(PATIENCE) == processes["ps", 0].wait(PATIENCE) == 0
  finally:
    for process in processes.values():
      process.kill()
      process.wait()
  summary = json.loads(path.read_text())
  assert "72/72 [" in chief_output.read_text()
  assert summary["examples"] == alone["examples"]
  # Nothing is lost, and what the worker had applied of its last ticket does not count twice.
  for total in ("rows", "show", "click"):
    assert summary["table"][total] == alone["table"][total], total


def test_the_summary_is_for_people(cluster):
  done, _ = cluster
  for word in ("feasigns", "admitted", "table memory", "examples/s", "AUC"):
    assert word in done.stdout


def test_dataset_creator_works_as_in_stock_keras(tmp_path):
  script = tmp_path / "script.py"
  script.write_text(DATASET_CREATOR)
  done = run_tfps("launch", "--workers=2", "--ps=2", f"--log-dir={tmp_path / 'logs'}", "--", script)
  assert "imported 301 rows, 301 admitted" in done.stdout
  # 2 epochs of 10 steps of 8 examples, beside the 100 shows with which each imported row begins; of
  # the users 0 to 6 three click.
  assert f"shows {160.0 + 30100} rows 308.0" in done.stdout
  assert "admitted 304 as imported 300\n" in done.stdout
