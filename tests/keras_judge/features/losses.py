"""Every loss that Keras ships, each on an output of its own; and how losses are reduced."""

import inspect

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tests.keras_judge import data
from tests.keras_judge.feature import Features
from tests.keras_judge.models import compiled, tower, wide

FEATURES = Features("losses")
losses = keras.losses
BASES = {"Loss", "Reduction"}
# {class: (units, activation, labels)}
_CLICK, _CLASSES = data.clicks(), data.integers(3)
_ONE_HOT = np.eye(3, dtype=np.float32)[_CLASSES]
RECIPES = {
  "BinaryCrossentropy": (1, "sigmoid", _CLICK),
  "BinaryFocalCrossentropy": (1, "sigmoid", _CLICK),
  "CategoricalCrossentropy": (3, "softmax", _ONE_HOT),
  "CategoricalFocalCrossentropy": (3, "softmax", _ONE_HOT),
  "CategoricalHinge": (3, "softmax", _ONE_HOT),
  "CosineSimilarity": (3, None, _ONE_HOT),
  "Hinge": (1, None, _CLICK),
  "Huber": (1, None, _CLICK),
  "KLDivergence": (3, "softmax", _ONE_HOT),
  "LogCosh": (1, None, _CLICK),
  "MeanAbsoluteError": (1, None, _CLICK),
  "MeanAbsolutePercentageError": (1, None, _CLICK + 1),
  "MeanSquaredError": (1, None, _CLICK),
  "MeanSquaredLogarithmicError": (1, "softplus", _CLICK),
  "Poisson": (1, "softplus", _CLICK),
  "SparseCategoricalCrossentropy": (3, "softmax", _CLASSES),
  "SquaredHinge": (1, None, _CLICK),
}


def shipped():
  """The losses that Keras has."""
  return {name for name in dir(losses) if inspect.isclass(getattr(losses, name))} - BASES


def _all_losses(way):
  x = keras.Input([4], name="x")
  hidden = keras.layers.Dense(3, "tanh")(x)
  outputs = {
    name: keras.layers.Dense(units, activation, name=name)(hidden)
    for name, (units, activation, _) in RECIPES.items()
  }
  model = way.Model(x, outputs)
  model.compile("adam", {name: getattr(losses, name)() for name in RECIPES})
  examples = data.Data(data.floats(4), {name: labels for name, (_, _, labels) in RECIPES.items()})
  way.test(model, examples, examples.part(3, 30))


for _name in RECIPES:
  FEATURES.add(_name, only=rf"\b{_name}|_loss keys|fit loss")(_all_losses)


def _reduced(reduction):
  def program(way):
    loss = losses.BinaryCrossentropy(reduction=reduction)
    model = wide(keras.optimizers.SGD(0.1), loss, metrics=["mae"])
    way.test(model, data.rows(), data.rows().part(3, 24))

  program.__name__ = f"reduction_{reduction}"
  return program


for _reduction in ("auto", "sum_over_batch_size", "sum"):
  FEATURES.add(f"Reduction {_reduction}")(_reduced(_reduction))


@FEATURES.add("Reduction none", note="Keras takes the mean")
def reduction_none(way):
  loss = losses.BinaryCrossentropy(reduction="none")
  way.test(compiled(way, loss=loss), data.dense(), data.validation())


@FEATURES.add("a loss over the batch, such as in-batch softmax")
def in_batch_softmax(way):
  def softmax(y_true, y_pred):
    scores = tf.matmul(y_pred, y_pred, transpose_b=True)
    return keras.losses.sparse_categorical_crossentropy(
      tf.range(tf.shape(y_pred)[0]), scores, from_logits=True
    )

  model = tower(way, 3, None)
  model.compile("adam", softmax)
  way.test(
    model,
    data.Data(data.floats(4), data.floats(3)),
    data.Data(data.floats(4), data.floats(3)).part(0, 20),
  )


@FEATURES.add("own function", "own class")
def own_losses(way):
  class Own(losses.Loss):
    def call(self, y_true, y_pred):
      return tf.reduce_mean(tf.square(y_true - y_pred), axis=-1) + 0.1

  x = keras.Input([4], name="x")
  outputs = [keras.layers.Dense(1, name=name)(x) for name in ("a", "b")]
  model = way.Model(x, outputs)
  model.compile("adam", [lambda y_true, y_pred: tf.abs(y_true - y_pred), Own()])
  way.test(model, data.Data(data.floats(4), (data.clicks(), data.clicks())))


@FEATURES.add("own function that sums")
def own_sum(way):
  model = compiled(way, loss=lambda y_true, y_pred: tf.reduce_sum(tf.square(y_true - y_pred)))
  way.test(model, data.dense(), data.validation())


@FEATURES.add("add_loss")
def add_loss(way):
  x = keras.Input([4], name="x")
  hidden = keras.layers.Dense(3, "tanh")(x)
  model = way.Model(x, keras.layers.Dense(1, "sigmoid")(hidden))
  model.add_loss(0.1 * tf.reduce_mean(tf.square(hidden)))
  model.compile("adam", "binary_crossentropy")
  way.test(model, data.dense(), data.validation())


@FEATURES.add(
  "activity_regularizer",
  "kernel_regularizer",
  "bias_regularizer",
)
def regularizers(way):
  model = tower(
    way,
    activity_regularizer="l2",
    kernel_regularizer="l1",
    bias_regularizer=keras.regularizers.L2(0.3),
  )
  model.compile("adam", "binary_crossentropy")
  way.test(model, data.dense(), data.validation())


@FEATURES.add("compute_loss that reads x")
def compute_loss(way):
  class Reads(way.Model):
    def __init__(self):
      super().__init__()
      self.dense = keras.layers.Dense(1, "sigmoid")

    def call(self, x, training=None):
      return self.dense(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
      return super().compute_loss(x, y, y_pred, sample_weight) + tf.reduce_mean(x * y_pred)

  model = Reads()
  model.build([None, 4])
  model.compile("adam", "binary_crossentropy")
  way.test(model, data.dense(), data.validation())


@FEATURES.add("no labels: add_loss alone")
def no_labels(way):
  x = keras.Input([4], name="x")
  decoded = keras.layers.Dense(4)(keras.layers.Dense(2, "tanh")(x))
  model = way.Model(x, decoded)
  model.add_loss(tf.reduce_mean(tf.square(x - decoded)))
  model.compile("adam")
  way.all(model, data.Data(data.floats(4)), data.Data(data.floats(4)[:20]))


@FEATURES.add("a loss by name, for a list of outputs, and none for one of them")
def partial(way):
  x = keras.Input([4], name="x")
  outputs = [keras.layers.Dense(1, "sigmoid", name=name)(x) for name in ("a", "b")]
  model = way.Model(x, outputs)
  model.compile("adam", ["mse", None], metrics=[["mae"], []])
  way.test(model, data.Data(data.floats(4), (data.clicks(), data.clicks())))
