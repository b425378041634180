"""Models that programs share."""

import tensorflow as tf
import tf_keras as keras

import tfps

layers = keras.layers


def tower(way, units=1, activation="sigmoid", **settings):
  """Four numbers to `units`, by one hidden layer."""
  x = keras.Input([4], name="x")
  hidden = layers.Dense(3, "tanh", **settings)(x)
  return way.Model(x, layers.Dense(units, activation, name="y")(hidden))


def compiled(way, optimizer="adam", loss="binary_crossentropy", **settings):
  """`tower`, compiled."""
  model = tower(way)
  model.compile(optimizer, loss, **settings)
  return model


def table(name="ctr", **settings):
  """A table that admits at the first click or the first shows."""
  settings = {"accessor": tfps.CtrAccessor(create_threshold=0.15), "mf_init_range": 0.1, **settings}
  return tfps.FeasignTable(name, mf_dim=2, **settings)


class Wide(tfps.Model):
  """Users, words and numbers: what a click model is."""

  def __init__(self, of_table, **settings):
    super().__init__(**settings)
    self.embedding = tfps.Embedding(of_table, ["user", "words"], combiner="mean")
    self.hidden = layers.Dense(3, "tanh")
    self.last = layers.Dense(1)

  def call(self, x, training=None):
    found = self.embedding(x)
    deep = tf.concat([tf.reshape(found.mf, [-1, 4]), x["numbers"]], axis=1)
    return tf.sigmoid(found.lr_logit + self.last(self.hidden(deep)))


def functional(of_table):
  """The same as a functional model."""
  inputs = {
    "user": keras.Input([], dtype=tf.int64, name="user"),
    "words": keras.Input([3], dtype=tf.int64, name="words"),
    "numbers": keras.Input([2], name="numbers"),
  }
  found = tfps.Embedding(of_table, ["user", "words"], combiner="mean")(inputs)
  deep = layers.Concatenate()([layers.Flatten()(found.mf), inputs["numbers"]])
  logit = found.lr_logit + layers.Dense(1)(layers.Dense(3, "tanh")(deep))
  return tfps.Model(inputs, tf.sigmoid(logit))


def wide(optimizer="adam", loss="binary_crossentropy", table_settings=None, **settings):
  """`Wide`, built and compiled."""
  model = Wide(table(**(table_settings or {})))
  model(
    {
      "user": tf.zeros([1], tf.int64),
      "words": tf.zeros([1, 3], tf.int64),
      "numbers": tf.zeros([1, 2]),
    }
  )
  model.compile(optimizer, loss, **settings)
  return model
