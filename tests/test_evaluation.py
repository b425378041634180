"""The evaluator: what it measures, how it follows a run's checkpoints, and when it ends."""

import re
import shutil
import socket

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from sklearn.metrics import log_loss, roc_auc_score

import tfps
from models.deepfm import DeepFM
from tests.evaluations import events_of, naive_gauc
from tests.patience import Clock
from tfps.checkpoint import CheckpointError, CheckpointManager, ended
from tfps.cluster import liveness
from tfps.evaluation import Evaluator, ExampleScores, watch

# What is measured.


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
  assert results.pop("gauc") == pytest.approx(naive_gauc(label, prediction, users))
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
  assert list(events_of(tmp_path)) == [12]


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
  run.model.score = lambda source, tickets, features: (
    scored.extend(tickets) or score(source, tickets, features)
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
  clock = Clock()
  monkeypatch.setattr(liveness, "time", clock)
  ended.mark(str(tmp_path))
  server = socket.create_server(("127.0.0.1", 0))
  address = f"127.0.0.1:{server.getsockname()[1]}"

  def poll(seconds):
    end = clock.monotonic() + seconds
    while (told := training_watch.poll()) is None and clock.monotonic() < end:
      clock.sleep(1)
    return told

  training_watch = watch.TrainingWatch(str(tmp_path), liveness.ChiefWatch(address, 30))
  with server:
    assert poll(40) is None  # An old mark: the chief is just starting.
    ended.clear(str(tmp_path))
  assert poll(20) is None  # It may be started again.
  assert f"The chief at {address} is lost" in poll(50)
  ended.mark(str(tmp_path))
  assert poll(5) == watch.ENDED
  # An evaluator that is started when all is over gives a chief some time to appear.
  training_watch = watch.TrainingWatch(str(tmp_path), liveness.ChiefWatch(address, 30))
  assert poll(20) is None
  assert poll(50) == watch.ENDED


def test_only_an_end_in_order_leaves_the_mark(run, tmp_path):
  ended.mark(str(tmp_path))

  class Crash(keras.callbacks.Callback):
    def on_day_end(self, day, logs=None):
      assert not ended.is_marked(str(tmp_path))
      raise KeyError

  with pytest.raises(KeyError):
    run.model.fit(run.source, callbacks=[tfps.callbacks.Checkpoint(tmp_path), Crash()], verbose=0)
  assert not ended.is_marked(str(tmp_path))
