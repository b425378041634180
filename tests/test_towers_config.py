"""Two towers from a config: what they find, and both served as the trainer has them."""

import json

import numpy as np
import pytest
import tensorflow as tf

import tfps
from tests.test_configs import ROOT
from tests.test_configs_learn import write_ratings
from tfps.cli import config as cli_config
from tfps.cli import main
from tfps.export import trained
from tfps.export.served.inputs import ModelInputs
from tfps.job import train as training
from tfps.layers.embedding import tables_of
from tfps.learning.recall import RecallScores

CONFIG = ROOT / "configs" / "movielens_towers.py"


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("ml-1m")
  write_ratings(folder)
  return folder


class Kept(tfps.callbacks.Callback):
  """The towers of a run."""

  def on_train_end(self, logs=None):
    self.towers = self.model.served_models()


def test_a_run_tests_recall_and_exports_both_towers(folder, tmp_path, monkeypatch, capsys):
  monkeypatch.setenv("HOME", str(folder))
  exports, checkpoints = tmp_path / "exports", tmp_path / "checkpoints"
  overrides = [
    f"--config.data.folder={folder}", "--config.batch_size=60", "--config.batches_per_ticket=4",
    "--config.dense_optimizer.learning_rate=0.01", "--config.model.args.hidden=(16,)",
    f"--config.export.folder={exports}", "--config.export.delta_every_examples=360",
    f"--config.checkpoint.folder={checkpoints}",
    f"--config.summary_file={tmp_path / 'summary.json'}",
  ]  # fmt: skip
  module, config = cli_config.load(str(CONFIG), overrides)
  source, kept = module.source(config), Kept()
  summary = training.run(
    config, source, cli_config.model_class(module, config),
    more_callbacks=lambda *given: [*module.callbacks(*given), kept],
  )  # fmt: skip
  # Of 30 movies 20 are liked, with much chance: the best ten are half of these.
  (_, first), *_, (day, last) = summary.days
  assert day.records == 1200 and 600 < last.clicks < 900
  assert list(last.recall) == [10, 50] and last.recall[50] == 1.0
  assert first.recall[10] < 0.05 and last.recall[10] > 0.4
  written = json.loads((tmp_path / "summary.json").read_text())
  assert written["total"] == {"clicks": summary.total.clicks, **_named(summary.total.recall)}
  assert "clicks   recall@10 0." in capsys.readouterr().out
  # The base of the last day, and deltas of the others.
  raws = source.raw_inputs
  assert {name: sorted(raw.specs) for name, raw in raws.items()} == {
    "user": ["age", "gender", "history", "occupation", "user_id", "zip"],
    "item": ["genres", "movie_id", "year"],
  }
  columns = {"user": raws["user"].sample(2, 64), "item": module.movies(config)}
  deltas = {name: sorted(path.name for path in (exports / name).glob("delta/*/*")) for name in raws}
  for name, tower in kept.towers.items():
    assert len(deltas["user"]) > 0 and deltas["user"] == deltas["item"]
    session = tfps.export.SavedModelSession(str(newest(exports / name / "base")))
    raw = {key: columns[name][key] for key in raws[name].specs}
    found = session.run(raw)["predictions"]
    session.close()
    tensors = {key: tf.constant(values) for key, values in raw.items()}
    features = ModelInputs(tower, raws[name]).from_raw(tensors)
    expected = trained.predict(tower, features, tables_of(tower))
    assert np.ptp(found) > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)
  # The same from a checkpoint.
  assert main.main([
    "export", str(checkpoints), f"--config={CONFIG}", *overrides, f"--output={tmp_path / 'again'}"
  ]) == 0  # fmt: skip
  session = tfps.export.SavedModelSession(str(tmp_path / "again" / "item" / "base" / "1"))
  assert (tmp_path / "again" / "user" / "base" / "1").is_dir()
  np.testing.assert_allclose(session.run(raw)["predictions"], expected, atol=1e-6, rtol=0)
  session.close()


def newest(folder):
  return max(folder.iterdir(), key=lambda path: int(path.name))


def _named(recall):
  return {f"recall@{k}": value for k, value in recall.items()}


def test_recall_is_counted_over_days():
  rng = np.random.default_rng(0)
  users, items, clicked = rng.normal(size=[9, 3]), rng.normal(size=[20, 3]), rng.integers(0, 20, 9)
  expected = tfps.evaluation.recall_at_k(users, clicked, items, [1, 5])
  total = RecallScores()
  for rows in (slice(0, 2), slice(2, 9)):
    scores = RecallScores()
    scores.update(users[rows], clicked[rows], items, [1, 5])
    total.merge(scores)
  assert total.recall == pytest.approx(expected) and total.clicks == 9
  # Another item than these is a click that nothing finds.
  total.update(users[:3], np.array([-1, -1, -1]), items, [1, 5])
  assert total.recall == pytest.approx({k: recall * 9 / 12 for k, recall in expected.items()})
  assert np.isnan(RecallScores().as_dict().get("recall@1", np.nan))


def test_raw_inputs_of_a_part_are_those_that_its_slots_are_made_of():
  specs = {
    "user": tf.TensorSpec([None], tf.string),
    "tags": tf.TensorSpec([None, None], tf.string),
    "item": tf.TensorSpec([None], tf.int64),
    "numbers": tf.TensorSpec([None, 3], tf.float32),
  }
  features = lambda raw: {
    "user": tfps.feasign("user", raw["user"]),
    "cross": tfps.feasign(
      "cross", tf.strings.join([raw["user"], tf.strings.as_string(raw["item"])])
    ),
    "tags": tfps.feasign("tags", raw["tags"], padding=""),
    "numbers": tf.math.log1p(raw["numbers"]),
  }
  raw = tfps.data.RawInputs(specs, features)
  values = {
    "user": tf.constant(["a", "b"]),
    "tags": tf.constant([["x", ""], ["y", "z"]]),
    "item": tf.constant([3, 4], tf.int64),
    "numbers": tf.ones([2, 3]),
  }
  for slots, needed in [
    (["user"], ["user"]), (["cross"], ["user", "item"]), (["tags"], ["tags"]),
    (["numbers", "user"], ["user", "numbers"]),
  ]:  # fmt: skip
    part = raw.of(slots)
    assert list(part.specs) == needed
    found = part.features({name: values[name] for name in needed})
    assert list(found) == slots
    for slot in slots:
      np.testing.assert_array_equal(found[slot], features(values)[slot])
  with pytest.raises(ValueError, match="slot 'users' is none of the raw inputs' user, cross"):
    raw.of(["users"])
