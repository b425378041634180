"""Layers and models that are not trainable: their rows count, and neither step nor are admitted."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps

USERS = np.array([1, 2, 1, 3])
LABELS = np.array([[1.0], [0.0], [1.0], [1.0]], np.float32)


class TwoTowers(tfps.Model):
  """Two layers on one table: the left looks up "user", the right "user" and "item"."""

  def __init__(self, table):
    super().__init__()
    self.left = tfps.Embedding(table, ["user"])
    self.right = tfps.Embedding(table, ["user", "item"])
    self.dense = keras.layers.Dense(1)
    self.stops = False  # what flows back to the right

  def call(self, x):
    left, right = self.left(x), self.right(x)
    if self.stops:
      right = tf.nest.map_structure(tf.stop_gradient, right)
    mf = tf.reduce_sum(left.mf, axis=1) + tf.reduce_sum(right.mf, axis=1)
    return tf.sigmoid(left.lr_logit + 2 * right.lr_logit + self.dense(mf))


def make_table(optimizer=None, **settings):
  settings = dict(
    mf_dim=2, mf_init_range=0.5, optimizer=optimizer, gradient_scale="sum",
    accessor=tfps.CtrAccessor(create_threshold=0.15, delete_threshold=0),
  ) | settings  # fmt: skip
  return tfps.FeasignTable("frozen", **settings)


def features(users=USERS):
  return {slot: tfps.feasign(slot, users) for slot in ("user", "item")}


def compiled(model):
  keras.utils.set_random_seed(1)
  model.compile(keras.optimizers.Adam(0.1), "binary_crossentropy")
  return model


def fit(model, epochs=1, users=USERS):
  model.fit(features(users), LABELS, batch_size=4, epochs=epochs, shuffle=False, verbose=0)


def rows_of(table, slot, users=(1, 2, 3)):
  return table.lookup(tfps.feasign(slot, users))


def check_same_weights(after, before):
  for name in ("admitted", "lr_w", "lr_state", "mf_w", "mf_state"):
    np.testing.assert_array_equal(after[name], before[name], err_msg=name)


@pytest.mark.parametrize("optimizer", [tfps.Adam(0.1), tfps.FTRL(0.1), tfps.Adagrad()])
@pytest.mark.parametrize("whole", [False, True])
def test_rows_of_what_is_frozen_stay_and_count(optimizer, whole):
  table = make_table(optimizer, lr_optimizer=optimizer)
  model = compiled(TwoTowers(table))
  fit(model, 3)
  before = {slot: rows_of(table, slot) for slot in ("user", "item")}
  dense = model.get_weights()
  assert before["item"]["admitted"].all() and np.abs(before["item"]["mf_w"]).min() > 0
  if whole:
    model.trainable = False
  else:
    model.right.trainable = False
  compiled(model)
  table.end_of_day(0)
  fit(model, 3, [1, 2, 3, 4])
  after = {slot: rows_of(table, slot) for slot in before}
  check_same_weights(after["item"], before["item"])
  rate = table.accessor.decay_rate
  for slot, times in [("user", 2), ("item", 1)]:
    expected = before[slot]["statistics"][:, :2] * rate + 3 * times * np.array(
      [[1, 1], [1, 0], [1, 1]]
    )
    np.testing.assert_allclose(after[slot]["statistics"][:, :2], expected)
    assert (after[slot]["unseen_days"] == 0).all()
    assert (after[slot]["statistics"][:, 2] > before[slot]["statistics"][:, 2]).all()
  # Absent: a head with counts, whatever its score.
  new = rows_of(table, "item", [4])
  assert new["found"][0] and new["statistics"][0, 1] == 3 and not new["admitted"][0]
  assert new["lr_w"][0] == 0
  moved = np.abs(after["user"]["mf_w"] - before["user"]["mf_w"]).min()
  assert (moved == 0) == whole
  assert rows_of(table, "user", [4])["admitted"][0] != whole
  assert all((one == other).all() for one, other in zip(model.get_weights(), dense)) == whole


def test_a_feasign_of_both_steps_with_the_gradient_of_what_is_trained():
  """per_show: the mean over its occurrences in the layer that is trained."""
  tables = [make_table(tfps.SGD(0.5), gradient_scale="per_show") for _ in range(2)]
  models = [compiled(TwoTowers(table)) for table in tables]
  models[0].right.trainable = False
  models[1].stops = True
  for model in models:
    fit(compiled(model), 1)
  frozen, other = (rows_of(table, "user") for table in tables)
  np.testing.assert_array_equal(frozen["statistics"], other["statistics"])
  # There each occurrence in the right halves the mean.
  np.testing.assert_allclose(frozen["lr_w"], 2 * other["lr_w"], rtol=1e-6)
  assert np.abs(frozen["lr_w"]).min() > 0.01


def test_it_takes_effect_when_the_model_is_compiled():
  table = make_table(tfps.SGD(0.5))
  source = tfps.data.ClickStream(days=1, examples_per_day=64, batch_size=32)
  slots = ["user_id", "item_id"]
  inputs = {slot: keras.Input([], dtype=tf.int64, name=slot) for slot in slots}
  embedding = tfps.Embedding(table, slots)
  model = compiled(tfps.Model(inputs, tf.sigmoid(embedding(inputs).lr_logit)))
  x, y = next(iter(source.open(next(source.tickets()))))

  def has_stepped():
    """Whether each of arrays and a source steps."""
    steps = []
    for train in (lambda: model.fit(x, y, batch_size=32), lambda: model.fit(source)):
      before = table.lookup(x["user_id"])
      train()
      after = table.lookup(x["user_id"])
      assert (after["statistics"][:, 0] > before["statistics"][:, 0]).all()
      steps.append((after["lr_w"] != before["lr_w"]).all())
    return steps

  assert has_stepped() == [True, True]
  embedding.trainable = False
  assert has_stepped() == [True, True]
  compiled(model)
  assert has_stepped() == [False, False]
  embedding.trainable = True
  assert has_stepped() == [False, False]
  compiled(model)
  assert has_stepped() == [True, True]
