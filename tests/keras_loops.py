"""Models whose steps use what Keras's loops allow, for one process and for a cluster."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.data import batching, index
from tfps.layers.step import Step

BATCH, EXAMPLES = 8, 43  # The last batch is smaller.


class ArraySource(tfps.data.Source):
  """Arrays (x, y, ...) as one day."""

  def __init__(self, *arrays, batches_per_ticket=2, skipped=()):
    super().__init__(["all"], batch_size=BATCH, batches_per_ticket=batches_per_ticket)
    self._arrays, self._tickets_skipped = arrays, skipped

  def _cut(self, ordinal):
    count, step = len(tf.nest.flatten(self._arrays)[0]), self._records_per_ticket
    return [index.Cuts("all", np.append(np.arange(0, count, step), count), step, count)]

  def _batches(self, ticket):
    is_there = tf.reduce_all([ticket.sequence != sequence for sequence in self._tickets_skipped])
    end = tf.where(is_there, ticket.end, ticket.begin)
    cut = lambda array: tf.constant(array)[ticket.begin : end]
    return batching.batches(tf.nest.map_structure(cut, self._arrays), end - ticket.begin, BATCH)


def data(examples=EXAMPLES):
  random = np.random.default_rng(0)
  x = {
    "id": random.integers(1, 9, examples),
    "float": random.normal(size=[examples, 3]).astype(np.float32),
  }
  return x, (random.random([examples, 1]) < 0.4).astype(np.float32)


class Tower(tfps.Model):
  """A row's weight and a dense layer."""

  def __init__(self):
    super().__init__()
    table = tfps.FeasignTable("rows", mf_dim=2, optimizer=tfps.SGD(0.1))
    self.embedding = tfps.Embedding(table, ["id"])
    self.dense = keras.layers.Dense(1, kernel_initializer=keras.initializers.GlorotUniform(1))
    self.dense.build([None, 3])

  def call(self, x, training=None):
    return tf.sigmoid(self.dense(x["float"]) + self.embedding(x).lr_logit)


class Named(keras.metrics.Metric):
  """A metric whose result is a dict."""

  def __init__(self):
    super().__init__(name="named")
    self.total = self.add_weight("total", initializer="zeros")

  def update_state(self, y_true, y_pred, sample_weight=None):
    self.total.assign_add(tf.reduce_sum(y_pred))

  def result(self):
    return {"sum": self.total, "pair": tf.stack([self.total, -self.total])}


class OwnLogs(Tower):
  """A train step that returns what is no metric: of its batch, a weight before the step."""

  def train_step(self, data):
    bias = 0.0 + self.dense.bias
    logs = super().train_step(data)
    # What is read before the step is not what is there afterwards.
    return logs | {"mean": tf.reduce_mean(data[0]["float"]), "before": bias, "by": {"two": 2.0}}


class RawLoss(Tower):
  """A train step whose only log has the name of a compiled metric that nobody updates."""

  def train_step(self, data):
    x, y = data
    with tf.GradientTape() as tape, Step(tape) as step:
      loss = tf.reduce_sum(keras.losses.binary_crossentropy(y, self(x, training=True)))
    dense, rows = tape.gradient(loss, [self.trainable_variables, step.rows])
    self.apply_gradients(zip(dense, self.trainable_variables), 1.0)
    step.push(rows, *self.counts(x, y, None), 1.0)
    return {"loss": loss}


def compiled(make_model, metrics=(), **settings):
  def make():
    model = make_model()
    made = [metric() if callable(metric) else metric for metric in metrics]
    given = {"loss": "binary_crossentropy", **settings}
    model.compile(keras.optimizers.SGD(0.1), metrics=made, **given)
    return model

  return make


LOGS = {
  "metrics": compiled(Tower, ["AUC", "accuracy"]),
  "arrays": compiled(Tower, [lambda: keras.metrics.Precision([0.3, 0.5], name="precision")]),
  "dicts": compiled(Tower, [Named]),
  "own": compiled(OwnLogs, ["AUC"]),
  "raw": compiled(RawLoss),
  "eager": compiled(OwnLogs, ["AUC"], run_eagerly=True),
}


def in_batch(y, y_pred):
  """A loss of all pairs of a batch."""
  return tf.nn.softmax_cross_entropy_with_logits(tf.transpose(y), tf.transpose(y_pred))


class Regularized(Tower):
  """Losses that are added: of a weight, of an activity, of the inputs."""

  def __init__(self):
    super().__init__()
    self.dense.kernel_regularizer = keras.regularizers.L2(0.1)
    self.hidden = keras.layers.Dense(
      2, kernel_initializer=keras.initializers.GlorotUniform(2), activity_regularizer="l2"
    )

  def call(self, x, training=None):
    self.add_loss(tf.reduce_mean(x["float"] ** 2))
    return super().call(x, training) + 0.1 * tf.reduce_mean(self.hidden(x["float"]))


class ReadsX(Tower):
  def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
    return super().compute_loss(x, y, y_pred, sample_weight) * tf.reduce_mean(x["float"])

  def compute_metrics(self, x, y, y_pred, sample_weight):
    logs = super().compute_metrics(x, y, y_pred, sample_weight)
    return logs | {"first": x["float"][0, 0], "vector": x["float"][0]}


class OwnTest(Tower):
  """A test_step with a state of its own, and a log that is of the last batch."""

  def __init__(self):
    super().__init__()
    self.seen = tf.Variable(0, trainable=False)
    self.positive = keras.metrics.Sum(name="positive")

  def test_step(self, data):
    x, y = data
    self.seen.assign_add(tf.shape(y)[0])
    self.positive.update_state(y)
    return {
      "positive": self.positive.result(),
      "seen": tf.identity(self.seen),
      "largest": tf.reduce_max(self(x, training=False)),
    }


EVALUATED = {
  "metrics": compiled(Tower, ["AUC", "accuracy"]),
  "arrays": LOGS["arrays"],
  "dicts": LOGS["dicts"],
  "in batch": compiled(Tower, loss=in_batch),
  "sum": compiled(Tower, loss=keras.losses.BinaryCrossentropy(reduction="sum")),
  "added losses": compiled(Regularized),
  "reads x": compiled(ReadsX),
  "own": compiled(OwnTest),
  "eager": compiled(OwnTest, run_eagerly=True),
}


class Structures(Tower):
  """A predict_step that returns everything that Keras joins."""

  def predict_step(self, data):
    x, *_ = keras.utils.unpack_x_y_sample_weight(data)
    scores = self(x, training=False)
    lengths = tf.cast(x["id"] % 3, tf.int32)
    ragged = tf.RaggedTensor.from_row_lengths(tf.range(tf.reduce_sum(lengths)), lengths)
    return {
      "scores": scores,
      "pair": (x["id"], [tf.reduce_sum(x["id"])]),
      "ragged": ragged,
      "wide": tf.zeros([tf.shape(scores)[0], tf.cast(x["id"][0], tf.int32)]),
      "sparse": tf.sparse.from_dense(x["float"]),
      "words": tf.strings.as_string(x["id"]),
    }


def numpy_of(structure):
  """What `Structures` predicts, without tensors."""

  def plain(value):
    if isinstance(value, tf.SparseTensor):
      value = tf.sparse.to_dense(value).numpy()
    return value.to_list() if isinstance(value, tf.RaggedTensor) else value

  return {**structure, **{name: plain(structure[name]) for name in ("ragged", "wide", "sparse")}}
