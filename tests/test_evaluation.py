"""The evaluator: what it measures, how it follows a run's checkpoints, and when it ends."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score
import tensorflow as tf
import tf_keras as keras
import tfps
from tfps.checkpoint import CheckpointError, CheckpointManager, ended
from tfps.checkpoint import folder as folder_lib
from tfps.cli import config as config_lib
from tfps.cli import launch
from tfps.cluster import liveness
from tfps.evaluation import Evaluator, ExampleScores, watch
from tfps.metrics import ClickScores
from tfps.training import run as training

from models.deepfm import DeepFM

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

def evaluation_source(config):  # large beside the training data, so that each checkpoint takes a while
  return tfps.data.ClickStream(days=1, examples_per_day=12_000, seed=7, batch_size=500)
"""


# What is measured.


def _naive_gauc(label, prediction, group):
  aucs, sizes = [], []
  for value in np.unique(group):
    own = group == value
    if 0 < label[own].sum() < own.sum():
      aucs.append(roc_auc_score(label[own], prediction[own]))
      sizes.append(own.sum())
  return np.average(aucs, weights=sizes)


def _scored(label, prediction, weight=None, **features):
  scored = {"y": label[:, None], "y_pred": prediction[:, None]}
  if weight is not None:
    scored["sample_weight"] = weight
  flat = {
    name: (np.array([v for row in rows for v in row]), np.array([len(row) for row in rows]))
    for name, rows in features.items()
  }
  as_tensors = {name: (tf.constant(v).numpy(), lengths) for name, (v, lengths) in flat.items()}
  return {**scored, "features": as_tensors}


def _examples(count=3000):
  random = np.random.default_rng(3)
  label = (random.random(count) < 0.3).astype(np.float32)
  prediction = np.clip(random.normal(0.3 + 0.2 * label, 0.2), 0, 1).astype(np.float32)
  genres = [list(random.choice(["", "a", "b", "c", "d"], 3)) for _ in range(count)]
  users = random.integers(1, 40, count)
  return label, prediction, random.random(count), genres, users


@pytest.mark.parametrize("hashed", [False, True])
def test_scores_of_groups_are_those_of_their_examples(hashed):
  label, prediction, weight, genres, users = _examples()
  values, all_users = genres, [[user] for user in users]
  if hashed:
    names = dict(zip("abcd", tfps.feasign("genres", list("abcd")).numpy()))
    values = [[names.get(genre, 0) for genre in row] for row in genres]
  else:
    all_users = [[f"user-{user}"] for user in users]
  scores = ExampleScores("user", ("genres", "genres=a", "genres=d"), most_values=2)
  assert scores.features == ("user", "genres")
  for at in np.array_split(np.arange(len(label)), 4):
    parts = dict(genres=[values[i] for i in at], user=[all_users[i] for i in at])
    scores.update(_scored(label[at], prediction[at], weight[at], **parts))
  results = scores.results()
  assert results.pop("gauc") == pytest.approx(_naive_gauc(label, prediction, users))
  has = {genre: np.array([genre in row for row in genres]) for genre in "abcd"}
  most = sorted("abcd", key=lambda genre: -has[genre].sum())[:2]
  assert len({int(has[genre].sum()) for genre in "abcd"}) == 4
  groups = {"": np.ones(len(label), bool)}
  for genre in sorted({"a", "d", *most}):
    name = str(names[genre]) if hashed and genre not in "ad" else genre
    groups[f"/genres={name}"] = has[genre]
  assert len(groups) > 3  # one that is only named, or only frequent
  expected = {}
  for suffix, at in groups.items():
    click = dict(sample_weight=weight[at])
    expected["auc" + suffix] = roc_auc_score(label[at], prediction[at], **click)
    clipped = np.clip(prediction[at].astype(float), 1e-7, 1 - 1e-7)
    expected["log_loss" + suffix] = log_loss(label[at], clipped, **click)
    mean = np.average(prediction[at], weights=weight[at])
    expected["calibration" + suffix] = mean / np.average(label[at], weights=weight[at])
  assert results == pytest.approx(expected, rel=1e-4)


def test_nothing_is_said_of_what_is_undefined():
  scores = ExampleScores("user", ("user",))
  scores.update(_scored(np.zeros(2, np.float32), np.full(2, 0.5, np.float32), user=[[7], [0]]))
  assert scores.results() == pytest.approx({"log_loss": np.log(2), "log_loss/user=7": np.log(2)})
  scores = ExampleScores("tags")
  scores.update(_scored(np.zeros(2, np.float32), np.full(2, 0.5, np.float32), tags=[[7, 8], [7]]))
  with pytest.raises(ValueError, match="gauc_slot is 'tags', of which an example has several"):
    scores.results()


# The loop, in this process.


class Run:
  def __init__(self):
    keras.utils.set_random_seed(1)
    accessor = tfps.CtrAccessor(create_threshold=1)
    self.table = tfps.FeasignTable("test", mf_dim=2, accessor=accessor, num_shards=8)
    self.model = DeepFM(self.table, ["user_id", "tags"], hidden=[4])
    self.model.compile("adam", "binary_crossentropy")
    self.source = tfps.data.ClickStream(
      days=2, examples_per_day=600, batch_size=100, batches_per_ticket=2
    )

  def evaluator(self, folder, log_dir, **settings):
    settings = {"gauc_slot": "user_id", **settings}
    return Evaluator(str(folder), self.model, [self.table], self.source, str(log_dir), **settings)


@pytest.fixture(name="run", scope="module")
def _run():
  return Run()


@pytest.fixture(name="saved", scope="module")
def _saved(run, tmp_path_factory):
  """Checkpoints 1 to 4 of a run of 12 steps, which has ended."""
  folder = tmp_path_factory.mktemp("saved")
  saver = tfps.callbacks.Checkpoint(folder, every_tickets=2, keep=9)
  run.model.fit(run.source, callbacks=[saver], verbose=0)
  return folder


def _events(folder):
  """{step: {tag: value}} of event files; fails if anything is there twice."""
  steps = {}
  for path in pathlib.Path(folder).glob("events*"):
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
      event = tf.compat.v1.Event.FromString(record)
      for value in event.summary.value:
        tags = steps.setdefault(event.step, {})
        assert value.tag not in tags, f"{value.tag} is there twice at step {event.step}"
        tags[value.tag] = tf.make_ndarray(value.tensor)
  return steps


def test_every_checkpoint_once_also_after_a_restart(run, saved, tmp_path, capsys):
  folder, log_dir = tmp_path / "run", tmp_path / "log"
  shutil.copytree(saved, folder)
  shutil.move(folder / "checkpoint-4", tmp_path)
  (folder / "writing-checkpoint-5").mkdir()
  first = run.evaluator(folder, log_dir)
  assert first.evaluate_next().endswith("checkpoint-1")
  assert first.evaluate_next().endswith("checkpoint-2")
  shutil.copy(next(log_dir.glob("events*")), log_dir / "events.out.tfevents.9.torn")
  torn = log_dir / "events.out.tfevents.9.torn"
  torn.write_bytes(torn.read_bytes()[:-3])  # Its last record is not whole: checkpoint-2.
  next(path for path in log_dir.glob("events*") if path != torn).unlink()
  again = run.evaluator(folder, log_dir)
  assert again.evaluate_next().endswith("checkpoint-2")
  assert again.evaluate_next().endswith("checkpoint-3")
  assert again.evaluate_next() is None
  shutil.move(tmp_path / "checkpoint-4", folder)
  assert run.evaluator(folder, log_dir).follow(lambda: "over", poll_seconds=0) == "over"
  lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("checkpoint-")]
  assert re.fullmatch(
    r"checkpoint-4 \(step 12, day-1 has ended\): AUC 0\.\d+, GAUC 0\.\d+, log loss 0\.\d+, "
    r"calibration \d\.\d+ \[\d+\.\d s\]",
    lines[-1],
  )
  assert "1 more to evaluate" in lines[1] and len(lines) == 5
  # It does not clean up, as the run's own manager would.
  assert (folder / "writing-checkpoint-5").exists()


def test_the_newest_only(run, saved, tmp_path):
  evaluator = run.evaluator(saved, tmp_path, checkpoints="newest", gauc_slot="")
  assert evaluator.evaluate_next().endswith("checkpoint-4")
  assert evaluator.evaluate_next() is None
  assert list(_events(tmp_path)) == [12]


def test_another_run_in_the_same_folder_is_evaluated_too(run, saved, tmp_path):
  folder = tmp_path / "run"
  manager = CheckpointManager(folder, run.model, [run.table])
  manager.restore(f"{saved}/checkpoint-1")
  calendar = dict(epoch=0, day=0, day_name="day-0")
  for tickets in (1, 2):
    shutil.rmtree(folder, ignore_errors=True)
    assert manager.save({**calendar, "tickets": tickets}).endswith("checkpoint-1")
    assert run.evaluator(folder, tmp_path / "log").evaluate_next().endswith("checkpoint-1")


def test_a_checkpoint_may_go_while_it_is_read(run, saved, tmp_path, capsys):
  folder = tmp_path / "run"
  shutil.copytree(saved, folder)
  evaluator = run.evaluator(folder, tmp_path / "log")

  class Removed(CheckpointManager):
    """Restores when the run's own manager has just begun to remove what is read."""

    def restore(self, path=None):
      if path.endswith("checkpoint-1"):
        shutil.move(path, folder / "removing-checkpoint-1")
      return super().restore(path)

  evaluator._manager = Removed(folder, run.model, [run.table], read_only=True)
  assert evaluator.evaluate_next().endswith("checkpoint-1")
  assert "checkpoint-1 was removed while it was read; going on" in capsys.readouterr().out
  assert evaluator.evaluate_next().endswith("checkpoint-2")
  next(folder.glob("checkpoint-3/test/*.data*")).unlink()
  with pytest.raises(CheckpointError, match="checkpoint-3 is damaged: .* is missing"):
    evaluator.evaluate_next()


def test_so_many_examples_evenly_spread(run, saved, tmp_path):
  scored = []
  evaluator = run.evaluator(saved, tmp_path, max_examples=700)
  score = run.model.score
  run.model.score = lambda source, tickets, features: scored.extend(tickets) or score(
    source, tickets, features
  )
  try:
    evaluator.evaluate_next()
  finally:
    del run.model.score
  assert [(ticket.day, ticket.begin) for ticket in scored] == [(0, 0), (0, 400), (1, 200)]


@pytest.mark.parametrize(
  "setting, message",
  [
    ({"gauc_slot": "userid"}, "no feature 'userid' .did you mean 'user_id'"),
    ({"slots": ("tags", "gender=F")}, "no feature 'gender'"),
    ({"checkpoints": "all"}, "checkpoints must be one of"),
    ({"most_values": 0}, "most_values must be 1 or more"),
    ({"max_examples": -1}, "max_examples must be 0 or more"),
  ],
)
def test_wrong_settings(run, tmp_path, setting, message):
  with pytest.raises(ValueError, match=message):
    run.evaluator(tmp_path, tmp_path, **setting)


# When it ends.


def test_training_is_over_when_its_mark_is_there_and_its_chief_gone(monkeypatch, tmp_path):
  monkeypatch.setattr(liveness, "PROBE_SECONDS", 0.01)
  monkeypatch.setattr(watch, "_GONE_SECONDS", 0.2)
  ended.mark(str(tmp_path))
  server = socket.create_server(("127.0.0.1", 0))
  address = "127.0.0.1:{}".format(server.getsockname()[1])

  def poll(seconds):
    deadline = time.monotonic() + seconds
    while (told := training_watch.poll()) is None and time.monotonic() < deadline:
      time.sleep(0.02)
    return told

  training_watch = watch.TrainingWatch(str(tmp_path), liveness.ChiefWatch(address, 0.6))
  with server:
    assert poll(0.8) is None  # An old mark: the chief is just starting.
    ended.clear(str(tmp_path))
  assert poll(0.4) is None  # It may be started again.
  assert f"The chief at {address} is lost" in poll(1.0)
  ended.mark(str(tmp_path))
  assert poll(0.1) == watch.ENDED
  # An evaluator that is started when all is over gives a chief some time to appear.
  training_watch = watch.TrainingWatch(str(tmp_path), liveness.ChiefWatch(address, 0.6))
  assert poll(0.4) is None
  assert poll(1.0) == watch.ENDED


def test_only_an_end_in_order_leaves_the_mark(run, tmp_path):
  ended.mark(str(tmp_path))

  class Crash(keras.callbacks.Callback):
    def on_day_end(self, day, logs=None):
      assert not ended.is_marked(str(tmp_path))
      raise KeyError

  with pytest.raises(KeyError):
    run.model.fit(run.source, callbacks=[tfps.callbacks.Checkpoint(tmp_path), Crash()], verbose=0)
  assert not ended.is_marked(str(tmp_path))


# Real processes.


def _environment(**more):
  env = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
  env["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
  return {**env, **more}


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
  for number in folder_lib.numbers(manager.folder):
    manager.restore(folder_lib.path_of(manager.folder, number))
    prediction = np.concatenate([predict(batch).numpy().ravel() for batch, _ in data])
    results = {"gauc": _naive_gauc(label, prediction, x["city"])}
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
  events = _events(log_dir)
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
    env=_environment(), capture_output=True, text=True, timeout=200, check=False,
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
  env = _environment(
    TF_CONFIG=json.dumps(tf_config), TFPS_CHIEF_LOST_SECONDS="1", PYTHONUNBUFFERED="1"
  )
  command = [sys.executable, "-m", "tfps", *_train(tmp_path, killed)]
  pipes = dict(env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
  with subprocess.Popen(command, **pipes) as first:
    line = next((line for line in first.stdout if line.startswith("checkpoint-2 ")), None)
    first.send_signal(signal.SIGKILL)
  assert line is not None
  second = subprocess.run(command, **pipes, timeout=100, check=False)
  assert second.returncode == 0, second.stdout[-3000:]
  evaluated = re.findall(r"^checkpoint-(\d) ", second.stdout, re.MULTILINE)
  assert evaluated in (list("3456"), list("456")), second.stdout
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
    env=_environment(), capture_output=True, text=True, timeout=60, check=False,
  )  # fmt: skip
  assert done.returncode == 0
  assert f"evaluator ended with exit code 1; {tmp_path}/evaluator.log ends with:" in done.stderr
  last = (
    '  tfps.cluster.tf_config.ConfigError: TF_CONFIG: task.type is "evaluator", which takes no part'
  )
  assert done.stderr.count(f"\n{last}") == 1 and "Ending" not in done.stderr


def test_an_evaluator_needs_its_folders(tmp_path):
  *_, (_, _, tf_config) = launch._tf_configs(1, 1, evaluator=True)
  command = [sys.executable, "-m", "tfps", "train", f"--config={ROOT}/configs/quickstart.py"]
  done = subprocess.run(
    command, env=_environment(TF_CONFIG=json.dumps(tf_config)), capture_output=True, text=True,
    timeout=60, check=False,
  )  # fmt: skip
  assert done.returncode == 1
  assert done.stderr.startswith("tfps: error: config.checkpoint.folder is empty: the evaluator")
