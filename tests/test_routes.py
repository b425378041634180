"""Which pulls are known before a batch is trained on."""

import numpy as np
import pytest
import tensorflow as tf

import tfps
from tfps.training.routes import Routes

SPEC = ({"user": tf.TensorSpec([None], tf.int64)}, tf.TensorSpec([None, 1], tf.float32))


class Ids(tfps.Model):
  """Looks up what `change` makes of the user's ids."""

  def __init__(self, change):
    super().__init__()
    self.change = change
    self.shift = tf.Variable(1, dtype=tf.int64, trainable=False)
    names = tf.lookup.KeyValueTensorInitializer(
      tf.range(9, dtype=tf.int64), tf.range(1, 10, dtype=tf.int64)
    )
    self.names = tf.lookup.StaticHashTable(names, 77)
    self.embedding = tfps.Embedding(tfps.FeasignTable("test"), ["user"])

  def call(self, features, training=None):
    output = self.embedding({"user": self.change(self, features["user"])}, training=training)
    if self.change is chained:
      ids = 1 + tf.cast(output.lr_logit > 0, tf.int64)
      output = self.embedding({"user": ids}, training=training)
    return tf.sigmoid(output.lr_logit)


def plain(model, ids):
  del model
  return ids + 1


def looked_up(model, ids):
  return model.names.lookup(ids)


def random(model, ids):
  del model
  return ids + tf.random.uniform(tf.shape(ids), 1, 99, tf.int64)


def shifted(model, ids):
  return ids + model.shift


def chained(model, ids):
  del model
  return ids


@pytest.mark.parametrize(
  "change, of_batch",
  [(plain, True), (looked_up, True), (random, False), (shifted, False), (chained, False)],
)
def test_ids_are_known_ahead_where_they_are_a_function_of_the_batch(change, of_batch):
  model = Ids(change)
  routes = Routes(model, SPEC)
  assert routes.are_of_batch == of_batch
  assert len(routes.pulls) == (2 if change is chained else 1)
  if of_batch:
    ids = tf.constant([3, 1, 3], tf.int64)
    found = tf.function(routes)(({"user": ids}, tf.zeros([3, 1])))
    (((keys,), _, positions),) = found
    np.testing.assert_array_equal(keys.numpy()[positions], change(model, ids))


@pytest.mark.parametrize("change", [plain, random, chained])
def test_what_is_pushed_is_what_was_pulled(change, tmp_path):
  (tmp_path / "clicks").write_text("\n".join(f"{i % 7} {i % 2}" for i in range(40)))

  def parse(lines):
    values = tf.strings.to_number(tf.strings.split(lines, " ").to_tensor(), tf.int64)
    return {"user": values[:, 0]}, tf.cast(values[:, 1:2], tf.float32)

  source = tfps.data.source(tmp_path / "clicks", parse, batch_size=6, batches_per_ticket=3)
  model = Ids(change)
  model.compile("sgd", "binary_crossentropy")
  model.fit(source, verbose=0)
  (table,) = (model.embedding.table,)
  padding = 6 if change is chained else 0  # How many examples have user 0.
  assert table.statistics()["show"] == 40 * len(Routes(model, SPEC).pulls) - padding
