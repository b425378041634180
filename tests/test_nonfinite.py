"""Ways to get a step that is not finite: each changes nothing, is told, and no file holds it."""

import contextlib
import io
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tests import exports
from tests.nonfinite import (
  BATCH,
  BATCHES,
  FIELDS,
  OF_DATA,
  PLACES,
  RAW,
  Files,
  Tower,
  check_checkpoints,
  compiled,
  counts,
  lines,
  parse,
  saved_in,
  source_of,
  state,
)
from tfps.checkpoint import CheckpointManager
from tfps.cli import main
from tfps.errors import NonfiniteError
from tfps.graph import finite
from tfps.layers.step import Step

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(name="days", scope="module")
def _days(tmp_path_factory):
  """{way: (files of its day, the spoilt line)}, and of what is left without the spoilt batch."""
  folder, whole, without = tmp_path_factory.mktemp("days"), {}, {}
  for number, (way, spoilt) in enumerate(OF_DATA.items()):
    place = PLACES[number % len(PLACES)]
    text = lines(number, {place: spoilt})
    first = place // BATCH * BATCH
    for kept, days in ((text, whole), (text[:first] + text[first + BATCH :], without)):
      path = folder / f"{number}-{len(kept)}.txt"
      path.write_text("\n".join(kept) + "\n")
      days[way] = str(path)
  return whole, without


@pytest.fixture(name="trained", scope="module")
def _trained(days, tmp_path_factory):
  """What each way leaves of one model, and what the good batches alone leave of another."""
  folder = tmp_path_factory.mktemp("checkpoints")
  left = []
  for files in days:
    model, source = compiled(), source_of(files)
    saver = tfps.callbacks.Checkpoint(str(folder / str(len(left))))
    skipped = tfps.callbacks.SkippedRecords()
    model.build_for(source)
    exported = Files(folder / "files", model) if not left else None
    left.append({})
    for way in OF_DATA:
      told = io.StringIO()
      with contextlib.redirect_stderr(told):
        callbacks = [saver, skipped]
        history = model.fit(source.day(way), callbacks=callbacks, verbose=0)
      check_checkpoints(folder / str(len(left) - 1))
      if exported is not None:
        exported.write()
      left[-1][way] = (
        state(model), counts(model), told.getvalue(), history.history, skipped.nonfinite_steps
      )  # fmt: skip
  return left


@pytest.mark.parametrize("way", OF_DATA)
def test_a_spoilt_batch_only_counts(days, trained, way):
  (after, counted, told, logs, steps), (expected, _, nothing, expected_logs, _) = (
    found[way] for found in trained
  )
  for one, other in zip(after, expected, strict=True):
    np.testing.assert_array_equal(one, other)
    assert np.isfinite(one).all()
  assert logs.keys() == expected_logs.keys()
  for name, values in logs.items():
    np.testing.assert_allclose(values, expected_logs[name], rtol=1e-6)
  number = list(OF_DATA).index(way)
  assert nothing == "" and steps == 1
  place = PLACES[number % len(PLACES)]
  assert told.startswith("tfps: a step was not finite and changed no weight; the first was that")
  if np.isfinite(float(OF_DATA[way][1])):  # Then the batch's first record stands for it.
    place -= place % BATCH
  assert f"{days[0][way]}, line {place + 1} (byte" in told and told.count("\n") == 1
  assert np.isfinite(counted).all()


@pytest.mark.parametrize("way", ["arrays", "arrays, eagerly", "a source", "a source, eagerly"])
def test_terminate_on_nan_ends_training_after_the_step(days, way):
  model, seen = compiled(run_eagerly="eagerly" in way), []
  source = source_of(days[0]["NaN feature"], batches_per_ticket=1)
  callbacks = [
    keras.callbacks.TerminateOnNaN(),
    keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: seen.append(logs["loss"])),
  ]
  x = parse(lines(0, {PLACES[1]: OF_DATA["NaN feature"]}))
  x = tf.data.Dataset.from_tensor_slices(x).batch(BATCH) if "arrays" in way else source
  history = model.fit(x, epochs=3, verbose=0, callbacks=callbacks)
  spoilt = PLACES[1 if "arrays" in way else 0] // BATCH
  assert len(seen) == spoilt + 1 and history.epoch == [0]
  assert np.isnan(seen[spoilt]) and np.isfinite(seen[:spoilt]).all()
  assert all(np.isfinite(one).all() for one in state(model))


def test_its_shows_and_clicks_count(days, trained):
  """Good records add show and click, a spoilt label its show only, a spoilt weight nothing."""
  expected = np.zeros([12, 2])
  for way, path in days[0].items():
    for line in pathlib.Path(path).read_text().split("\n")[:-1]:
      values = dict(zip(FIELDS, line.split(" ")))
      user, weight, label = (
        int(values["user"][1:]), float(values["weight"]), float(values["label"])
      )  # fmt: skip
      if np.isfinite(weight):
        click = np.float32(weight) * np.float32(label)
        expected[user] += [weight, click if np.isfinite(click) else 0]
    np.testing.assert_allclose(trained[0][way][1], expected, rtol=1e-6)


def test_show_and_click_of_an_example_that_are_not_finite_enter_no_counts():
  model = compiled(loss="mse")
  x = {
    "user": tfps.feasign("user", np.arange(4)), "feature": np.ones(4, np.float32),
    "id_weight": np.ones(4, np.float32),
    "counts/show": np.float32([1, np.nan, 2, np.inf]),
    "counts/click": np.float32([np.nan, 1, 1, 0]),
  }  # fmt: skip
  model.train_on_batch(x, np.ones([4, 1]))
  rows = model.embedding.table.lookup(tfps.feasign("user", np.arange(4)))
  np.testing.assert_array_equal(rows["statistics"][:, :2], [[1, 0], [0, 0], [2, 1], [0, 0]])
  assert model.optimizer.iterations == 1
  assert model.embedding.table.statistics()["nonfinite_counts"] == 3


@pytest.mark.parametrize("dtype", [tf.float32, tf.float16, tf.bfloat16, tf.float64])
def test_what_is_finite_in_each_dtype(dtype):
  largest, smallest = dtype.max, np.finfo(np.float16).tiny
  for length in (0, 1, 7, 8, 21):
    values = np.resize([largest, -largest, smallest, 0.0], length).astype(dtype.as_numpy_dtype)
    assert finite.all_finite([values, None, tf.constant([1])])
    for place in range(length):
      for bad in (np.nan, np.inf, -np.inf):
        spoilt = values.copy()
        spoilt[place] = bad
        assert not finite.all_finite([values, tf.IndexedSlices(spoilt, tf.range(length))])


def test_tfps_train_ends_with_an_exit_code(tmp_path, capsys):
  arguments = ["train", f"--config={ROOT / 'configs' / 'quickstart.py'}"]
  arguments += ["--config.data.days=1", "--config.data.examples_per_day=600"]
  # The first step leaves weights that float32 has no number for, all others are not finite.
  arguments += ["--config.dense_optimizer.name=sgd", "--config.dense_optimizer.learning_rate=1e39"]
  arguments += ["--config.batch_size=100", "--config.max_nonfinite_steps=3"]
  assert main.main(arguments) == 1
  told = capsys.readouterr().err
  assert re.search(r"tfps: error: the loss or a gradient of \d steps was not finite, as many", told)


class OfModel(Tower):
  """Spoils where x has a "bad" that is 1, in a way that it is told."""

  def __init__(self, table, way):
    super().__init__(table)
    self.way = way
    self.extra = self.add_weight(name="extra", shape=[], initializer="ones")

  def call(self, x, training=None):
    prediction = super().call(x, training)
    bad = tf.reduce_max(x["bad"])
    if self.way == "NaN of a layer":
      return prediction + bad * 0 / (1 - bad)
    if self.way == "square root at 0":  # The loss is finite, its gradient is not.
      return prediction + 0 * self.extra * 0 + tf.sqrt(self.extra * (1 - bad)) * 0.1
    if self.way == "float16 overflow":
      return prediction + 1e-9 * tf.cast(tf.cast(self.extra + 1e5 * bad, tf.float16), tf.float32)
    if self.way == "add_loss":
      self.add_loss(tf.math.log(1 - bad) * 0.1)
    if training and self.way in ("a gradient alone", "a huge gradient alone"):
      gradient = 1e20 if "huge" in self.way else np.inf
      return prediction + _with_gradient(self.extra, tf.where(bad > 0, gradient, 0.0))
    return prediction


@tf.custom_gradient
def _with_gradient(weight, gradient):
  return tf.zeros([]) * weight, lambda upstream: (tf.reduce_sum(upstream) * 0 + gradient, None)


def logarithm_of_zero(y, y_pred):
  return -tf.math.log(tf.where(y > 1, 0.0, y_pred[:, 0] * 0 + 0.5)) + tf.reduce_sum(y_pred * 0)


def loss_that_overflows(y, y_pred):
  return tf.reduce_mean(tf.exp(tf.where(y > 1, 100.0, 0.0) + y_pred), axis=1)


def loss_of_a_finite_gradient(y, y_pred):
  """NaN, and the gradient of a mean."""
  return tf.reduce_mean(y_pred, axis=1) + tf.where(y[:, 0] > 1, np.nan, 0.0)


LOSSES = {
  "logarithm of zero": logarithm_of_zero, "loss that overflows": loss_that_overflows,
  "NaN of a loss alone": loss_of_a_finite_gradient,
}  # fmt: skip
OF_MODEL = [
  "NaN of a layer", "square root at 0", "float16 overflow", "add_loss", "a gradient alone",
  "a huge gradient alone", *LOSSES,
]  # fmt: skip
RAW_OF_MODEL = tfps.data.RawInputs({**RAW.specs, "bad": RAW.specs["feature"]}, RAW.features)


def arrays(rng, bad=False):
  x = {
    "user": tfps.feasign("user", [f"u{i}" for i in range(BATCH)]),
    "feature": rng.normal(size=BATCH).astype(np.float32),
    "id_weight": np.ones(BATCH, np.float32),
    "bad": np.full(BATCH, bad, np.float32),
  }
  return x, rng.integers(0, 2, [BATCH, 1]) + 2.0 * bad


@pytest.mark.parametrize("eagerly", [False, True])
@pytest.mark.parametrize("way", OF_MODEL)
def test_a_step_that_the_model_spoils(way, eagerly, capsys, tmp_path):
  loss = LOSSES.get(way, "mse")
  model = compiled(
    lambda table: OfModel(table, way), loss=loss, metrics=["mae"], run_eagerly=eagerly
  )
  rng = np.random.default_rng(0)
  for _ in range(2):
    model.train_on_batch(*arrays(rng))
  files = None if eagerly else Files(tmp_path, model, RAW_OF_MODEL)
  before, shows = state(model), counts(model)[:, 0].sum()
  metrics = [variable.numpy() for metric in model.metrics for variable in metric.variables]
  assert capsys.readouterr().err == ""
  model.train_on_batch(*arrays(rng, bad=True), reset_metrics=False)
  for one, other in zip(state(model), before, strict=True):
    np.testing.assert_array_equal(one, other)
  after = [variable.numpy() for metric in model.metrics for variable in metric.variables]
  assert all((one == other).all() for one, other in zip(after, metrics, strict=True))
  assert counts(model)[:, 0].sum() == shows + BATCH
  told = capsys.readouterr().err
  assert told.endswith("changed no weight; the first was that with example 0 of batch 2.\n"), told
  if files is not None:
    files.write()
  model.train_on_batch(*arrays(rng))
  assert any((one != other).any() for one, other in zip(state(model), before))


@pytest.mark.parametrize("eagerly", [False, True])
def test_the_first_step_of_a_model_that_is_not_built(eagerly, capsys):
  models = [compiled(metrics=["mae"], run_eagerly=eagerly) for _ in range(2)]
  rng = np.random.default_rng(0)
  bad, good = arrays(rng), arrays(rng)
  bad[0]["feature"][3] = np.nan
  numbers = lambda model: [v.numpy() for metric in model.metrics for v in metric.variables]
  keras.utils.set_random_seed(2)
  models[0].train_on_batch(*bad)
  assert "example 3 of batch 0." in capsys.readouterr().err
  before = numbers(models[0])
  models[0].reset_metrics()
  for one, other in zip(numbers(models[0]), before, strict=True):
    np.testing.assert_array_equal(one, other)
  keras.utils.set_random_seed(2)
  logs = [model.train_on_batch(*good, return_dict=True) for model in models]
  assert logs[0] == logs[1]
  for one, other in zip(*map(state, models), strict=True):
    np.testing.assert_array_equal(one, other)
  assert models[0].optimizer.iterations == 1


class OwnMetrics(Tower):
  def compute_metrics(self, x, y, y_pred, sample_weight):
    super().compute_metrics(x, y, y_pred, sample_weight)
    return {**self.get_metrics_result(), "mean": tf.reduce_mean(y_pred)}


@pytest.mark.parametrize("eagerly", [False, True])
def test_what_a_compute_metrics_of_your_own_returns(eagerly):
  model, rng = compiled(OwnMetrics, metrics=["mae"], run_eagerly=eagerly), np.random.default_rng(0)
  step = lambda x, y: model.train_on_batch(x, y, reset_metrics=False, return_dict=True)
  logs = [step(*arrays(rng)) for _ in range(2)]
  assert logs[1]["mean"] != 0 and logs[0]["mae"] != logs[1]["mae"]
  x, y = arrays(rng)
  x["feature"][0] = np.inf
  spoilt = step(x, y)
  assert spoilt["mae"] == logs[1]["mae"] and spoilt["mean"] == 0 and np.isnan(spoilt["loss"])
  assert model.get_metrics_result()["loss"].numpy() == pytest.approx(logs[1]["loss"])


class OwnStep(Tower):
  """Without averages."""

  def train_step(self, data):
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    with tf.GradientTape() as tape, Step(tape) as step:
      y_pred = self(x, training=False)
      loss = self.compute_loss(x, y, y_pred, weight)
    dense, rows = tape.gradient(loss, [self.trainable_variables, step.rows])
    self.apply_gradients(zip(dense, self.trainable_variables))
    step.push(rows, *self.counts(x, y, weight), float(BATCH))
    return self.compute_metrics(x, y, y_pred, weight)


def test_a_train_step_of_your_own_is_guarded_and_its_metrics_are_not(capsys):
  model, rng = compiled(OwnStep, metrics=["mae"]), np.random.default_rng(0)
  model.train_on_batch(*arrays(rng))
  x, y = arrays(rng)
  x["feature"][2] = np.nan
  before = state(model)
  logs = model.train_on_batch(x, y, return_dict=True)
  assert np.isnan(logs["loss"]) and np.isnan(logs["mae"])
  for one, other in zip(state(model), before, strict=True):
    np.testing.assert_array_equal(one, other)
  assert "a step was not finite" in capsys.readouterr().err
  assert np.isfinite(model.train_on_batch(*arrays(rng), return_dict=True)["loss"])


def test_arrays_that_are_spoilt_name_batch_and_example(capsys):
  model = compiled()
  rng = np.random.default_rng(0)
  batches = [arrays(rng) for _ in range(4)]
  batches[2][0]["feature"][5] = np.nan
  x = {name: np.concatenate([one[0][name] for one in batches]) for name in batches[0][0]}
  y = np.concatenate([one[1] for one in batches])
  model.fit(x, y, batch_size=BATCH, shuffle=False, epochs=2, verbose=0)
  told = capsys.readouterr().err
  assert told.startswith("tfps: 2 steps were not finite") and "example 5 of batch 2." in told
  assert model.optimizer.iterations == 6
  model.max_nonfinite_steps = 2
  model.compile("adam", "binary_crossentropy")
  message = "2 steps was not finite, as many as max_nonfinite_steps allows.* example 5 of batch 2: "
  with pytest.raises(NonfiniteError, match=message):
    model.fit(x, y, batch_size=BATCH, shuffle=False, epochs=9, verbose=0)
  assert model.optimizer.iterations == 5


def test_a_run_ends_at_the_limit_and_the_last_good_checkpoint_stays(tmp_path):
  good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
  good.write_text("\n".join(lines(1)) + "\n")
  spoilt = dict.fromkeys(range(4, BATCH * BATCHES), ("feature", "nan"))
  bad.write_text("\n".join(lines(2, spoilt)) + "\n")
  source = source_of({"good": str(good), "bad": str(bad)})
  model = compiled()
  model.max_nonfinite_steps = 5
  saver = tfps.callbacks.Checkpoint(str(tmp_path / "saved"))
  with pytest.raises(NonfiniteError) as raised:
    model.fit(source, callbacks=[saver], verbose=0)
  assert re.search(r"of 6 steps.*bad.txt, line 5 \(byte \d+\): mend what", str(raised.value))
  check_checkpoints(tmp_path / "saved")
  assert len(saved_in(tmp_path / "saved")) == 1
  after = state(model)
  manager = CheckpointManager(tmp_path / "saved", model, [model.embedding.table], read_only=True)
  manager.restore()
  for one, other in zip(state(model), after, strict=True):
    np.testing.assert_array_equal(one, other)


def test_a_dense_optimizer_that_explodes_reaches_no_checkpoint(tmp_path):
  path = tmp_path / "lines.txt"
  path.write_text("\n".join(lines(1)) + "\n")
  source = source_of({"one": str(path), "two": str(path)})
  model, saver = compiled(), tfps.callbacks.Checkpoint(str(tmp_path / "saved"))
  model.fit(source.day("one"), callbacks=[saver], verbose=0)
  # A rate that float32 has no number for.
  model.compile(keras.optimizers.SGD(1e39), "binary_crossentropy")
  message = "variable '.*' holds a value that is not finite, so no checkpoint is written"
  with pytest.raises(NonfiniteError, match=message):
    model.fit(source, callbacks=[tfps.callbacks.Checkpoint(str(tmp_path / "other"))], verbose=0)
  check_checkpoints(tmp_path / "saved")
  assert not saved_in(tmp_path / "other")


@pytest.mark.parametrize("what", ["row", "weight"])
def test_what_is_not_finite_reaches_no_file(tmp_path, what):
  model, table = exports.make_small_model()
  exporter = tfps.export.Exporter(model, str(tmp_path / "exports"), raw=exports.SMALL_RAW)
  manager = CheckpointManager(tmp_path / "saved", model, [table])
  manager.save({})
  exporter.base()
  if what == "row":
    width = table.policy_of(None).layout.row.width(True)
    floats = np.full(width, np.nan, np.float32)
    table.upsert([7], [1], [[90, 90, 90]], [0], [1], floats, [0, width])
  else:
    variable = model.trainable_variables[0]
    variable.assign(tf.fill(variable.shape, np.float32(np.inf)))
  name = "table 'small': Feasign 7 has" if what == "row" else "variable '.*' holds"
  for incremental in (False, True):
    with pytest.raises(NonfiniteError, match=f"{name} .* so no checkpoint is written"):
      manager.save({}, incremental=incremental)
  with pytest.raises(NonfiniteError, match=f"{name} .* so no delta is written"):
    exporter.delta()
  with pytest.raises(NonfiniteError, match=f"{name} .* so no base is written"):
    exporter.base()
  check_checkpoints(tmp_path / "saved")
  assert len(saved_in(tmp_path / "saved")) == 1
  assert [path.name for path in (tmp_path / "exports" / "base").iterdir()] == ["1"]
