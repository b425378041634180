"""Models of several tasks: what a config says of each output, and what is reported of each."""

import json
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from sklearn.metrics import log_loss, roc_auc_score

import tfps
from tests.evaluations import events_of, naive_gauc
from tfps.cli import config as config_lib
from tfps.cli import main
from tfps.errors import ConfigError
from tfps.evaluation import Evaluator, ExampleScores
from tfps.job import outputs as outputs_lib
from tfps.job import train as training
from tfps.learning.outputs import ONLY, Output, labelled, names_of

CONFIG = """
import beside
import tfps
from tfps.training.config import default_config


def get_config():
  config = default_config()
  config.model.file = ""
  config.model.name = "make_model"
  config.slots = ("user_id", "category")
  config.data = {"days": 2, "examples_per_day": 1200}
  config.batch_size = 100
  config.batches_per_ticket = 4
  config.loss = {"ctr": "binary_crossentropy", "ctcvr": "binary_crossentropy"}
  config.loss_weights = {"ctr": 1.0, "ctcvr": 0.5}
  config.metrics = {"ctr": ("AUC",), "ctcvr": ("AUC", "mse")}
  config.click_label = "ctr"
  config.accessor.create_threshold = 1.0
  config.evaluation.gauc_slot = "category"
  config.evaluation.slots = ("device=1",)
  return config


def source(config):
  from lazily import LABELS
  return tfps.data.ClickStream(
    days=config.data.days, examples_per_day=config.data.examples_per_day,
    batch_size=config.batch_size, batches_per_ticket=config.batches_per_ticket, labels=LABELS,
  )


def make_model(table, slots, width=2):
  return beside.Esmm(table, slots, width)
"""

BESIDE = """
import tensorflow as tf
import tf_keras as keras
import tfps


class Esmm(tfps.Model):
  def __init__(self, table, slots, width):
    super().__init__()
    self.embedding = tfps.Embedding(table, slots)
    self.ctr, self.cvr = (keras.layers.Dense(1, "sigmoid") for _ in range(2))
    self.flatten = keras.layers.Flatten()

  def call(self, x, training=None):
    embedded = self.embedding(x, training=training)
    deep = tf.concat([self.flatten(embedded.mf), embedded.lr], axis=1)
    ctr, cvr = self.ctr(deep), self.cvr(deep)
    return {"ctr": ctr, "ctcvr": ctr * cvr, "cvr": cvr}
"""


@pytest.fixture(name="path", scope="module")
def _path(tmp_path_factory):
  folder = tmp_path_factory.mktemp("tasks") / "configs"
  folder.mkdir()
  (folder / "beside.py").write_text(BESIDE)
  (folder / "lazily.py").write_text('LABELS = ("ctr", "ctcvr")\n')
  (folder / "two.py").write_text(CONFIG)
  return folder / "two.py"


class Run:
  """What `path` describes, built here."""

  def __init__(self, path, *overrides):
    self.module, self.config = config_lib.load(str(path), overrides)
    self.source = config_lib.function(self.module, "source")(self.config)
    model_class = config_lib.model_class(self.module, self.config)
    self.table, self.model = training.build(self.config, model_class, tf.distribute.get_strategy())

  def check(self, source=None):
    outputs_lib.check(self.config, self.model, source or self.source)


def arrays_of(source):
  """(x, y) of all examples: dicts of arrays."""
  batches = [batch for ticket in source.tickets() for batch in source.open(ticket)]
  join = lambda *parts: np.concatenate([part.numpy() for part in parts])
  return tf.nest.map_structure(join, *batches)


# What belongs to which output.

ARRAYS = [np.full([2, 1], i, np.float32) for i in range(6)]
A, B, C, D, E, F = ARRAYS


@pytest.mark.parametrize(
  "y, y_pred, weight, names, expected",
  [
    (A, B, None, None, {ONLY: (A, B, None)}),
    (A, B, C, None, {ONLY: (A, B, C)}),
    ({"x": A}, B, {"x": C}, None, {ONLY: (A, B, C)}),
    ({"a": A, "b": B}, {"b": D, "a": C}, {"b": E}, None, {"b": (B, D, E), "a": (A, C, None)}),
    ({"a": A}, {"b": D, "a": C}, None, None, {"a": (A, C, None)}),
    ([A, B], [C, D], [E, F], None, {"output_1": (A, C, E), "output_2": (B, D, F)}),
    ({"v": A, "u": B}, [C, D], None, ["u", "v"], {"u": (B, C, None), "v": (A, D, None)}),
    ([A], [C, D], None, ["u", "v"], {"u": (A, C, None)}),
    (A, {"b": D, "a": C}, E, None, {"b": (A, D, E), "a": (A, C, E)}),
    (None, {"b": D, "a": C}, None, None, {}),
  ],
)
def test_labels_and_weights_belong_to_outputs_as_in_keras(y, y_pred, weight, names, expected):
  scored = {"y": y, "y_pred": y_pred, "sample_weight": weight}
  found = labelled({name: part for name, part in scored.items() if part is not None}, names)
  assert list(found) == list(expected)
  for name, output in found.items():
    assert isinstance(output, Output)
    assert all(one is other for one, other in zip(output, expected[name]))
  assert set(found) <= set(names_of(y_pred, names))


# A run.


def expected_of(label, prediction):
  return {
    "auc": roc_auc_score(label, prediction),
    "log_loss": log_loss(label, prediction.astype(float)),
    "calibration": prediction.mean(dtype=float) / label.mean(),
  }


def test_a_run_reports_each_output(path, tmp_path, capsys):
  summary = tmp_path / "summary.json"
  code = main.main([
    "train", f"--config={path}", f"--config.summary_file={summary}",
    f"--config.checkpoint.folder={tmp_path / 'checkpoints'}", "--config.loss_weights.ctcvr=0.25",
  ])  # fmt: skip
  assert code == 0
  told = json.loads(summary.read_text())
  run = Run(path)
  # Two slots with a value each; the end of a day has taken a part of the first day's.
  assert 0 < told["table"]["click"] < 2 * arrays_of(run.source)[1]["ctr"].sum()
  # The first day is tested by a model that has learnt nothing: here it is made again.
  _, y = arrays_of(run.source.day(0))
  predicted = run.model.predict(run.source.day(0), verbose=0)
  day = told["days"]["day-0"]
  assert day["examples"] == 1200 and list(day["outputs"]) == ["ctr", "ctcvr"]
  for output in ("ctr", "ctcvr"):
    assert day["outputs"][output] == pytest.approx(
      expected_of(y[output], predicted[output]), rel=1e-3
    )
  assert told["total"]["outputs"]["ctr"]["auc"] != told["total"]["outputs"]["ctcvr"]["auc"]
  lines = capsys.readouterr().out.splitlines()
  (at,) = [i for i, line in enumerate(lines) if line.startswith("  day-0")]
  for line, (output, scores) in zip(lines[at:], day["outputs"].items()):
    assert f"   {output:<5}   AUC {scores['auc']:.4f}   log loss {scores['log_loss']:.4f}" in line
  assert lines[at + 1].startswith(" " * 40) and lines[at].index("AUC") == lines[at + 1].index("AUC")

  # Its last checkpoint, by an evaluator.
  evaluation = {**run.config.evaluation, "outputs": run.config.scored_outputs}
  settings = {name: evaluation[name] for name in ("gauc_slot", "slots", "outputs")}
  evaluator = Evaluator(
    str(tmp_path / "checkpoints"), run.model, [run.table], run.source, str(tmp_path / "log"),
    checkpoints="newest", **settings,
  )  # fmt: skip
  assert evaluator.evaluate_next()
  line = capsys.readouterr().out.splitlines()[-1]
  (tags,) = events_of(tmp_path / "log").values()
  predicted = run.model.predict(run.source, verbose=0)
  x, y = arrays_of(run.source)
  first = x["device"] == int(tfps.feasign("device", np.int64(1)))
  for output in ("ctr", "ctcvr"):
    label, prediction = (part[output].ravel() for part in (y, predicted))
    expected = expected_of(label, prediction)
    expected["gauc"] = naive_gauc(label, prediction, x["category"])
    of_first = expected_of(label[first], prediction[first])
    expected |= {f"{metric}/device=1": value for metric, value in of_first.items()}
    found = {tag: tags[f"{output}/{tag}"] for tag in expected}
    assert found == pytest.approx(expected, rel=1e-3)
    assert f"{output} AUC {found['auc']:.4f}, GAUC {found['gauc']:.4f}, log loss" in line
  assert not [tag for tag in tags if tag.startswith("cvr")]


def test_a_config_compiles_as_keras_does(path):
  """Losses, weights and metrics: the model compiled by hand, evaluated on arrays."""
  run = Run(path)
  run.check()
  run.model.fit(run.source, verbose=0)
  found = run.model.evaluate(run.source, verbose=0, return_dict=True)
  run.model.compile(
    "adam",
    {"ctr": "binary_crossentropy", "ctcvr": "binary_crossentropy"},
    loss_weights={"ctr": 1.0, "ctcvr": 0.5},
    metrics={"ctr": ["AUC"], "ctcvr": [keras.metrics.AUC(name="auc_of_second"), "mse"]},
  )
  arrays = arrays_of(run.source)
  expected = run.model.evaluate(*arrays, batch_size=100, verbose=0, return_dict=True)
  # Keras numbers metrics of one name.
  plain = lambda logs: sorted((re.sub("_auc.*", "_auc", name), logs[name]) for name in logs)
  names, other_names = ([name for name, _ in plain(logs)] for logs in (found, expected))
  assert names == other_names and len(names) == 6
  for (_, one), (_, other) in zip(plain(found), plain(expected)):
    assert one == pytest.approx(other, rel=1e-5)


def test_the_click_label_of_a_config_is_what_rows_count(path):
  run = Run(path, "--config.click_label=ctcvr")
  run.check()
  run.model.fit(run.source, verbose=0)
  _, y = arrays_of(run.source)
  assert run.table.statistics()["click"] == 2 * y["ctcvr"].sum() < 2 * y["ctr"].sum()


def test_examples_without_a_label_weigh_nothing():
  """A label of one output is missing in some examples: its weight is 0 there."""
  rng = np.random.default_rng(0)
  label, prediction, other = (rng.random([500, 1]) for _ in range(3))
  label, user = (label < 0.4).astype(np.float32), rng.integers(0, 9, 500)
  there = rng.random(500) < 0.5
  scores = ExampleScores("user", output_names=["a", "b"])
  scores.update({
    "y": [label, np.where(there[:, None], label, 7)],
    "y_pred": [prediction, other],
    "sample_weight": [np.ones(500), there.astype(np.float32)],
    "features": {"user": (user + 1, np.ones(500, np.int64))},
  })  # fmt: skip
  results = scores.results()
  assert results["a/gauc"] == pytest.approx(naive_gauc(label[:, 0], prediction[:, 0], user))
  masked = label[there, 0], other[there, 0]
  assert results["b/gauc"] == pytest.approx(naive_gauc(*masked, user[there]))
  assert results["b/auc"] == pytest.approx(roc_auc_score(*masked), abs=1e-3)


def test_an_output_that_is_no_probability_is_left_out():
  class Dwell(tfps.Model):
    def __init__(self):
      super().__init__()
      table = tfps.FeasignTable("test", mf_dim=2)
      self.embedding = tfps.Embedding(table, ["user_id"])

    def call(self, x, training=None):
      logit = self.embedding(x, training=training).lr_logit
      return {"click": tf.sigmoid(logit), "dwell": 30 + logit}

  source = tfps.data.ClickStream(days=1, examples_per_day=64, labels=("click", "dwell"))
  model = Dwell()
  model.compile("adam", {"click": "binary_crossentropy", "dwell": "mse"})
  with pytest.raises(
    ValueError, match="output 'dwell': a prediction is NaN or not in .* in a prob"
  ):
    model.fit(source, callbacks=[tfps.callbacks.ProgressiveTest(source)], verbose=0)
  test = tfps.callbacks.ProgressiveTest(source, outputs=["click"])
  model.fit(source, callbacks=[test], verbose=0)
  assert list(test.total) == ["click"] == list(test.days[0][1])
  test = tfps.callbacks.ProgressiveTest(source, outputs=["clicks"])
  with pytest.raises(ValueError, match="no output 'clicks' .did you mean 'click'"):
    model.fit(source, callbacks=[test], verbose=0)


# What does not fit is said when the run begins.


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(loss={"ctrr": "mse"}), "config.loss names 'ctrr', but the model's outputs are ctr,"),
    (dict(loss={"cvr": "mse"}), "config.loss has a loss for output 'cvr', .* its labels are ctr"),
    (dict(loss={"ctr": "mess"}), "config.loss.ctr is 'mess', which is no loss of Keras"),
    (dict(loss="mess"), "config.loss is 'mess', which is no loss of Keras"),
    (dict(loss=3), "config.loss is 3; it must be the name of a loss"),
    (dict(loss_weights={"ctvr": 1.0}), "config.loss_weights names 'ctvr'.*did you mean"),
    (dict(metrics={"auc": ("AUC",)}), "config.metrics names 'auc', but the model's outputs are"),
    (dict(metrics=3), "config.metrics is 3; it must be a tuple"),
    (dict(click_label="click"), "config.click_label is 'click', but the source's labels are ctr, "),
    (dict(scored_outputs=("click",)), "config.scored_outputs names 'click'"),
  ],
)
def test_a_config_that_does_not_fit_ends_in_one_sentence(path, change, message, monkeypatch):
  module, config = config_lib.load(str(path))
  with config.unlocked():
    for field, value in change.items():
      del config[field]
      config[field] = value
  monkeypatch.setattr(config_lib, "load", lambda *_: (module, config))
  with pytest.raises(ConfigError, match=message) as raised:
    Run(path).check()
  assert "\n" not in str(raised.value)


def test_labels_that_fit_no_output_and_outputs_without_names(path):
  run = Run(path)
  labels = dict(days=1, examples_per_day=100)
  with pytest.raises(ConfigError, match="the source has a label 'buy', but the model's outputs"):
    run.check(tfps.data.ClickStream(labels=("ctr", "buy"), **labels))
  single = Run(pathlib.Path(__file__).resolve().parents[1] / "configs" / "quickstart.py")
  single.check()
  with single.config.unlocked():
    single.config.loss_weights = {"ctr": 1.0}
  with pytest.raises(
    ConfigError, match="config.loss_weights names output 'ctr', but the model has"
  ):
    single.check()
  outputs_lib.set_click_label(single.model, "1")
  with single.config.unlocked():
    single.config.click_label = "1"
  with pytest.raises(ConfigError, match="give a position below 1"):
    single.check()


# Labels of the simulator.


def test_conversions_follow_clicks_and_change_nothing_else():
  settings = dict(days=2, examples_per_day=3000, seed=5)
  x, click = arrays_of(tfps.data.ClickStream(**settings))
  other, y = arrays_of(tfps.data.ClickStream(labels=("click", "buy"), **settings))
  tf.nest.map_structure(np.testing.assert_array_equal, x, other)
  np.testing.assert_array_equal(y["click"], click)
  assert set(np.unique(y["buy"])) == {0, 1} and not np.any(y["buy"] > click)
  assert 0.15 < y["buy"].sum() / click.sum() < 0.4
  _, named = arrays_of(tfps.data.ClickStream(labels=("click",), **settings))
  assert list(named) == ["click"]
  categories = [y["buy"][(x["category"] == one) & (click[:, 0] == 1)].mean()
                for one in np.unique(x["category"][click[:, 0] == 1])]  # fmt: skip
  assert np.std(categories) > 0.1
  with pytest.raises(ValueError, match="labels is 'click'; give the name of the click"):
    tfps.data.ClickStream(labels="click")
