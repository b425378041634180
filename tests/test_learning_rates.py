"""Learning rates and clipping of tables: schedules, by hand, and by what the optimizer does."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tfps import native

schedules = keras.optimizers.schedules


def halved(step):
  if step < 3:
    return 0.2
  return 0.1


SCHEDULES = {
  "constant": 0.1,
  "warm-up and cosine": schedules.CosineDecay(0.0, 6, warmup_target=0.2, warmup_steps=3),
  "exponential": schedules.ExponentialDecay(0.1, 2, 0.5, staircase=True),
  "piecewise": schedules.PiecewiseConstantDecay([2, 4], [0.4, 0.2, 0.1]),
  "a Python condition": halved,
  "a function": lambda step: 0.1 / (1.0 + tf.cast(step, tf.float32)),
}
STEPS = 6


def make_model(optimizer, factor=1.0, dense="sgd", **settings):
  """A model whose loss is `factor` times its lr weight and the numbers of its mf vector."""
  accessor = tfps.CtrAccessor(create_threshold=0)
  table = tfps.FeasignTable(
    "rates", mf_dim=2, mf_init_range=0, accessor=accessor, optimizer=optimizer, **settings
  )
  inputs = {"user": keras.Input([], dtype=tf.int64, name="user")}
  embedded = tfps.Embedding(table, ["user"])(inputs)
  total = embedded.lr_logit + tf.reduce_sum(embedded.mf, axis=[1, 2])[:, tf.newaxis]
  model = tfps.Model(
    inputs, keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(total)
  )
  model.compile(dense, lambda y, y_pred: factor * y_pred)
  return table, model


def batches():
  return tf.data.Dataset.from_tensors(
    ({"user": tf.constant([5, 5], tf.int64)}, tf.zeros([2, 1]))
  ).repeat(STEPS)


def weights(table):
  row = table.lookup([5])
  return row["lr_w"][0], row["mf_w"][0]


def sums(rate):
  """What is subtracted from lr_w and, without the step of the push that admits, from mf_w."""
  rates = [float(rate(step)) if callable(rate) else rate for step in range(STEPS)]
  return sum(rates), sum(rates[1:])


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_a_schedule_follows_the_steps_of_the_model(name):
  rate = SCHEDULES[name]
  table, model = make_model(tfps.SGD(rate), dense=keras.optimizers.SGD(0.0))
  model.fit(batches(), verbose=0)
  lr_w, mf_w = weights(table)
  np.testing.assert_allclose(-lr_w, sums(rate)[0], rtol=1e-5)
  np.testing.assert_allclose(-mf_w, np.repeat(sums(rate)[1], 2), rtol=1e-5)


def test_lr_and_mf_and_slots_have_each_their_own():
  cosine, piecewise = SCHEDULES["warm-up and cosine"], SCHEDULES["piecewise"]
  policies = {"user": tfps.SlotPolicy(optimizer=tfps.SGD(piecewise))}
  table, model = make_model(
    tfps.SGD(0.3),
    dense=keras.optimizers.SGD(0.0),
    lr_optimizer=tfps.SGD(cosine),
    slot_policies=policies,
  )
  model.fit(batches(), verbose=0)
  lr_w, mf_w = weights(table)
  np.testing.assert_allclose(-lr_w, sums(cosine)[0], rtol=1e-5)
  np.testing.assert_allclose(-mf_w, np.repeat(sums(piecewise)[1], 2), rtol=1e-5)


@pytest.mark.parametrize("rate", [0.1, SCHEDULES["piecewise"]], ids=["number", "schedule"])
def test_a_factor_multiplies_whatever_the_rate_is(rate):
  table, model = make_model(tfps.SGD(rate), dense=keras.optimizers.SGD(0.0))
  model.fit(batches(), verbose=0)
  first = weights(table)[0]
  table.learning_rate_factor = 0.5
  model.fit(batches(), verbose=0)
  later = [float(rate(step)) if callable(rate) else rate for step in range(STEPS, 2 * STEPS)]
  np.testing.assert_allclose(first - weights(table)[0], sum(later) / 2, rtol=1e-5)
  for wrong in (-1, np.nan, np.inf):
    with pytest.raises(ValueError, match="learning_rate_factor must be 0 or more"):
      table.learning_rate_factor = wrong


@pytest.mark.parametrize(
  "callback, factors",
  [
    (lambda: keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 / 2**epoch), [1, 0.5, 0.25]),
    (
      lambda: keras.callbacks.ReduceLROnPlateau(
        monitor="loss", factor=0.5, patience=0, min_delta=1e9
      ),
      [1, 1, 0.5],
    ),
  ],
  ids=["scheduler", "plateau"],
)
def test_tables_follow_the_optimizer(callback, factors):
  table, model = make_model(tfps.SGD(0.1), dense=keras.optimizers.SGD(0.01))
  follow = tfps.callbacks.FollowLearningRate(table, base=0.01)
  kernels = []
  seen = keras.callbacks.LambdaCallback(
    on_epoch_begin=lambda *_: kernels.append(table.learning_rate_factor)
  )
  model.fit(batches(), epochs=3, callbacks=[callback(), follow, seen], verbose=0)
  np.testing.assert_allclose(kernels, factors, rtol=1e-5)
  for arguments, sentence in (((), "has no tables"), ((table,), "base must be above 0")):
    with pytest.raises(ValueError, match=sentence):
      tfps.callbacks.FollowLearningRate(*arguments, base=0)


@pytest.mark.parametrize(
  "clip, lr, mf", [({"clipnorm": 0.5}, 0.5, 0.5 / 2**0.5), ({"clipvalue": 0.25}, 0.25, 0.25)]
)
def test_gradients_are_clipped_by_row(clip, lr, mf):
  table, model = make_model(tfps.SGD(1.0, **clip), factor=7.0, dense=keras.optimizers.SGD(0.0))
  model.fit(batches(), verbose=0)
  lr_w, mf_w = weights(table)
  np.testing.assert_allclose(-lr_w, STEPS * lr, rtol=1e-5)
  np.testing.assert_allclose(-mf_w, np.repeat((STEPS - 1) * mf, 2), rtol=1e-5)


def network(vectors):
  """The click probability of vectors [B, 2, 3]."""
  return tf.sigmoid(tf.reduce_sum(vectors[:, 0] * vectors[:, 1], axis=1, keepdims=True))


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_l2_is_kerass_where_a_batch_has_every_id(name):
  batch, rate, l2 = 8, 0.05, 0.3
  x = np.stack([np.arange(batch) % 4, 4 + np.arange(batch) % 3], axis=1)
  y = (np.arange(batch)[:, None] % 2).astype(np.float32)
  ids = {"a": 1 + x[:, 0], "b": 1 + x[:, 1]}
  scaled = rate / batch if name == "SGD" else rate  # Adam steps alike, however long gradients are.
  table = tfps.FeasignTable(
    "l2",
    mf_dim=3,
    mf_init_range=0.5,
    accessor=tfps.CtrAccessor(create_threshold=0),
    optimizer=getattr(tfps, name)(scaled, l2=l2 * batch),
    gradient_scale="sum",
  )
  inputs = {slot: keras.Input([], dtype=tf.int64, name=slot) for slot in ids}
  model = tfps.Model(inputs, network(tfps.Embedding(table, ["a", "b"])(inputs).mf))
  model.compile("sgd", "binary_crossentropy")
  model.train_on_batch(ids, y)  # It makes the vectors, without a step.
  keys = np.arange(1, 8)
  embedding = keras.layers.Embedding(7, 3, embeddings_regularizer=keras.regularizers.L2(l2 / 2))
  inputs = keras.Input([2], dtype=tf.int64)
  twin = keras.Model(inputs, network(embedding(inputs)))
  embedding.set_weights([table.lookup(keys)["mf_w"]])
  optimizers = {
    "SGD": keras.optimizers.SGD(rate),
    "Adam": keras.optimizers.Adam(rate, epsilon=1e-9),
  }
  twin.compile(optimizers[name], "binary_crossentropy")
  for _ in range(5):
    model.train_on_batch(ids, y)
    twin.train_on_batch(x, y)
  np.testing.assert_allclose(table.lookup(keys)["mf_w"], embedding.get_weights()[0], atol=1e-5)


class AllItems(tfps.Model):
  """Pairs of items; with `all_items`, a train step also looks up each of these."""

  def __init__(self, table, all_items):
    super().__init__()
    self.pairs = tfps.Embedding(table, ["item", "other"], share={"other": "item"})
    self.everything = tfps.Embedding(table, ["all"], share={"all": "item"}, sequences=["all"])
    self.all_items = all_items

  def call(self, x, training=None):
    p = network(self.pairs(x, training=training).mf)
    if not training or self.all_items is None:
      return p
    ids = tf.reshape(self.all_items, [tf.shape(p)[0], -1])
    vectors = self.everything({"all": ids}, training=True).sequences["all"]
    return p + 0.0 * tf.reduce_sum(vectors)


def test_where_all_rows_are_looked_up_all_step_as_with_a_dense_optimizer():
  batch, rate, l2 = 4, 0.05, 0.3
  table = tfps.FeasignTable(
    "l2",
    mf_dim=3,
    mf_init_range=0.5,
    accessor=tfps.CtrAccessor(create_threshold=0),
    optimizer=tfps.Adam(rate, l2=l2 * batch),
    gradient_scale="sum",
  )
  keys = np.arange(1, 17)
  model = AllItems(table, None)
  model.compile("sgd", "binary_crossentropy")
  model.train_on_batch({"item": keys, "other": keys}, np.zeros([16, 1]))  # It makes the vectors.
  embedding = keras.layers.Embedding(16, 3, embeddings_regularizer=keras.regularizers.L2(l2 / 2))
  inputs = keras.Input([2], dtype=tf.int64)
  twin = keras.Model(inputs, network(embedding(inputs)))
  first = table.lookup(keys)["mf_w"]
  embedding.set_weights([first])
  twin.compile(keras.optimizers.Adam(rate, epsilon=1e-9), "binary_crossentropy")
  model.all_items = tf.constant(keys)
  model.compile("sgd", "binary_crossentropy")
  rng = np.random.default_rng(7)
  for _ in range(8):
    x = rng.integers(1, 9, [batch, 2])  # The last eight items are in no batch.
    y = rng.integers(0, 2, [batch, 1]).astype(np.float32)
    model.train_on_batch({"item": x[:, 0], "other": x[:, 1]}, y)
    twin.train_on_batch(x - 1, y)
  found = table.lookup(keys)["mf_w"]
  np.testing.assert_allclose(found, embedding.get_weights()[0], atol=1e-5)
  assert np.abs(found - first)[8:].mean() > 0.05
  assert table.statistics()["show"] == 16 + 8 * batch


def test_wrong_rates_are_errors_of_the_op():
  table, _ = make_model(tfps.SGD(0.1))
  (server,) = table.servers
  for rates, factor, sentence in (
    (np.zeros([2, 2]), -1.0, r"rates must have the shape \[1,2\], not \[2,2\]"),
    (np.full([1, 2], -0.5), -1.0, "a learning rate must be 0 or more and finite, not -0.5"),
    (np.full([1, 2], np.inf), -1.0, "a learning rate must be 0 or more and finite, not inf"),
    (np.zeros([0, 2]), np.nan, "factor must be a finite number"),
  ):
    with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
      native.ops.tfps_set_learning_rates(
        table=server.handle, rates=rates.astype(np.float32), factor=factor
      )


def test_what_is_refused_and_told():
  with pytest.raises(ValueError, match="FTRL.learning_rate must be a number"):
    tfps.FTRL(SCHEDULES["piecewise"])
  table, _ = make_model(tfps.SGD(0.1), lr_optimizer=tfps.FTRL(0.1))
  with pytest.raises(ValueError, match="learning_rate_factor does not reach FTRL"):
    table.learning_rate_factor = 0.5
  with pytest.raises(ValueError, match="learning_rate_factor does not reach FTRL"):
    tfps.callbacks.FollowLearningRate(table, base=0.1)
  with pytest.raises(ValueError, match="give it one of them"):
    tfps.SGD(0.1, clipnorm=1.0, clipvalue=1.0)
  for value in (-0.5, float("nan"), float("inf")):
    for kind in (tfps.SGD, tfps.Adagrad, tfps.StdAdagrad, tfps.Adam, tfps.FTRL):
      with pytest.raises(ValueError, match=f"{kind.__name__}.l2 must be 0 or more and finite, not"):
        kind(l2=value)
  for name in ("clipnorm", "clipvalue"):
    with pytest.raises(ValueError, match=f"Adam.{name} must be above 0 or None"):
      tfps.Adam(**{name: -1.0})
  _, model = make_model(tfps.SGD(0.1))
  with pytest.raises(ValueError, match="has feasign tables, .* leave out jit_compile=True"):
    model.compile("sgd", "mse", jit_compile=True)
  with pytest.warns(UserWarning, match="global_clipnorm of optimizer SGD is that of the dense"):
    make_model(tfps.SGD(0.1), dense=keras.optimizers.SGD(0.1, global_clipnorm=1.0))
