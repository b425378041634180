"""Deltas: what a server holds after them is what a base of that moment would hold."""

import os

import numpy as np
import pytest
import tensorflow as tf

import tfps
from tests import exports
from tfps.export import trained
from tfps.export.artifact import ARTIFACTS
from tfps.export.served.inputs import ModelInputs


def apply(session, path):
  for chunk in tfps.export.delta_chunks(path, chunk_bytes=100):
    session.run(chunk, "apply_delta")


def expected(model, table, raw):
  features = ModelInputs(model, exports.SMALL_RAW).from_raw({"city": tf.constant(raw["city"])})
  return trained.predict(model, features, [table]).numpy()


def train(model, rng, words):
  cities = {"city": tf.constant([f"w{i}" for i in rng.choice(words, 16)])}
  model.train_on_batch(cities, rng.binomial(1, 0.4, (16, 1)).astype(np.float32))


@pytest.mark.parametrize("seed", range(4))
def test_after_every_delta_a_server_predicts_what_the_trainer_does(tmp_path, seed):
  rng = np.random.default_rng(seed)
  accessor = tfps.CtrAccessor(
    create_threshold=2.0, base_update_threshold=0.6, delta_update_threshold=0.0,
    delta_keep_days=1, delete_threshold=0.3, delete_after_unseen_days=2, decay_rate=0.7,
  )  # fmt: skip
  model, table = exports.make_small_model(accessor=accessor)
  exporter = tfps.export.Exporter(model, tmp_path, exports.SMALL_RAW)
  base = exporter.base()
  session = tfps.export.SavedModelSession(base)
  raw = {"city": np.array([f"w{i}" for i in range(40)])}
  day, removed = 0, 0
  for sequence in range(1, 7):
    for _ in range(rng.integers(3)):
      train(model, rng, np.arange(40)[rng.integers(30) :])
    for _ in range(rng.integers(3)):
      day += 1
      table.end_of_day(day)
    path = exporter.delta(day=day)
    assert path == f"{tmp_path}/delta/1/{sequence}"
    removed += ARTIFACTS.read(path).tables["small"].removed
    apply(session, path)
    apply(session, path)  # Sent twice, it changes nothing.
    np.testing.assert_allclose(
      session.run(raw)["predictions"], expected(model, table, raw), atol=1e-6, rtol=0
    )
  assert removed > 0
  # A server that restarts catches up from its base.
  again = tfps.export.SavedModelSession(base)
  for sequence in range(1, 7):
    apply(again, f"{tmp_path}/delta/1/{sequence}")
  np.testing.assert_array_equal(session.run(raw)["predictions"], again.run(raw)["predictions"])
  again.close()
  session.close()


def test_a_delta_holds_what_changed_enough_and_is_counted_once(tmp_path, monkeypatch):
  model, _table = exports.make_small_model()
  exporter = tfps.export.Exporter(model, tmp_path, exports.SMALL_RAW)
  with pytest.raises(tfps.export.ExportError, match="export a base"):
    exporter.delta()
  exporter.base()
  rows = lambda path: ARTIFACTS.read(path).tables["small"].rows
  assert rows(exporter.delta()) == 0
  rng = np.random.default_rng(0)
  for _ in range(3):
    train(model, rng, np.arange(3))

  def fail(*arguments):
    raise OSError("no space left")

  with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
    patch.setattr(ARTIFACTS, "_write_manifest", fail)
    exporter.delta()
  assert rows(exporter.delta()) == 3
  assert rows(exporter.delta()) == 0
  assert sorted(os.listdir(tmp_path / "delta" / "1")) == ["1", "2", "3"]
