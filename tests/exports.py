"""What the tests of exports share: a small model of strings, and trained examples."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.graph.autograph import libraries_unconverted

SPECS = {
  "user": tf.TensorSpec([None], tf.int64),
  "city": tf.TensorSpec([None], tf.string),
  "tags": tf.TensorSpec([None, None], tf.string),
  "history": tf.TensorSpec([None, None], tf.string),
  "weight": tf.TensorSpec([None, None], tf.float32),
}


def features(raw):
  """As a source's parse function would make them: dense, ragged and sparse, one slot left raw."""
  tags = tf.RaggedTensor.from_tensor(raw["tags"], padding="")
  history = tf.sparse.from_dense(raw["history"])
  return {
    "user": tfps.feasign("user", raw["user"]),
    "city": raw["city"],
    "tags": tfps.feasign("tags", tags),
    "history": tfps.feasign("history", history),
    "items": tfps.feasign("items", raw["history"], padding=""),
    "weight": raw["weight"],
  }


RAW = tfps.data.RawInputs(SPECS, features)


class TwoTables(tfps.Model):
  """Every way to look up: two layers on a table, a second table, weights, combiners, sequences."""

  def __init__(self, first, second):
    super().__init__()
    combiner = {"tags": "mean", "history": "sqrtn", "city": "sum"}
    self.pooled = tfps.Embedding(first, ["tags", "history", "city"], combiner)
    self.mixed = tfps.Embedding(first, ["user", "items"], {"items": None})
    self.other = tfps.Embedding(second, ["city", "items"], "mean")
    self.normalise = keras.layers.BatchNormalization()
    self.tower = keras.Sequential([keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    self.recurrent = keras.layers.GRU(3)

  def call(self, features, training=None):
    pooled = self.pooled(features, training=training)
    mixed = self.mixed(features, training=training)
    other = self.other(features, {"items": features["weight"]}, training=training)
    sequence = self.recurrent(mixed.sequences["items"])
    flat = [tf.reshape(part.mf, [-1, part.mf.shape[1] * part.mf.shape[2]])
            for part in (pooled, mixed, other)]  # fmt: skip
    x = self.normalise(tf.concat([*flat, sequence, mixed.lr], axis=1), training=training)
    return tf.sigmoid(pooled.lr_logit + mixed.lr_logit + other.lr_logit + self.tower(x))


def raw_batch(rng, size):
  """{name: array} of raw features."""
  words = np.array([""] + [f"w{i}" for i in range(40)])
  history = words[rng.integers(0, 41, (size, 3))]
  return {
    "user": rng.integers(0, 50, size),
    "city": words[rng.integers(0, 41, size)],
    "tags": words[np.sort(rng.integers(0, 41, (size, 4)))[:, ::-1]],  # padding comes last
    "history": history,
    "weight": rng.uniform(0.5, 2, history.shape).astype(np.float32),
  }


def make_model(**accessor):
  """A compiled `TwoTables` and its tables."""
  keras.utils.set_random_seed(3)
  accessor = tfps.CtrAccessor(**{"create_threshold": 2.0, **accessor})
  settings = dict(mf_init_range=0.5, num_shards=16, accessor=accessor)
  tables = [
    tfps.FeasignTable("first", mf_dim=3, optimizer=tfps.Adam(), **settings),
    tfps.FeasignTable("second", mf_dim=5, **settings),
  ]
  model = TwoTables(*tables)
  model.compile("adam", "binary_crossentropy")
  return model, tables


@libraries_unconverted()
def make_small_model(train=True, accessor=None, engine="native"):
  """A compiled model of one slot, trained if wanted, and its table."""
  keras.utils.set_random_seed(3)
  accessor = accessor or tfps.CtrAccessor(create_threshold=2.0)
  table = tfps.FeasignTable("small", mf_dim=2, accessor=accessor, engine=engine)
  inputs = {"city": keras.Input([], dtype=tf.string, name="city")}
  embedded = tfps.Embedding(table, ["city"])(inputs)
  model = tfps.Model(inputs, tf.sigmoid(embedded.lr_logit + keras.layers.Dense(1)(embedded.lr)))
  model.compile("adam", "binary_crossentropy")
  if train:
    train_small_model(model, seed=0)
  return model, table


@libraries_unconverted()
def train_small_model(model, seed):
  """Trains on three batches of random clicks."""
  rng = np.random.default_rng(seed)
  for _ in range(3):
    cities = {"city": tf.constant([f"w{i}" for i in rng.integers(0, 20, 64)])}
    model.train_on_batch(cities, rng.binomial(1, 0.3, (64, 1)).astype(np.float32))


SMALL_RAW = tfps.data.RawInputs({"city": SPECS["city"]}, dict)


@libraries_unconverted()
def train(model, rng, steps=10):
  """Trains on random clicks."""
  for _ in range(steps):
    raw = raw_batch(rng, 32)
    x = features({name: tf.constant(raw[name], spec.dtype) for name, spec in SPECS.items()})
    model.train_on_batch(x, rng.binomial(1, 0.3, (32, 1)).astype(np.float32))


class Tower(tfps.Model):
  """The vectors of some slots."""

  def __init__(self, table, slots):
    super().__init__()
    self.embedding = tfps.Embedding(table, slots)
    self.dense = keras.layers.Dense(3)

  def call(self, features, training=None):
    embedded = self.embedding(features, training=training)
    flat = tf.reshape(embedded.mf, [-1, embedded.mf.shape[1] * embedded.mf.shape[2]])
    return self.dense(tf.concat([flat, embedded.lr], axis=1))


class Towers(tfps.Model):
  """A user tower and an item tower on one table; both read the city."""

  def __init__(self, table):
    super().__init__()
    self.user = Tower(table, ["user", "city"])
    self.item = Tower(table, ["item", "city"])

  def call(self, features, training=None):
    user, item = self.user(features, training=training), self.item(features, training=training)
    return tf.sigmoid(tf.reduce_sum(user * item, axis=1, keepdims=True))


TOWERS_RAW = {
  name: tfps.data.RawInputs(
    {name: SPECS["user"], "city": SPECS["user"]},
    lambda raw: {slot: tfps.feasign(slot, values) for slot, values in raw.items()},
  )
  for name in ("user", "item")
}


def towers_features(rng, size):
  """{name: int64 [size]} of raw features of both towers."""
  return {slot: rng.integers(1, 40, size) for slot in ("user", "item", "city")}


@libraries_unconverted()
def train_towers(model, rng, steps=1):
  """Trains on random clicks."""
  for _ in range(steps):
    raw = towers_features(rng, 32)
    x = {slot: tfps.feasign(slot, tf.constant(values)) for slot, values in raw.items()}
    model.train_on_batch(x, rng.binomial(1, 0.3, (32, 1)).astype(np.float32))


def make_towers(rng, steps=3, engine="native", **accessor):
  """A compiled `Towers`, trained, and its table."""
  keras.utils.set_random_seed(3)
  accessor = tfps.CtrAccessor(**{"create_threshold": 1.0, **accessor})
  table = tfps.FeasignTable(
    "towers", mf_dim=2, accessor=accessor, mf_init_range=0.5, num_shards=16, engine=engine
  )
  model = Towers(table)
  model.compile("adam", "binary_crossentropy")
  train_towers(model, rng, max(steps, 1))
  return model, table
