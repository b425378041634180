"""The loops of fit, evaluate and predict on a source, against Keras's own on the same arrays."""

import numpy as np
import pytest
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
    self.dense = keras.layers.Dense(1)
    self.dense.build([None, 3])

  def call(self, x, training=None):
    return tf.sigmoid(self.dense(x["float"]) + self.embedding(x).lr_logit)


class Batches(keras.callbacks.Callback):
  """Keeps what Keras says after each batch."""

  def __init__(self):
    super().__init__()
    self.logs, self.params_given = [], None

  def on_train_batch_end(self, batch, logs=None):
    self.logs.append(dict(logs))

  def on_epoch_end(self, epoch, logs=None):
    self.params_given = dict(self.params)


def both(make_model, run, x_and_y=None, **source):
  """What `run(model, *data)` returns for arrays and for a source of them."""
  arrays = data() if x_and_y is None else x_and_y
  found = []
  for given in (arrays, (ArraySource(*arrays, **source),)):
    keras.utils.set_random_seed(1)
    keras.backend.reset_uids()
    found.append(run(make_model(), *given))
  return found


def fitted(model, *given, **arguments):
  if len(given) > 1:
    arguments.update(batch_size=BATCH, shuffle=False)
  return model.fit(*given, verbose=0, epochs=2, **arguments)


def same(found, expected):
  """That history, logs or metrics are those of Keras; what two values differ by is rounding."""
  tf.nest.assert_same_structure(found, expected)
  for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected)):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


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
    model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy", metrics=made, **settings)
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


@pytest.mark.parametrize("name", LOGS)
def test_history_is_what_keras_has(name):
  expected, found = both(LOGS[name], lambda *given: fitted(*given).history)
  same(found, expected)


@pytest.mark.parametrize("name", ["metrics", "own", "raw", "eager"])
def test_after_a_ticket_callbacks_see_what_the_last_batch_returned(name):
  def run(*given):
    batches = Batches()
    fitted(*given, callbacks=[batches])
    return batches.logs

  expected, found = both(LOGS[name], run)
  # 6 batches an epoch, in tickets of 2.
  same(found, [expected[i] for i in (1, 3, 5, 7, 9, 11)])


def test_a_ticket_without_examples_says_nothing():
  batches = Batches()
  model = LOGS["raw"]()
  model.fit(ArraySource(*data(), skipped=[2]), verbose=0, callbacks=[batches])
  assert batches.logs[2] == batches.logs[1] != batches.logs[0]


def test_a_step_without_logs_is_refused():
  class Silent(Tower):
    def train_step(self, data):
      super().train_step(data)

  with pytest.raises(ValueError, match=r"\(Empty logs\): let train_step return a dict"):
    compiled(Silent)().fit(ArraySource(*data()), verbose=0)


def test_an_eager_model_runs_in_python_when_it_is_told_later():
  seen = []

  class Looks(Tower):
    def train_step(self, data):
      if tf.executing_eagerly():
        seen.append(float(tf.reduce_sum(data[0]["float"])))
      return super().train_step(data)

  x, y = data()
  model = compiled(Looks)()
  model.fit(ArraySource(x, y), verbose=0)
  assert not seen
  model.run_eagerly = True
  model.fit(ArraySource(x, y), verbose=0)
  expected = [x["float"][i : i + BATCH].sum() for i in range(0, EXAMPLES, BATCH)]
  np.testing.assert_allclose(seen, expected, rtol=1e-5)
