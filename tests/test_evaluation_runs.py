"""An evaluator as a task of a cluster: real processes."""

import json
import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss, roc_auc_score

import tfps
from models.deepfm import DeepFM
from tests.evaluations import events_of, naive_gauc
from tests.patience import PATIENCE
from tests.soak import jobs
from tfps.checkpoint import CheckpointManager
from tfps.checkpoint.folder import CHECKPOINTS
from tfps.cli import config as config_lib
from tfps.cli import launch
from tfps.job import train as training
from tfps.learning.metrics import ClickScores

ROOT = pathlib.Path(__file__).resolve().parent.parent

CONFIG = f"""
import tfps
from tfps.cli import config as config_lib

quickstart = config_lib.load_module({str(ROOT / "configs" / "quickstart.py")!r})
source = quickstart.source

def get_config():
  config = quickstart.get_config()
  config.model.file = {str(ROOT / "models" / "deepfm.py")!r}
  config.model.args.hidden = (8,)
  config.data.days = 2
  config.data.examples_per_day = 1500
  config.batch_size = 128
  config.batches_per_ticket = 2
  config.progressive_test = False
  config.checkpoint.keep = 99
  config.checkpoint.every_tickets = 2
  config.evaluation.poll_seconds = 0.2
  config.evaluation.gauc_slot = "city"
  config.evaluation.slots = ("category", "tags=2", "device=1")
  config.evaluation.most_values = 2
  return config

# Large beside the training data, so that each checkpoint takes a while.
def evaluation_source(config):
  return tfps.data.ClickStream(days=1, examples_per_day=12_000, seed=7, batch_size=500)
"""


def _train(tmp_path, log_dir):
  return ["train", f"--config={tmp_path / 'configs' / 'run.py'}",
          f"--config.checkpoint.folder={tmp_path / 'checkpoints'}",
          f"--config.evaluation.tensorboard={log_dir}"]  # fmt: skip


def _expected(config_path, folder):
  """{step: {tag: value}} of every checkpoint, by a model that is restored here."""
  module, config = config_lib.load(str(config_path))
  table, model = training.build(config, DeepFM, tf.distribute.get_strategy())
  source = module.evaluation_source(config)
  model.build_for(source)
  manager = CheckpointManager(folder, model, [table], read_only=True)
  predict = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
  data = [batch for ticket in source.tickets() for batch in source.open(ticket)]
  label = np.concatenate([y.numpy().ravel() for _, y in data])
  x = {slot: np.concatenate([x[slot].numpy() for x, _ in data]) for slot in source.slots}
  categories, counts = np.unique(x["category"], return_counts=True)
  most = categories[np.argsort(-counts)[:2]]
  groups = {f"/category={value}": x["category"] == value for value in most}
  groups["/tags=2"] = np.any(x["tags"] == int(tfps.feasign("tags", np.int64(2))), axis=1)
  groups["/device=1"] = x["device"] == int(tfps.feasign("device", np.int64(1)))
  expected = {}
  for number in CHECKPOINTS.numbers(manager.folder):
    manager.restore(CHECKPOINTS.path_of(manager.folder, number))
    prediction = np.concatenate([predict(batch).numpy().ravel() for batch, _ in data])
    results = {"gauc": naive_gauc(label, prediction, x["city"])}
    for suffix, at in {"": label >= 0, **groups}.items():
      scores = ClickScores()
      scores.update(label[at], prediction[at])
      assert scores.auc == pytest.approx(roc_auc_score(label[at], prediction[at]), abs=1e-4)
      results["auc" + suffix] = scores.auc
      results["log_loss" + suffix] = log_loss(label[at], prediction[at].astype(float))
      results["calibration" + suffix] = prediction[at].mean(dtype=float) / label[at].mean()
    expected[int(model.optimizer.iterations.numpy())] = results
  return expected


def _assert_events(log_dir, expected):
  events = events_of(log_dir)
  for number, tags in enumerate((events[step] for step in sorted(events)), 1):
    assert tags.pop("checkpoint")[()].decode().startswith(f"checkpoint-{number} ")
  assert events.keys() == expected.keys()
  for step, results in expected.items():
    assert events[step] == pytest.approx(results, rel=1e-6), step


def test_an_evaluator_follows_a_cluster_and_another_goes_on_after_it(tmp_path):
  (tmp_path / "configs").mkdir()
  config_path = tmp_path / "configs" / "run.py"
  config_path.write_text(CONFIG)
  logs = tmp_path / "logs"
  followed, killed = tmp_path / "followed", tmp_path / "killed"
  done = subprocess.run(
    [sys.executable, "-m", "tfps", "launch", "--workers=1", "--ps=1", "--evaluator",
     f"--log-dir={logs}", "--", *_train(tmp_path, followed)],
    env=jobs.environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
  assert "ended with" not in done.stderr
  log = (logs / "evaluator.log").read_text()
  assert log.endswith("Training has ended, and all of its checkpoints are evaluated.\n"), log
  expected = _expected(config_path, tmp_path / "checkpoints")
  assert len(expected) == 6
  _assert_events(followed, expected)

  # Two more evaluators of the same checkpoints, one that is killed and one that goes on.
  *_, (job, _, tf_config) = launch._tf_configs(1, 1, evaluator=True)
  assert job == "evaluator"
  env = jobs.environment(
    TF_CONFIG=json.dumps(tf_config), TFPS_CHIEF_LOST_SECONDS="1", PYTHONUNBUFFERED="1"
  )
  command = [sys.executable, "-m", "tfps", *_train(tmp_path, killed)]
  pipes = dict(env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
  with subprocess.Popen(command, **pipes) as first:
    line = next((line for line in first.stdout if line.startswith("checkpoint-2 ")), None)
    first.send_signal(signal.SIGKILL)
  assert line is not None
  second = subprocess.run(command, **pipes, timeout=PATIENCE, check=False)
  assert second.returncode == 0, second.stdout[-3000:]
  # What the first had evaluated by then is not evaluated again.
  evaluated = re.findall(r"^checkpoint-(\d) ", second.stdout, re.MULTILINE)
  assert len(evaluated) <= 4 and evaluated == list("123456")[6 - len(evaluated) :], second.stdout
  _assert_events(killed, expected)


# Chief and servers that need no TensorFlow, and an evaluator that would join the cluster.
PLAIN = """
import json, os, time, tfps
tf_config = json.loads(os.environ["TF_CONFIG"])
if tf_config["task"]["type"] == "evaluator":
  assert "evaluator" not in tf_config["cluster"]
  tfps.strategy()
time.sleep(3)
"""


def test_an_evaluator_that_fails_does_not_end_training(tmp_path):
  (tmp_path / "plain.py").write_text(PLAIN)
  done = subprocess.run(
    [sys.executable, "-m", "tfps", "launch", "--workers=1", "--ps=1", "--evaluator",
     f"--log-dir={tmp_path}", "--", str(tmp_path / "plain.py")],
    env=jobs.environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
  )  # fmt: skip
  assert done.returncode == 0
  assert f"evaluator ended with exit code 1; {tmp_path}/evaluator.log ends with:" in done.stderr
  last = '  tfps.errors.ConfigError: TF_CONFIG: task.type is "evaluator", which takes no part'
  assert done.stderr.count(f"\n{last}") == 1 and "Ending" not in done.stderr


def test_an_evaluator_needs_its_folders(tmp_path):
  *_, (_, _, tf_config) = launch._tf_configs(1, 1, evaluator=True)
  command = [sys.executable, "-m", "tfps", "train", f"--config={ROOT}/configs/quickstart.py"]
  done = subprocess.run(
    command, env=jobs.environment(TF_CONFIG=json.dumps(tf_config)), capture_output=True, text=True,
    timeout=PATIENCE, check=False,
  )  # fmt: skip
  assert done.returncode == 1
  assert done.stderr.startswith("tfps: error: config.checkpoint.folder is empty: the evaluator")
