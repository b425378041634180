"""Models without any dense weights: the rows are all that is learnt, kept and served."""

import numpy as np
import pytest
import tensorflow as tf

import tfps
from tests import exports
from tests.test_delta import apply, expected
from tfps.checkpoint import CheckpointManager
from tfps.export.checking import verify
from tfps.export.fold import fold
from tfps.graph.autograph import libraries_unconverted


class Linear(tfps.Model):
  """Logistic regression: the sum of a row for each city."""

  def __init__(self, **accessor):
    super().__init__()
    self.table = tfps.FeasignTable("small", mf_dim=2, accessor=tfps.CtrAccessor(**accessor))
    self.embedding = tfps.Embedding(self.table, ["city"])
    self.compile("adam", "binary_crossentropy")

  def call(self, features, training=None):
    return tf.sigmoid(self.embedding(features, training=training).lr_logit)


@libraries_unconverted()
def train(model, seed):
  rng = np.random.default_rng(seed)
  for _ in range(3):
    cities = {"city": tf.constant([f"w{i}" for i in rng.integers(0, 20, 64)])}
    model.train_on_batch(cities, rng.binomial(1, 0.3, (64, 1)).astype(np.float32))


RAW = {"city": np.array([f"w{i}" for i in range(25)])}


def test_a_base_and_deltas_serve_what_the_trainer_predicts(tmp_path):
  model = Linear(base_update_threshold=0.5, delta_update_threshold=0.0)
  train(model, seed=0)
  exporter = tfps.export.Exporter(model, tmp_path, exports.SMALL_RAW)
  base = exporter.base()
  session = tfps.export.SavedModelSession(base)
  first = expected(model, model.table, RAW)
  np.testing.assert_allclose(session.run(RAW)["predictions"], first, atol=1e-6, rtol=0)
  assert np.ptp(first) > 0.01
  train(model, seed=1)
  delta = exporter.delta()
  apply(session, delta)
  second = expected(model, model.table, RAW)
  np.testing.assert_allclose(session.run(RAW)["predictions"], second, atol=1e-6, rtol=0)
  assert np.abs(second - first).max() > 0.01
  session.close()
  verify.verify(base, load_only=True)
  folded = fold(base, [delta], str(tmp_path / "folded"))
  session = tfps.export.SavedModelSession(folded)
  np.testing.assert_allclose(session.run(RAW)["predictions"], second, atol=1e-6, rtol=0)
  session.close()


def test_a_checkpoint_keeps_rows_and_steps(tmp_path):
  model = Linear()
  train(model, seed=0)
  CheckpointManager(tmp_path, model, [model.table]).save(dict(epoch=0, day=0, day_name="day-0"))
  again = Linear()
  again.predict_on_batch({"city": tf.constant(RAW["city"])})
  CheckpointManager(tmp_path, again, [again.table]).restore()
  cities = {"city": tf.constant(RAW["city"])}
  np.testing.assert_array_equal(again.predict_on_batch(cities), model.predict_on_batch(cities))
  assert int(again.optimizer.iterations) == int(model.optimizer.iterations) == 3


@pytest.mark.parametrize("eager", [False, True])
def test_each_step_counts_unless_it_is_spoilt(eager):
  """Schedules of tables and TensorBoard's axis follow the number of steps."""
  model = Linear()
  model.compile("adam", "binary_crossentropy", run_eagerly=eager)
  cities = {"city": tf.constant(RAW["city"])}
  labels = np.ones([25, 1], np.float32)
  for spoilt in (False, True, False):
    model.train_on_batch(cities, labels * np.nan if spoilt else labels)
  assert int(model.optimizer.iterations) == 2
