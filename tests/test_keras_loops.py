"""The loops of fit, evaluate and predict on a source, against Keras's own on the same arrays."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tests.keras_loops import (
  BATCH,
  EVALUATED,
  EXAMPLES,
  LOGS,
  ArraySource,
  Named,
  Regularized,
  Structures,
  Tower,
  compiled,
  data,
  numpy_of,
)
from tfps.graph.traced import Traced
from tfps.training import logs as logs_lib


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
    if np.asarray(other).dtype.kind in "OSU":
      np.testing.assert_array_equal(one, other)
    else:
      np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


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


# evaluate, validation and predict.


@pytest.mark.parametrize("name", EVALUATED)
@pytest.mark.parametrize("batches_per_ticket", [1, 4])
def test_evaluate_is_keras_on_batches_whatever_a_ticket_holds(name, batches_per_ticket):
  def run(model, *given):
    arguments = dict(batch_size=BATCH) if len(given) > 1 else {}
    values = model.evaluate(*given, verbose=0, **arguments)
    return values, model.evaluate(*given, verbose=0, return_dict=True, **arguments)

  expected, found = both(EVALUATED[name], run, batches_per_ticket=batches_per_ticket)
  same(found, expected)


@pytest.mark.parametrize("name", ["metrics", "in batch", "own"])
def test_validation_is_that_of_keras(name):
  calls = []

  class Hooks(keras.callbacks.Callback):
    def on_test_begin(self, logs=None):
      calls.append("begin")

    def on_test_end(self, logs=None):
      calls.append(sorted(logs))

  def run(model, *given):
    validation = given if len(given) > 1 else given[0]
    more = dict(validation_batch_size=BATCH) if len(given) > 1 else {}
    history = fitted(model, *given, validation_data=validation, callbacks=[Hooks()], **more)
    return history.history

  expected, found = both(EVALUATED[name], run)
  same(found, expected)
  assert len(calls) == 8 and calls[:4] == calls[4:]


@pytest.mark.parametrize("validation_freq", [2, [1]])
def test_validation_now_and_then(validation_freq):
  def run(model, *given):
    validation = given if len(given) > 1 else given[0]
    return fitted(
      model, *given, validation_data=validation, validation_freq=validation_freq
    ).history

  expected, found = both(compiled(Tower), run)
  assert len(found["val_loss"]) == 1
  same({**found, "val_loss": []}, {**expected, "val_loss": []})


@pytest.mark.parametrize("eager", [False, True])
def test_predict_joins_what_predict_step_returns_as_keras_does(eager):
  class Hooks(keras.callbacks.Callback):
    def __init__(self):
      super().__init__()
      self.seen = []

    def on_predict_batch_end(self, batch, logs=None):
      self.seen.append((batch, logs["outputs"]["scores"]))

    def on_predict_end(self, logs=None):
      self.seen.append("end")

  def run(model, x, *given):
    hooks = Hooks()
    arguments = dict(batch_size=BATCH) if given else {}
    found = model.predict(x, verbose=0, callbacks=[hooks], **arguments)
    return numpy_of(found), hooks.seen

  expected, found = both(compiled(Structures, run_eagerly=eager), run)
  assert type(found[0]["pair"]) is tuple
  same(found, expected)


def test_predict_of_nothing_is_refused_as_by_keras():
  with pytest.raises(ValueError, match="Unexpected result of `predict_function`.*is empty"):
    compiled(Tower)().predict(ArraySource(*data(), skipped=[0, 1, 2]))


def test_skipped_tickets_change_no_evaluation():
  x, y = data()
  model = compiled(Tower, ["AUC"])()
  found = model.evaluate(ArraySource(x, y, skipped=[1, 2]), verbose=0)
  begin = {name: values[: 2 * BATCH] for name, values in x.items()}
  same(found, model.evaluate(begin, y[: 2 * BATCH], batch_size=BATCH, verbose=0))


def test_a_model_without_labels_learns_from_added_losses():
  class Unsupervised(Regularized):
    def call(self, x, training=None):
      scores = super().call(x, training)
      self.add_loss(tf.reduce_mean(scores**2))
      return scores

  def make():
    model = Unsupervised()
    model.compile(keras.optimizers.SGD(0.1))
    return model

  def run(model, *given):
    arguments = {} if isinstance(given[0], ArraySource) else dict(batch_size=BATCH, shuffle=False)
    history = model.fit(*given, verbose=0, epochs=2, **arguments).history
    rows = model.embedding.table.lookup(tfps.feasign("id", np.arange(1, 9)))
    return history, rows["statistics"][:, :2], rows["lr_w"]

  x, _ = data()
  hashed = lambda x: x | {"id": tfps.feasign("id", x["id"]).numpy()}
  expected, found = both(make, run, (hashed(x),))
  same(found, expected)
  assert found[1][:, 0].sum() == 2 * EXAMPLES and not found[1][:, 1].any()


def test_class_weights_are_those_of_keras():
  def run(model, *given):
    return fitted(model, *given, class_weight={0: 1.0, 1: 3.0}).history, model.get_weights()

  expected, found = both(compiled(Tower, weighted_metrics=["accuracy"]), run)
  same(found, expected)


def test_history_has_the_parameters_of_keras():
  batches = Batches()
  model = compiled(Tower)()
  model.fit(ArraySource(*data()), epochs=3, initial_epoch=1, verbose=0, callbacks=[batches])
  assert batches.params_given == {"verbose": 0, "epochs": 3, "steps": 3}
  assert model.history.epoch == [1, 2]


def test_verbose_is_that_of_keras(capsys):
  model, source = compiled(Tower)(), ArraySource(*data())
  lines = {}
  for verbose in (0, 1, 2, "auto"):
    model.fit(source, verbose=verbose)
    model.evaluate(source, verbose=verbose)
    model.predict(source, verbose=verbose)
    lines[verbose] = capsys.readouterr().out
  assert lines[0] == "" and "3/3 [====" in lines[1] and "6/6 [====" in lines[1]
  assert "[==" not in lines[2] and "3/3 - " in lines[2] and "6/6 - " in lines[2]
  assert "3/3 [====" in lines["auto"]


def test_an_average_of_weights_is_theirs_at_the_end():
  def make():
    model = Tower()
    model.compile(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5), "mse")
    return model

  def run(model, *given):
    fitted(model, *given)
    return model.get_weights()

  expected, found = both(make, run)
  same(found, expected)


@pytest.mark.parametrize("argument, remedy", [
  ({"y": np.ones(3)}, "as (x, y)"),
  ({"batch_size": 3}, "with this batch_size"),
  ({"sample_weight": np.ones(3)}, "as (x, y, sample_weight)"),
  ({"validation_split": 0.1}, "as validation_data"),
  ({"steps_per_epoch": 2}, "source.day"),
  ({"validation_steps": 2}, "source.day"),
  ({"validation_batch_size": 2}, "with this batch_size"),
  ({"shuffle": True}, "make it with shuffle=True"),
  ({"validation_data": data()}, "wrap it in tfps.data.source"),
  ({"validation_freq": "often"}, "a whole number or a list"),
  ({"class_weight": {0: 1.0, 2: 1.0}}, "keys from 0 to one less"),
])  # fmt: skip
def test_what_fit_does_not_take_is_refused_before_it_trains(argument, remedy):
  model = compiled(Tower)()
  with pytest.raises(ValueError) as raised:
    model.fit(ArraySource(*data()), verbose=0, **argument)
  assert next(iter(argument)) in str(raised.value) and remedy in str(raised.value)
  assert model.embedding.table.statistics()["rows"] == 0


def test_what_evaluate_and_predict_do_not_take_is_refused():
  model, source = compiled(Tower)(), ArraySource(*data())
  for argument in ({"steps": 1}, {"batch_size": 1}):
    for call in (model.evaluate, model.predict):
      with pytest.raises(ValueError, match=rf"^{next(iter(argument))} does not go .*: \w.*\.$"):
        call(source, **argument)
  with pytest.raises(TypeError, match="Invalid keyword arguments: .'stepps'"):
    model.evaluate(source, stepps=1)
  with pytest.raises(ValueError, match="^validation_data is a source, but x is not"):
    model.fit(*data(), validation_data=source)
  for harmless in ("max_queue_size", "workers", "use_multiprocessing"):
    model.evaluate(source, verbose=0, **{harmless: 2})


def test_what_xla_cannot_compile_is_refused_and_steps_per_execution_is_harmless():
  refused = "^model 'tower.*' has feasign tables, .*jit_compile=True.$"
  with pytest.raises(ValueError, match=refused):
    compiled(Tower, jit_compile=True)()
  model = compiled(Tower)()
  model.jit_compile = True
  for given in ((ArraySource(*data()),), data()):
    with pytest.raises(ValueError, match=refused):
      model.fit(*given, verbose=0)
  model = compiled(Tower, steps_per_execution=4)()
  assert len(model.fit(ArraySource(*data()), verbose=0).history["loss"]) == 1


def test_batches_and_other_sources_after_a_fit():
  x, y = data()
  model = compiled(Tower, ["accuracy"])()
  model.fit(ArraySource(x, y), verbose=0)
  half = {name: values[:BATCH] for name, values in x.items()}
  tested = model.test_on_batch(half, y[:BATCH])
  same(model.evaluate(ArraySource(half, y[:BATCH]), verbose=0), tested)
  same(model.predict(ArraySource(half, y[:BATCH]), verbose=0), model.predict_on_batch(half))
  before = model.embedding.table.statistics()["show"]
  trained = model.train_on_batch(half, y[:BATCH])
  np.testing.assert_allclose(trained, tested, rtol=1e-5)
  model.fit(ArraySource(half, y[:BATCH]), verbose=0)
  assert model.embedding.table.statistics()["show"] == before + 2 * BATCH


def test_several_inputs_and_outputs_with_losses_and_weights_of_their_own():
  def make():
    inputs = {
      "id": keras.Input([], dtype=tf.int64, name="id"),
      "float": keras.Input([3], name="float"),
    }
    table = tfps.FeasignTable("rows", mf_dim=2, optimizer=tfps.SGD(0.1))
    rows = tfps.Embedding(table, ["id"])(inputs).lr_logit
    start = keras.initializers.GlorotUniform
    buy = keras.layers.Dense(1, "sigmoid", kernel_initializer=start(1), name="buy")
    click = keras.layers.Dense(1, "sigmoid", kernel_initializer=start(2), name="click")
    joined = tf.concat([rows, inputs["float"]], 1)
    model = tfps.Model(inputs, {"click": click(joined), "buy": buy(joined)})
    model.click_label = "click"
    model.compile(
      keras.optimizers.SGD(0.1),
      {"click": "binary_crossentropy", "buy": "mse"},
      metrics={"click": ["AUC"], "buy": ["mae"]},
      weighted_metrics={"buy": [keras.metrics.MeanAbsoluteError(name="weighted")]},
      loss_weights={"click": 2.0, "buy": 0.5},
    )
    return model

  x, click = data()
  x = x | {"id": tfps.feasign("id", x["id"]).numpy()}
  y = {"click": click, "buy": np.roll(click, 3) * 2}
  weights = {"click": np.arange(EXAMPLES) % 3 * 1.0, "buy": np.ones(EXAMPLES)}
  weights = {name: value.astype(np.float32) for name, value in weights.items()}

  def run(model, *given):
    table = next(layer for layer in model.layers if isinstance(layer, tfps.Embedding)).table
    arguments = {}
    if len(given) > 1:
      given, arguments = given[:2], dict(sample_weight=given[2])
    history = fitted(model, *given, **arguments).history
    if len(given) > 1:
      arguments["batch_size"] = BATCH
    values = model.evaluate(*given, verbose=0, **arguments)
    counts = table.lookup(np.unique(x["id"]))["statistics"][:, :2]
    return history, values, counts

  expected, found = both(make, run, (x, y, weights))
  same(found, expected)
  assert found[2].sum(axis=0) == pytest.approx(
    [2 * weights["click"].sum(), 2 * (weights["click"] * click[:, 0]).sum()]
  )


def test_metrics_that_do_not_add_up_are_warned_of():
  class Largest(keras.metrics.Metric):
    def __init__(self):
      super().__init__(name="largest")
      self.value = self.add_weight("value", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
      self.value.assign(tf.maximum(self.value, tf.reduce_max(y_pred)))

    def result(self):
      return self.value

  for metrics, names in (([Largest], ["largest"]), (["AUC", Named, keras.metrics.F1Score], [])):
    model = compiled(Tower, metrics)()
    source = ArraySource(*data())
    model.build_for(source)
    traced = Traced(model.test_step, source.element_spec)
    with warnings.catch_warnings(record=True) as told:
      warnings.simplefilter("always")
      logs_lib.warn_of_own_metrics(model, traced)
    assert [str(one.message).split("'")[1] for one in told] == names
    assert all("use assign_add" in str(one.message) for one in told)


@pytest.mark.parametrize("call, kind", [("fit", "train"), ("evaluate", "test"), ("predict",) * 2])
def test_a_loop_of_the_models_own_is_refused(call, kind):
  model = type("Own", (Tower,), {f"make_{kind}_function": lambda self, force=False: None})()
  model.compile("sgd", "mse")
  with pytest.raises(ValueError, match=f"make_{kind}_function, .*: override {kind}_step.$"):
    getattr(model, call)(ArraySource(*data()))
