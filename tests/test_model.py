"""tfps.Model: what a train step pulls, computes and pushes."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.training.model import trainer_of

IDS = {"user": [1, 2, 1, 3], "tags": [[4, 5], [4, 0], [0, 0], [5, 5]]}
LABELS = np.array([[1.0], [0.0], [1.0], [0.0]], np.float32)


class Linear(tfps.Model):
  """p = sigmoid(sum of the lr weights)."""

  def __init__(self, table, slots):
    super().__init__()
    self.embedding = tfps.Embedding(table, slots)

  def call(self, features, training=None):
    return tf.sigmoid(self.embedding(features, training=training).lr_logit)


def make_table(**arguments):
  arguments = {"mf_dim": 2, "optimizer": tfps.SGD(0.5), "gradient_scale": "sum"} | arguments
  return tfps.FeasignTable("test", **arguments)


def features():
  return {slot: tfps.feasign(slot, ids, padding=0) for slot, ids in IDS.items()}


def train_once(model, loss="binary_crossentropy", y=LABELS, **arguments):
  model.compile("sgd", loss)
  model.fit(features(), y, batch_size=4, shuffle=False, verbose=0, **arguments)


def test_every_occurrence_counts_and_padding_does_not():
  table = make_table()
  train_once(Linear(table, ["user", "tags"]))
  rows = table.lookup([*tfps.feasign("user", [1, 2, 3]), *tfps.feasign("tags", [4, 5]), 0])
  shows, clicks = rows["statistics"][:, 0], rows["statistics"][:, 1]
  np.testing.assert_array_equal(shows, [2, 1, 1, 2, 3, 0])
  np.testing.assert_array_equal(clicks, [2, 0, 0, 1, 1, 0])
  np.testing.assert_array_equal(rows["slot"], [1, 1, 1, 2, 2, 0])


@pytest.mark.parametrize(
  "loss", ["binary_crossentropy", keras.losses.BinaryCrossentropy(reduction="sum")]
)
def test_the_step_uses_the_gradient_of_the_sum_over_examples(loss):
  table = make_table()
  train_once(Linear(table, ["user", "tags"]), loss)
  # All weights start at 0, so every prediction is 0.5 and an occurrence's gradient is 0.5 - label.
  rows = table.lookup([*tfps.feasign("user", [1, 2, 3]), *tfps.feasign("tags", [4, 5])])
  np.testing.assert_allclose(rows["lr_w"], -0.5 * np.array([-1, 0.5, 0.5, 0, 0.5]), rtol=1e-6)


def test_per_show_uses_the_mean_per_occurrence():
  table = make_table(gradient_scale="per_show")
  train_once(Linear(table, ["user", "tags"]))
  rows = table.lookup([*tfps.feasign("user", [1, 2, 3]), *tfps.feasign("tags", [4, 5])])
  np.testing.assert_allclose(rows["lr_w"], -0.5 * np.array([-0.5, 0.5, 0.5, 0, 0.5 / 3]), rtol=1e-6)


def test_sample_weights_weigh_shows_clicks_and_gradients():
  table = make_table()
  weights = np.array([2.0, 1.0, 0.5, 0.0], np.float32)
  train_once(Linear(table, ["user"]), sample_weight=weights)
  rows = table.lookup(tfps.feasign("user", [1, 2, 3]))
  np.testing.assert_allclose(rows["statistics"][:, :2], [[2.5, 2.5], [1, 0], [0, 0]])
  np.testing.assert_allclose(rows["lr_w"], -0.5 * np.array([-1.25, 0.5, 0.0]), rtol=1e-6)


def test_the_model_names_the_label_that_is_the_click():
  class TwoLabels(Linear):
    def call(self, x, training=None):
      return tf.repeat(super().call(x, training), 2, axis=1)

  clicks = []
  for click_label in (None, 1):
    table = make_table()
    model = TwoLabels(table, ["user"])
    model.click_label = click_label
    train_once(model, y=np.concatenate([1 - LABELS, LABELS], axis=1))
    clicks.append(table.lookup(tfps.feasign("user", [1]))["statistics"][0, 1])
  assert clicks == [0, 2]


def test_examples_may_bring_their_own_show_and_click():
  class Counted(Linear):
    def counts(self, x, y, sample_weight):
      return tf.constant([0.0, 3.0, 1.0, 1.0]), tf.constant([1.0, 0.0, 0.0, 0.0])

  table = make_table()
  train_once(Counted(table, ["user"]))
  statistics = table.lookup(tfps.feasign("user", [1, 2, 3]))["statistics"]
  np.testing.assert_array_equal(statistics[:, :2], [[1, 1], [3, 0], [1, 0]])


def test_two_layers_on_one_table_push_each_feasign_once():
  class TwoLayers(tfps.Model):
    def __init__(self, table):
      super().__init__()
      self.left = tfps.Embedding(table, ["user"])
      self.right = tfps.Embedding(table, ["user", "tags"])

    def call(self, x, training=None):
      left, right = self.left(x, training=training), self.right(x, training=training)
      return tf.sigmoid(left.lr_logit + right.lr_logit)

  table = make_table()
  train_once(TwoLayers(table))
  rows = table.lookup([*tfps.feasign("user", [1, 2, 3]), *tfps.feasign("tags", [4, 5])])
  np.testing.assert_array_equal(rows["statistics"][:, 0], [4, 2, 2, 2, 3])
  np.testing.assert_allclose(rows["lr_w"], -0.5 * np.array([-2, 1, 1, 0, 0.5]), rtol=1e-6)
  assert table.statistics()["pushed_keys"] == 5


def test_any_number_of_slots_is_one_pull_and_one_push_per_step():
  source = tfps.data.ClickStream(days=1, examples_per_day=10)
  table = make_table()
  model = Linear(table, list(source.slots))
  model.compile("sgd", "binary_crossentropy")
  model.build_for(source)
  program = trainer_of(model).program(source, tfps.Communication())
  graph = program.train.get_concrete_function().graph.as_graph_def()
  ops = [node.op for function in graph.library.function for node in function.node_def]
  # The loop's body appears once, whatever the number of slots. The first batch is routed before it,
  # each other one while the one before it is trained on.
  assert [ops.count(op) for op in ("TfpsRoute", "TfpsMakePush", "TfpsExchange")] == [2, 1, 2]


def test_admitted_vectors_train_and_the_admitting_push_does_not_move_them():
  class SumOfMf(tfps.Model):
    def __init__(self, table):
      super().__init__()
      self.embedding = tfps.Embedding(table, ["user"])

    def call(self, x, training=None):
      return tf.sigmoid(
        tf.reduce_sum(self.embedding(x, training=training).mf, axis=[1, 2])[:, None]
      )

  table = make_table(accessor=tfps.CtrAccessor(create_threshold=2.0))
  model = SumOfMf(table)
  user_1 = tfps.feasign("user", [1])
  train_once(model)
  created = table.lookup(user_1)
  assert created["admitted"][0] and np.all(np.abs(created["mf_w"]) <= 1e-4)
  assert not table.lookup(tfps.feasign("user", [2]))["admitted"][0]
  train_once(model)
  np.testing.assert_allclose(table.lookup(user_1)["mf_w"], created["mf_w"] + 0.5, atol=1e-3)


def test_evaluate_predict_and_validation_change_nothing():
  table = make_table()
  model = Linear(table, ["user", "tags"])
  train_once(model)
  keys = [*tfps.feasign("user", [1, 2, 3, 99]), *tfps.feasign("tags", [4, 5])]
  before = table.lookup(keys)
  model.evaluate(features(), LABELS, verbose=0)
  model.predict(features() | {"user": tfps.feasign("user", [99, 98, 97, 96])}, verbose=0)
  after = table.lookup(keys)
  for name, value in before.items():
    np.testing.assert_array_equal(value, after[name], err_msg=name)
  shows = table.statistics()["show"]
  model.fit(features(), LABELS, validation_data=(features(), LABELS), verbose=0)
  assert table.statistics()["show"] == shows + 9


def test_functional_models_train():
  table = make_table()
  inputs = {"user": keras.Input([], dtype=tf.int64, name="user")}
  embedded = tfps.Embedding(table, ["user"])(inputs)
  model = tfps.Model(inputs, tf.sigmoid(embedded.lr_logit))
  model.compile("sgd", "binary_crossentropy")
  model.fit({"user": features()["user"]}, LABELS, verbose=0)
  assert table.statistics()["show"] == 4
  assert table.lookup(tfps.feasign("user", [1]))["lr_w"][0] == pytest.approx(0.5)
  assert isinstance(model, tfps.Model)
  # A functional model leaves subclasses what they were; one that is both would not.
  train_once(Linear(make_table(), ["user"]))
  with pytest.raises(TypeError, match="call tfps.Model"):
    type("Both", (tfps.Model,), {})(inputs, model.outputs)


def test_a_table_in_a_plain_keras_model_is_refused():
  table = make_table()
  inputs = {"user": keras.Input([], dtype=tf.int64, name="user")}
  model = keras.Model(inputs, tf.sigmoid(tfps.Embedding(table, ["user"])(inputs).lr_logit))
  model.compile("sgd", "binary_crossentropy")
  with pytest.raises(ValueError, match="make the model a tfps.Model"):
    model.fit({"user": features()["user"]}, LABELS, verbose=0)


@pytest.mark.parametrize(
  "arguments, field",
  [
    ({"mf_dim": 0}, "mf_dim"),
    ({"gradient_scale": "mean"}, "gradient_scale"),
    ({"num_shards": 0}, "num_shards"),
  ],
)
def test_wrong_table_settings_name_the_field(arguments, field):
  with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=field):
    make_table(**arguments)


def test_two_tables_of_one_name_are_two_tables():
  first, second = make_table(), make_table()
  train_once(Linear(first, ["user"]))
  assert (first.statistics()["rows"], second.statistics()["rows"]) == (3, 0)
