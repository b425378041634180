"""Embedding(statistics=True): shows and clicks of rows as inputs of a model, trained and served."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tests import checkpoints
from tests.patience import PATIENCE
from tests.test_fold import apply
from tfps import native
from tfps.export import fold, trained
from tfps.export.artifact import ARTIFACTS

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(name="table", scope="module")
def _table():
  table = tfps.FeasignTable("ctr", mf_dim=3)
  keys = np.arange(1, 11)
  show, click = (keys * 10).astype(np.float32), keys.astype(np.float32)
  slots = np.full(10, table.slot_id("a"), np.int32)
  table.push([(keys, slots, show, click, np.ones([10, 4], np.float32))])
  return table


RAGGED = tf.ragged.constant([[3, 5], [], [99], [1]], np.int64, ragged_rank=1)


def expected(ids):
  """Show and click of keys 1 to 10."""
  ids = np.asarray(ids)
  there = (ids >= 1) & (ids <= 10)
  return np.stack([np.where(there, ids * 10, 0), np.where(there, ids, 0)], axis=-1)


@pytest.mark.parametrize("combiner", ["sum", {"b": None}, None])
def test_each_occurrence_has_the_counts_of_its_row(table, combiner):
  layer = tfps.Embedding(table, ["a", "b", "c"], combiner, statistics=True)
  dense = np.array([[3, 3, 0], [7, 99, 0], [0, 0, 0], [10, -(2**63), 1]])
  output = layer({"a": tf.constant([1, 2, 0, 4], tf.int64), "b": tf.constant(dense), "c": RAGGED})
  assert set(output.statistics) == {"a", "b", "c"}
  np.testing.assert_array_equal(output.statistics["a"], expected([[1], [2], [0], [4]]))
  np.testing.assert_array_equal(output.statistics["b"], expected(dense))
  assert isinstance(output.statistics["c"], tf.RaggedTensor)
  np.testing.assert_array_equal(output.statistics["c"].row_splits, RAGGED.row_splits)
  np.testing.assert_array_equal(output.statistics["c"].flat_values, expected([3, 5, 99, 1]))
  assert tfps.Embedding(table, ["a"])({"a": tf.constant([1], tf.int64)}).statistics == {}


def test_counts_stay_float32_and_are_not_rounded_on_the_wire():
  table = tfps.FeasignTable("big", mf_dim=3)
  show = np.float32([200_001])
  part = (np.array([7]), np.array([1], np.int32), show, show, np.zeros([1, 4], np.float32))
  table.push([part])
  layer = tfps.Embedding(table, ["a"], dtype="mixed_float16", statistics=True)
  output = layer({"a": tf.constant([7], tf.int64)})
  assert output.mf.dtype == tf.float16 and output.statistics["a"].dtype == tf.float32
  np.testing.assert_array_equal(output.statistics["a"], [[[200_001, 200_001]]])
  keys = [tf.constant([7, 8], tf.int64)]
  (reply,) = table.exchange(keys, table.no_messages(), 3, wire_dtype=tf.float16, counts=True)
  np.testing.assert_array_equal(table.read_counts([reply]), [[200_001, 200_001], [0, 0]])
  assert table.read_replies([reply], 3).shape == [2, 3]
  (without,) = table.exchange(keys, table.no_messages(), 3)
  with pytest.raises(tf.errors.InvalidArgumentError, match="has no counts: pull with counts"):
    table.read_counts([without])
  with pytest.raises(tf.errors.InvalidArgumentError, match="cut off"):
    native.ops.tfps_read_pulled_counts(messages=[reply[:-8]])


@pytest.mark.parametrize("engine", ["native", "tfra"])
def test_counts_come_from_every_server(engine):
  table = checkpoints.make_table(3, engine=engine)
  checkpoints.push(table, checkpoints.KEYS, seed=1)
  checkpoints.push(table, checkpoints.KEYS[:200], seed=2)
  keys = np.concatenate([checkpoints.KEYS, [1, 2, 0]])
  layer = tfps.Embedding(table, ["a"], statistics=True)
  found = layer({"a": tf.constant(keys)}).statistics["a"][:, 0]
  wanted = table.lookup(keys)["statistics"][:, :2].astype(np.float32)
  assert (wanted[:400] > 0).any() and not wanted[400:].any()
  np.testing.assert_array_equal(found, wanted)


def test_cvm_is_that_of_paddlepaddle():
  counts = tf.constant([[[9.0, 4.0], [0.0, 0.0]], [[-1.0, 0.0], [1e6, 1e6]]])
  show, click = np.maximum(counts[..., 0], 0), np.maximum(counts[..., 1], 0)
  expected = np.stack([np.log(show + 1), np.log(click + 1) - np.log(show + 1)], axis=-1)
  np.testing.assert_allclose(tfps.cvm(counts), expected, rtol=1e-6)
  ragged = tf.RaggedTensor.from_row_lengths(counts[0], [2, 0])
  np.testing.assert_allclose(tfps.cvm(ragged).flat_values, expected[0], rtol=1e-6)


class Popular(tfps.Model):
  """A logistic regression on counts and lr weights, with a second layer without counts."""

  def __init__(self, table, slots=("user", "item")):
    super().__init__()
    self.embedding = tfps.Embedding(table, slots, statistics=True)
    self.plain = tfps.Embedding(table, slots[1:])
    self.dense = keras.layers.Dense(1, kernel_initializer="ones")

  def call(self, features, training=None):
    embedded = self.embedding(features, training=training)
    plain = self.plain(features, training=training)
    counts = tfps.cvm(tf.concat(list(embedded.statistics.values()), axis=1))
    flat = tf.reshape(counts, [-1, 4])
    return tf.sigmoid(self.dense(flat) + embedded.lr_logit + plain.lr_logit)


RAW = tfps.data.RawInputs(
  {slot: tf.TensorSpec([None], tf.int64) for slot in ("user", "item")},
  lambda raw: {slot: tfps.feasign(slot, values) for slot, values in raw.items()},
)


def make_model(**accessor):
  keras.utils.set_random_seed(3)
  accessor = tfps.CtrAccessor(create_threshold=1.0, **accessor)
  table = tfps.FeasignTable("popular", mf_dim=2, accessor=accessor)
  model = Popular(table)
  model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy")
  return model, table


def batch(rng, size=64):
  raw = {slot: rng.integers(1, 20, size) for slot in ("user", "item")}
  return raw, RAW.features({slot: tf.constant(values) for slot, values in raw.items()})


def train(model, rng, steps=3):
  for _ in range(steps):
    raw, x = batch(rng)
    # Items with even numbers are clicked, so that click rates tell.
    y = (raw["item"] % 2 == 0).astype(np.float32)[:, np.newaxis]
    model.train_on_batch(x, y)


def test_a_model_learns_from_counts_that_a_step_sees_before_its_own():
  model, _ = make_model()
  rng = np.random.default_rng(0)
  raw, x = batch(rng)
  # At the first step no row is there.
  seen = []
  pool = model.dense.call
  model.dense.call = lambda inputs: seen.append(inputs.numpy()) or pool(inputs)
  model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy", run_eagerly=True)
  model.train_on_batch(x, np.ones([64, 1], np.float32))
  model.train_on_batch(x, np.ones([64, 1], np.float32))
  first, second = [inputs for inputs in seen if inputs.shape == (64, 4)][-2:]
  assert not first.any()
  # Both layers look the item up, and each occurrence counts once for each.
  times = np.bincount(raw["user"])[raw["user"]]
  np.testing.assert_allclose(second[:, 0], np.log(times + 1), rtol=1e-5)
  np.testing.assert_allclose(second[:, 1], 0, atol=1e-6)
  del model.dense.call
  model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy")
  train(model, rng, 60)
  raw, x = batch(rng, 200)
  predicted = model.predict_on_batch(x)[:, 0]
  assert predicted[raw["item"] % 2 == 0].min() > predicted[raw["item"] % 2 == 1].max()


def test_the_gradient_does_not_reach_counts(table):
  layer = tfps.Embedding(table, ["a"], statistics=True)
  with tf.GradientTape() as tape:
    weight = tf.Variable(2.0)
    counts = layer({"a": tf.constant([1], tf.int64)}).statistics["a"]
    loss = tf.reduce_sum(counts * weight)
  assert tape.gradient(loss, weight) == 11


@pytest.mark.parametrize("seed", [0, 1])
def test_bases_and_deltas_hold_counts_where_the_model_reads_them(tmp_path, seed):
  rng = np.random.default_rng(seed)
  model, table = make_model(
    base_update_threshold=0.3, delta_update_threshold=0.0, delta_keep_days=1, delete_threshold=0.2,
    delete_after_unseen_days=2, decay_rate=0.7,
  )  # fmt: skip
  train(model, rng)
  exporter = tfps.export.Exporter(model, tmp_path, RAW)
  base = exporter.base()
  assert ARTIFACTS.read(base).tables["popular"].row_width == 1 + 2 + 2
  session = tfps.export.SavedModelSession(base)
  raw, x = batch(rng, 100)
  deltas = []
  for day in range(1, 4):
    train(model, rng, rng.integers(1, 3))
    table.end_of_day(day)
    deltas.append(exporter.delta())
    apply(session, deltas[-1])
    wanted = trained.predict(model, x, [table])
    np.testing.assert_allclose(session.run(raw)["predictions"], wanted, atol=1e-6, rtol=0)
  assert np.ptp(wanted) > 0.1
  # All the rows are in a base, so the trainer itself predicts this.
  folded = fold.fold(base, deltas, str(tmp_path / "folded"))
  again = tfps.export.SavedModelSession(folded)
  np.testing.assert_array_equal(again.run(raw)["predictions"], session.run(raw)["predictions"])
  for one in (session, again):
    one.close()


def test_of_two_models_each_has_counts_if_it_reads_them(tmp_path):
  rng = np.random.default_rng(0)
  model, table = make_model(base_update_threshold=0.0)
  inputs = {"item": keras.Input([], dtype=tf.int64, name="item")}
  plain = tfps.Model(inputs, tfps.Embedding(table, ["item"])(inputs).lr)
  train(model, rng)
  raws = {"popular": RAW, "plain": tfps.data.RawInputs({"item": RAW.specs["item"]}, RAW.features)}
  exporter = tfps.export.Exporter({"popular": model, "plain": plain}, tmp_path, raws)
  paths = exporter.base()
  widths = {
    name: ARTIFACTS.read(path).tables["popular"].row_width for name, path in paths.items()
  }  # fmt: skip
  assert widths == {"popular": 5, "plain": 3}
  raw, x = batch(rng, 50)
  for name, of_model in (("popular", model), ("plain", plain)):
    session = tfps.export.SavedModelSession(paths[name])
    (served,) = session.run({slot: raw[slot] for slot in raws[name].specs}).values()
    wanted = of_model.predict_on_batch({slot: x[slot] for slot in raws[name].specs})
    np.testing.assert_allclose(served, wanted, atol=1e-6, rtol=0)
    session.close()


CLUSTER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import tfps
strategy = tfps.strategy()
import json
import tf_keras as keras
from tests.test_counts import Popular
with strategy.scope():
  keras.utils.set_random_seed(3)
  accessor = tfps.CtrAccessor(create_threshold=1.0)
  table = tfps.FeasignTable("popular", mf_dim=2, accessor=accessor)
  model = Popular(table, ["user_id", "item_id"])
  model.compile(keras.optimizers.SGD(0.05), "binary_crossentropy")
source = tfps.data.ClickStream(days=1, examples_per_day=600, batch_size=50, batches_per_ticket=3)
model.fit(source, verbose=0, communication=tfps.Communication(prefetch=False))
print(json.dumps([w.tolist() for w in model.get_weights()]))
"""


def test_a_worker_trains_as_one_process_does(tmp_path):
  (tmp_path / "script.py").write_text(CLUSTER)
  env = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
  env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
  weights = []
  launch = ["-m", "tfps", "launch", "--workers=1", "--ps=2", f"--log-dir={tmp_path / 'logs'}", "--"]
  for how in ([], launch):
    done = subprocess.run(
      [sys.executable, *how, str(tmp_path / "script.py")],
      env=env, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    line = next(line for line in done.stdout.splitlines() if "[[" in line)
    weights.append(json.loads(line[line.index("[") :]))
  for alone, cluster in zip(*weights):
    np.testing.assert_allclose(cluster, alone, rtol=1e-4, atol=1e-5)
  assert np.ptp(weights[0][0]) > 1e-3
