"""Batches without ids, a slot that was never trained: zeros, no row, and the rest as ever."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.layers.embedding import tables_of

SLOTS = ("user", "tags", "unseen")


class Tower(tfps.Model):
  def __init__(self):
    super().__init__()
    table = tfps.FeasignTable("ctr", mf_dim=2, accessor=tfps.CtrAccessor(create_threshold=0))
    self.embedding = tfps.Embedding(table, list(SLOTS), {"tags": "mean"})
    self.dense = keras.layers.Dense(1)

  def call(self, x, training=None):
    embedded = self.embedding(x, training=training)
    return tf.sigmoid(embedded.lr_logit + self.dense(keras.layers.Flatten()(embedded.mf)))


def features(lines):
  fields = tf.strings.split(lines, ",")
  x = {}
  for slot in SLOTS:
    of_slot = tf.strings.regex_full_match(fields.flat_values, f"{slot}:.*")
    x[slot] = tfps.feasign(slot, tf.ragged.boolean_mask(fields, fields.with_values(of_slot)))
  return x


def parse(lines):
  """Of lines of a click and "slot:id" fields."""
  return features(lines), tf.strings.to_number(tf.strings.substr(lines, 0, 1))[:, tf.newaxis]


def make_source(path, lines):
  path.write_text("".join(f"{line}\n" for line in lines))
  return tfps.data.source(str(path), parse, batch_size=4, batches_per_ticket=2)


def train(source):
  keras.utils.set_random_seed(1)
  model = Tower()
  model.compile("sgd", "binary_crossentropy")
  history = model.fit(source, verbose=0)
  assert np.isfinite(history.history["loss"]).all()
  (table,) = tables_of(model)
  return model, table


@pytest.mark.parametrize("lines", [["0", "1", "0", "1"], ["1"] * 9])
def test_batches_without_ids_train_the_dense_weights_alone(tmp_path, lines):
  model, table = train(make_source(tmp_path / "a", lines))
  statistics = table.statistics()
  assert statistics["rows"] == statistics["pushed_keys"] == statistics["pulled_keys"] == 0
  assert int(model.optimizer.iterations) == -(-len(lines) // 4)
  predicted = model.predict(make_source(tmp_path / "a", lines))
  assert len(predicted) == len(lines) and np.ptp(predicted) == 0
  if len(lines) == 9:
    assert predicted[0] > 0.5  # All were clicks: the bias has learnt.


def test_a_batch_without_ids_between_others_changes_no_row(tmp_path):
  some = ["1,user:a,tags:x,tags:y", "0,user:b", "1,user:a,tags:z", "0,user:c,tags:x"]
  rows = []
  for name, lines in (("a", some + ["0", "1", "0", "1"] + some), ("b", some + some)):
    _, table = train(make_source(tmp_path / name, lines))
    keys = [*tfps.feasign("user", ["user:a", "user:b", "user:c"])]
    keys += [*tfps.feasign("tags", ["tags:x", "tags:y", "tags:z"])]
    found = table.lookup(keys)
    assert found["found"].all() and table.statistics()["rows"] == 6
    rows.append(found)
  np.testing.assert_array_equal(rows[0]["statistics"], rows[1]["statistics"])
  np.testing.assert_array_equal(rows[0]["statistics"][:, 0], [4, 2, 2, 4, 2, 2])


def test_a_slot_that_no_training_has_seen_reads_zeros(tmp_path):
  lines = ["1,user:a,tags:x", "0,user:b"] * 6
  model, table = train(make_source(tmp_path / "a", lines))
  rows = table.statistics()["rows"]
  asked = make_source(tmp_path / "b", ["1,user:a,tags:x,unseen:q,unseen:r", "1,user:a,tags:x"])
  one, other = model.predict(asked)
  assert one == other
  # Served, too.
  specs = {"line": tf.TensorSpec([None], tf.string)}
  raw = tfps.data.RawInputs(specs, lambda inputs: features(inputs["line"]))
  path = tfps.export.Exporter(model, str(tmp_path / "export"), raw).base()
  session = tfps.export.SavedModelSession(path)
  try:
    served = session.run({"line": np.array(["1,user:a,tags:x,unseen:q", "1,user:a,tags:x", "1"])})
  finally:
    session.close()
  np.testing.assert_allclose(served["predictions"][:2], [one, other], atol=1e-6)
  assert np.isfinite(served["predictions"]).all() and table.statistics()["rows"] == rows
  # And it trains from its first id on.
  model.fit(make_source(tmp_path / "c", ["1,unseen:q"] * 4), verbose=0)
  found = table.lookup([*tfps.feasign("unseen", ["unseen:q"])])
  assert found["found"].all() and found["statistics"][0, 0] == 4
