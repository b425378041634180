"""What users do that is in no list."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

import tfps
from tests.keras_judge import data
from tests.keras_judge.feature import Features
from tests.keras_judge.models import compiled, functional, table, tower, wide

FEATURES = Features("usage")
layers, optimizers = keras.layers, keras.optimizers


@FEATURES.add("two models in a process", cluster=True)
def two_models(way):
  examples = data.dense()
  one, other = compiled(way), compiled(way, "sgd", "mse")
  for model in (one, other, one):
    way.fit(model, examples)
  for model in (one, other):
    way.evaluate(model, examples)
    way.see_model(model)


@FEATURES.add("fit after fit, on other examples", cluster=True)
def fit_after_fit(way):
  model = compiled(way, metrics=["AUC"])
  way.fit(model, data.dense(), epochs=2)
  way.fit(model, data.validation())
  way.fit(model, data.dense(), epochs=3, initial_epoch=2)
  way.evaluate(model, data.dense())
  way.see_model(model)


def _compile_anew(
  name, *features, make=compiled, cluster=True, examples=data.dense, only="", note="", **settings
):
  def program(way):
    model = make(way, optimizers.SGD(0.1), metrics=["mae"])
    train, test = examples(), examples().part(0, 20)
    way.fit(model, train, test)
    way.evaluate(model, test)
    change = settings["change"]
    change(model)
    way.test(model, train, test)

  program.__name__ = f"compile_anew_{name}"
  FEATURES.add(*features, cluster=cluster, only=only, note=note)(program)


_compile_anew(
  "loss",
  "compile anew: another loss",
  cluster=False,
  change=lambda model: model.compile("sgd", "mae"),
)
_compile_anew(
  "optimizer",
  "compile anew: another optimizer and learning rate",
  change=lambda model: model.compile(optimizers.Adam(0.05), "binary_crossentropy"),
)
_compile_anew(
  "metrics",
  "compile anew: other metrics",
  cluster=False,
  change=lambda model: model.compile("sgd", "mse", metrics=["AUC", "mse"]),
)


def _freeze(model):
  model.layers[1].trainable = False
  model.compile("sgd", "binary_crossentropy")


_compile_anew("frozen", "compile anew: a frozen layer", change=_freeze)


def _freeze_all(model):
  model.trainable = False
  model.compile("sgd", "binary_crossentropy")


_compile_anew(
  "frozen_model",
  "compile anew: a frozen model",
  cluster=False,
  change=_freeze_all,
  only="^(?!optimizer)",
  note="steps count in optimizer.iterations, too",
)


def _of_table(way, *arguments, **settings):
  return wide(*arguments, **settings)


def _freeze_embedding(model):
  model.embedding.trainable = False
  model.compile("sgd", "binary_crossentropy")


_compile_anew(
  "frozen_embedding",
  "compile anew: a frozen tfps.Embedding",
  make=_of_table,
  examples=data.rows,
  change=_freeze_embedding,
)


@FEATURES.add("freeze without compile anew")
def freeze_without_compile(way):
  model = compiled(way)
  way.fit(model, data.dense())
  model.layers[1].trainable = False
  way.fit(model, data.dense())
  way.see_model(model)


@FEATURES.add("change the learning rate by hand", cluster=True)
def learning_rate_by_hand(way):
  model = compiled(way, optimizers.SGD(0.5))
  way.fit(model, data.dense())
  model.optimizer.learning_rate = 0.01
  way.fit(model, data.dense())
  keras.backend.set_value(model.optimizer.learning_rate, 0.2)
  way.fit(model, data.dense())
  way.see_model(model)


_ON_BATCH = "ValueError: train_on_batch runs on the chief alone"


@FEATURES.add(
  "train_on_batch, test_on_batch, predict_on_batch between fits", refused_on_cluster=_ON_BATCH
)
def on_batch(way):
  model, examples = compiled(way, metrics=["mae"]), data.dense()
  way.fit(model, examples)
  x, y = examples.x[:8], examples.y[:8]
  way.see("train_on_batch", model.train_on_batch(x, y))
  way.see("train_on_batch dict", model.train_on_batch(x, y, reset_metrics=False, return_dict=True))
  way.see("test_on_batch", model.test_on_batch(x, y))
  way.see("predict_on_batch", model.predict_on_batch(x))
  way.fit(model, examples)
  way.see_model(model)


@FEATURES.add("train_on_batch with a table", refused_on_cluster=_ON_BATCH)
def on_batch_table(way):
  model, examples = wide(metrics=["mae"]), data.rows()
  way.fit(model, examples)
  x, y = {name: value[:8] for name, value in examples.x.items()}, examples.y[:8]
  way.see("train_on_batch", model.train_on_batch(x, y))
  way.see("test_on_batch", model.test_on_batch(x, y))
  way.see("predict_on_batch", model.predict_on_batch(x))
  way.fit(model, examples)
  way.see_model(model)


@FEATURES.add("get_weights, set_weights", cluster=True)
def get_and_set_weights(way):
  model, examples = compiled(way), data.dense()
  way.fit(model, examples)
  kept = model.get_weights()
  way.fit(model, examples)
  model.set_weights(kept)
  way.train(model, examples)


@FEATURES.add("save_weights, load_weights")
def save_weights(way):
  model, examples, path = compiled(way), data.dense(), f"{way.folder()}/kept.weights.h5"
  way.fit(model, examples)
  model.save_weights(path)
  way.fit(model, examples)
  model.load_weights(path)
  way.train(model, examples)


@FEATURES.add("tf.train.Checkpoint of model and optimizer", "fit after restore")
def tf_checkpoint(way):
  model, examples, folder = compiled(way), data.dense(), way.folder()
  way.fit(model, examples)
  checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
  path = checkpoint.write(f"{folder}/kept")
  way.fit(model, examples)
  checkpoint.read(path).assert_consumed()
  way.train(model, examples)


@FEATURES.add("clone_model")
def clone(way):
  model = compiled(way)
  way.fit(model, data.dense())
  other = keras.models.clone_model(model)
  other.set_weights(model.get_weights())
  other.compile("adam", "mse")
  way.see("is a tfps.Model", isinstance(other, way.Model))
  if isinstance(other, way.Model):
    way.test(other, data.dense())


@FEATURES.add("a Sequential inside of a model", "nested models", "shared layers")
def nested(way):
  inner = keras.Sequential([layers.Dense(3, "tanh"), layers.BatchNormalization()])
  a, b = keras.Input([4], name="a"), keras.Input([4], name="b")
  head = keras.Model(head_input := keras.Input([3]), layers.Dense(2, "tanh")(head_input))
  both = [head(inner(a)), head(inner(b))]
  model = way.Model([a, b], layers.Dense(1, "sigmoid")(layers.Concatenate()(both)))
  model.compile("adam", "mse", metrics=["mae"])
  examples = data.Data((data.floats(4), data.floats(4)[::-1].copy()), data.clicks())
  way.all(model, examples, examples.part(4, 25))


@FEATURES.add("a tfps.Model inside of a tfps.Model")
def nested_tables(way):
  inner = functional(table())
  inputs = {
    "user": keras.Input([], dtype=tf.int64, name="user"),
    "words": keras.Input([3], dtype=tf.int64, name="words"),
    "numbers": keras.Input([2], name="numbers"),
  }
  model = tfps.Model(inputs, layers.Dense(1, "sigmoid")(inner(inputs)))
  model.compile("adam", "binary_crossentropy", metrics=["AUC"])
  way.all(model, data.rows(), data.rows())


@FEATURES.add("a functional model with a table")
def functional_table(way):
  model = functional(table())
  model.compile("adam", "binary_crossentropy", metrics=["AUC"])
  way.all(model, data.rows(), data.rows().part(3, 30))


def _several(way, kind):
  inputs = {"a": keras.Input([4], name="a"), "b": keras.Input([3], name="b")}
  hidden = layers.Concatenate()([inputs["a"], inputs["b"]])
  outputs = {
    "click": layers.Dense(1, "sigmoid", name="click")(hidden),
    "rating": layers.Dense(1, name="rating")(hidden),
  }
  y = {"click": data.clicks(), "rating": data.clicks() * 4 - 1}
  weight = {"click": data.weights(), "rating": data.weights()[::-1].copy()}
  x = {"a": data.floats(4), "b": data.floats(3)}
  losses = {"click": "binary_crossentropy", "rating": "mse"}
  metrics = {"click": ["AUC"], "rating": ["mae", "mse"]}
  if kind == "list":
    inputs, outputs = list(inputs.values()), list(outputs.values())
    x, y, weight = (tuple(each.values()) for each in (x, y, weight))
    losses, metrics = list(losses.values()), list(metrics.values())
  model = way.Model(inputs, outputs)
  model.compile("adam", losses, metrics=metrics, weighted_metrics=metrics)
  examples = data.Data(x, y, weight)
  way.all(model, examples, examples.part(3, 30))
  way.evaluate_list(model, examples)


@FEATURES.add(
  "several inputs and outputs by name",
  "sample weights per output by name",
  cluster=True,
)
def several_by_name(way):
  _several(way, "dict")


@FEATURES.add("several inputs and outputs in lists", "sample weights per output in lists")
def several_in_lists(way):
  _several(way, "list")


@FEATURES.add("own train_step, test_step and predict_step")
def own_steps(way):
  class Own(way.Model):
    def __init__(self):
      super().__init__()
      self.dense = layers.Dense(1, "sigmoid")
      self.seen_loss = keras.metrics.Mean(name="seen_loss")

    @property
    def metrics(self):
      return [self.seen_loss]

    def call(self, x, training=None):
      return self.dense(x)

    def train_step(self, batch):
      x, y = batch
      with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(y - self(x, training=True)))
      variables = self.trainable_variables
      gradients = tape.gradient(loss, variables)
      apply = getattr(self, "apply_gradients", None)
      if apply is None:
        self.optimizer.apply_gradients(zip(gradients, variables))
      else:
        apply(zip(gradients, variables), tf.cast(tf.shape(y)[0], tf.float32))
      self.seen_loss.update_state(loss)
      return {"mine": self.seen_loss.result(), "last": loss}

    def test_step(self, batch):
      x, y = batch
      self.seen_loss.update_state(tf.reduce_max(tf.abs(y - self(x, training=False))))
      return {"worst": self.seen_loss.result()}

    def predict_step(self, batch):
      x = batch[0] if isinstance(batch, tuple) else batch
      return {"twice": 2 * self(x, training=False), "x": x}

  model = Own()
  model.build([None, 4])
  model.compile(optimizers.SGD(0.1))
  examples = data.dense()
  way.fit(model, examples, data.validation(), epochs=2)
  way.evaluate(model, data.validation())
  way.evaluate_list(model, data.validation())
  way.predict(model, examples)
  way.see_model(model)


@FEATURES.add("own train_step and test_step that return a raw loss", cluster=True)
def raw_loss(way):
  """Keras shows the compiled loss, which no step has added to, under that name."""

  class Own(way.Model):
    def __init__(self):
      super().__init__()
      self.dense = layers.Dense(1, "sigmoid")

    def call(self, x, training=None):
      return self.dense(x)

    def train_step(self, batch):
      x, y = batch
      with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(y - self(x, training=True)))
      pairs = list(zip(tape.gradient(loss, self.trainable_variables), self.trainable_variables))
      if way.on_source:
        self.apply_gradients(pairs, tf.cast(tf.shape(y)[0], tf.float32))
      else:
        self.optimizer.apply_gradients(pairs)
      return {"loss": loss}

    def test_step(self, batch):
      x, y = batch
      return {"loss": tf.reduce_mean(tf.abs(y - self(x, training=False)))}

  model = Own()
  model.build([None, 4])
  model.compile(optimizers.SGD(0.1), "mse")
  way.all(model, data.dense(), data.validation())


@FEATURES.add(
  "own train_step that calls the optimizer itself",
  refused_on_cluster="ValueError: .* let it call self.apply_gradients",
)
def own_train_step(way):
  class Own(way.Model):
    def __init__(self):
      super().__init__()
      self.dense = layers.Dense(1, "sigmoid")

    def call(self, x, training=None):
      return self.dense(x)

    def train_step(self, batch):
      x, y = batch
      with tf.GradientTape() as tape:
        y_pred = self(x, training=True)
        loss = self.compute_loss(x, y, y_pred)
      self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
      return self.compute_metrics(x, y, y_pred, None)

  model = Own()
  model.build([None, 4])
  model.compile(optimizers.SGD(0.1), "mse", metrics=["mae"])
  way.test(model, data.dense(), data.validation())


@FEATURES.add(
  "own make_train_function, make_test_function",
  refused="overrides make_test_function, .*: override test_step",
)
def own_functions(way):
  class Own(way.Model):
    def __init__(self):
      super().__init__()
      self.dense = layers.Dense(1, "sigmoid")

    def call(self, x, training=None):
      return self.dense(x)

    def make_test_function(self, force=False):
      function = super().make_test_function(force)
      self.test_function = lambda iterator: {**function(iterator), "more": 1.0}
      return self.test_function

  model = Own()
  model.build([None, 4])
  model.compile("sgd", "mse")
  way.all(model, data.dense(), data.validation())


@FEATURES.add("predict before compile")
def predict_uncompiled(way):
  way.predict(tower(way), data.dense())


@FEATURES.add("evaluate and fit before compile", refused="RuntimeError: .*compile")
def fit_uncompiled(way):
  way.fit(tower(way), data.dense())


def _under_policy(policy, make, examples):
  def program(way):
    keras.mixed_precision.set_global_policy(policy)
    model = make(way)
    way.see("optimizer", type(model.optimizer).__name__)
    way.all(model, examples())

  program.__name__ = f"{policy}_{examples.__name__}"
  return program


# Keras's own message; a cluster needs no loss scale with mixed_bfloat16.
_NO_LOSS_SCALE = "ValueError: .*(mixed_float16|[Ll]oss scaling)"
for _policy in ("mixed_bfloat16", "mixed_float16"):
  _settings = dict(rounding=0.03, refused_on_cluster="" if "bfloat" in _policy else _NO_LOSS_SCALE)
  FEATURES.add(_policy, **_settings)(_under_policy(_policy, compiled, data.dense))
  FEATURES.add(f"{_policy} with a table", **_settings)(_under_policy(_policy, _of_table, data.rows))


@FEATURES.add("float64")
def float64(way):
  keras.backend.set_floatx("float64")
  try:
    way.all(compiled(way), data.dense())
  finally:
    keras.backend.set_floatx("float32")


@FEATURES.add("predictions as a dict, a list, and of rank 3")
def structured_predictions(way):
  x = keras.Input([4], name="x")
  outputs = {"a": layers.Dense(2)(x), "b": [layers.Reshape([2, 2])(x), x]}
  way.predict(way.Model(x, outputs), data.dense())


@FEATURES.add("summary, get_layer, to_json, metrics_names")
def inspection(way):
  model = compiled(way, metrics=["mae"])
  lines = []
  model.summary(print_fn=lambda line, **_: lines.append(line))
  way.see("summary", lines[1:])
  way.see("layer", model.get_layer("y").units)
  way.fit(model, data.dense())
  way.see("metrics_names", model.metrics_names)
  way.see("metrics", [metric.name for metric in model.metrics])


@FEATURES.add("ragged and sparse inputs")
def ragged(way):
  words = tf.RaggedTensor.from_row_lengths(data.integers(5, 3).reshape(-1), [1, 5] * 25 + [3])
  x = keras.Input([None], dtype=tf.int64, ragged=True, name="words")
  vectors = layers.Embedding(5, 3)(x)
  model = way.Model(x, layers.Dense(1, "sigmoid")(tf.reduce_mean(vectors, axis=1)))
  model.compile("sgd", "mse")
  way.all(model, data.Data(words, data.clicks()))


@FEATURES.add("labels and weights of rank 1, integer labels")
def rank_1(way):
  model = compiled(way, metrics=["accuracy"], weighted_metrics=["AUC"])
  examples = data.Data(data.floats(4), data.clicks()[:, 0].astype(np.int64), data.weights())
  way.test(model, examples, examples.part(3, 30))


@FEATURES.add("an empty last batch: examples that batch_size divides")
def divided(way):
  examples = data.dense().part(0, 48)
  way.all(compiled(way), examples, data.validation().part(0, 16))


@FEATURES.add("stock keras.layers.Embedding against a table", cluster=True)
def stock_embedding(way):
  """With SGD, sums of gradients and rows that are there, a table is a Keras Embedding."""
  start = np.random.default_rng(5).normal(size=[10, 2]).astype(np.float32)
  examples = data.rows()
  numbers = examples.x["numbers"]
  x = {"words": examples.x["words"], "numbers": numbers}
  inputs = {
    "words": keras.Input([3], dtype=tf.int64, name="words"),
    "numbers": keras.Input([2], name="numbers"),
  }
  if way.on_source:
    rate = 0.05
    accessor = tfps.CtrAccessor(create_threshold=0)
    of_words = table(
      accessor=accessor,
      gradient_scale="sum",
      optimizer=tfps.SGD(rate),
      lr_optimizer=tfps.SGD(rate),
    )
    tfps.migration.import_numpy(
      of_words, "words", {"keys": np.arange(1, 10), "values": start[1:]}, feasigns=True
    )
    found = tfps.Embedding(of_words, ["words"])(inputs)
    logit, vector = found.lr_logit, found.mf[:, 0]
  else:
    mask = tf.cast(inputs["words"] > 0, tf.float32)[:, :, tf.newaxis]
    lr = layers.Embedding(10, 1, "zeros", name="lr")
    mf = layers.Embedding(10, 2, keras.initializers.Constant(start), name="mf")
    logit = tf.reduce_sum(lr(inputs["words"]) * mask, axis=1)
    vector = tf.reduce_sum(mf(inputs["words"]) * mask, axis=1)
  deep = layers.Concatenate()([vector, inputs["numbers"]])
  output = tf.sigmoid(logit + layers.Dense(1, kernel_initializer="ones", name="last")(deep))
  model = way.Model(inputs, output)
  loss = keras.losses.BinaryCrossentropy(reduction="sum")
  model.compile(optimizers.SGD(0.05), loss, metrics=["AUC"])
  examples = data.Data(x, examples.y)
  way.fit(model, examples, examples.part(3, 30), epochs=3)
  way.evaluate(model, examples)
  way.predict(model, examples)
  way.see("last", model.get_layer("last").get_weights())
  if way.on_source:
    rows = of_words.lookup(np.arange(1, 10))
    way.see("lr", rows["lr_w"].reshape(-1))
    way.see("mf", rows["mf_w"])
  else:
    way.see("lr", model.get_layer("lr").get_weights()[0][1:, 0])
    way.see("mf", model.get_layer("mf").get_weights()[0][1:])


class _Slower(optimizers.schedules.LearningRateSchedule):
  def __call__(self, step):
    if step < 5:
      return 0.1
    return 0.05


class _Largest(keras.metrics.Metric):
  def __init__(self):
    super().__init__(name="largest")
    self._sum = self.add_weight(name="sum", initializer="zeros")

  def update_state(self, y_true, y_pred, sample_weight=None):
    del y_true, sample_weight
    if tf.reduce_mean(y_pred) > 0.5:
      self._sum.assign_add(1.0)

  def result(self):
    if self._sum > 2.0:
      return self._sum
    return self._sum / 2.0


@FEATURES.add("Python conditions on tensors, wherever Keras calls the user's code", cluster=True)
def conditions(way):
  class Conditional(way.Model):
    def __init__(self):
      super().__init__()
      self.dense = layers.Dense(1, "sigmoid", kernel_constraint=self.constrain)

    def constrain(self, weights):
      if tf.norm(weights) > 0.5:
        return weights / tf.norm(weights)
      return weights

    def call(self, x):
      if tf.reduce_mean(x) > 0.0:
        x = 2.0 * x
      return self.dense(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
      loss = super().compute_loss(x, y, y_pred, sample_weight)
      if tf.reduce_mean(x) > 0.1:
        loss = 3.0 * loss
      return loss

    def compute_metrics(self, x, y, y_pred, sample_weight):
      logs = super().compute_metrics(x, y, y_pred, sample_weight)
      if tf.reduce_mean(x) > 0.1:
        logs["positive"] = tf.constant(1.0)
      else:
        logs["positive"] = tf.constant(0.0)
      return logs

  def loss(y_true, y_pred):
    error = tf.reduce_mean(tf.square(y_true - y_pred), axis=-1)
    if tf.reduce_mean(y_pred) > 0.5:
      return 2.0 * error
    return error

  model = Conditional()
  model.compile(optimizers.SGD(_Slower()), loss, metrics=[_Largest()])
  way.all(model, data.dense())
