"""Every metric that Keras ships; those of one kind of label in one compile."""

import inspect

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tests.keras_judge import data
from tests.keras_judge.feature import Features
from tests.keras_judge.models import tower

FEATURES = Features("metrics")
metrics = keras.metrics

# {group: {class: its arguments}}; names are the classes'.
RECIPES = {
  "click": {
    "AUC": {},
    "Accuracy": {},
    "BinaryAccuracy": {},
    "BinaryCrossentropy": {},
    "BinaryIoU": dict(target_class_ids=[0, 1], threshold=0.5),
    "FalseNegatives": {},
    "FalsePositives": {},
    "Hinge": {},
    "KLDivergence": {},
    "LogCoshError": {},
    "Mean": None,
    "MeanAbsoluteError": {},
    "MeanAbsolutePercentageError": {},
    "MeanIoU": dict(num_classes=2),
    "IoU": dict(num_classes=2, target_class_ids=[0]),
    "MeanRelativeError": dict(normalizer=[[0.5]]),
    "MeanSquaredError": {},
    "MeanSquaredLogarithmicError": {},
    "MeanTensor": None,
    "Poisson": {},
    "Precision": {},
    "PrecisionAtRecall": dict(recall=0.4),
    "R2Score": {},
    "Recall": {},
    "RecallAtPrecision": dict(precision=0.5),
    "RootMeanSquaredError": {},
    "SensitivityAtSpecificity": dict(specificity=0.5),
    "SpecificityAtSensitivity": dict(sensitivity=0.5),
    "SquaredHinge": {},
    "Sum": None,
    "TrueNegatives": {},
    "TruePositives": {},
  },
  "one of three, one-hot": {
    "CategoricalAccuracy": {},
    "CategoricalCrossentropy": {},
    "CategoricalHinge": {},
    "CosineSimilarity": {},
    "OneHotIoU": dict(num_classes=3, target_class_ids=[0, 2]),
    "OneHotMeanIoU": dict(num_classes=3),
    "TopKCategoricalAccuracy": dict(k=2),
    "F1Score": dict(average="macro"),
    "FBetaScore": dict(average="weighted", beta=0.5),
  },
  "one of three": {
    "SparseCategoricalAccuracy": {},
    "SparseCategoricalCrossentropy": {},
    "SparseTopKCategoricalAccuracy": dict(k=2),
  },
}
# Keras gives them weights [B, 1], which they do not take.
WITHOUT_WEIGHTS = {"R2Score", "F1Score", "FBetaScore"}
# Base classes, which no one compiles with.
BASES = {"Metric", "MeanMetricWrapper"}
# Result is an array or a dict.
ARRAYS = {
  "F1Score of each class": lambda: metrics.F1Score(name="F1Score"),
  "Precision at thresholds": lambda: metrics.Precision([0.3, 0.5], name="Precision"),
}


def shipped():
  """The metrics that Keras has."""
  return {
    name
    for name in dir(metrics)
    if inspect.isclass(getattr(metrics, name))
    and issubclass(getattr(metrics, name), metrics.Metric)
  } - BASES


class WithMetrics:
  """Examples and a compiled model of a kind of label."""

  def __init__(self, group):
    classes = data.integers(3)
    self.y = {
      "click": data.clicks(),
      "one of three, one-hot": np.eye(3, dtype=np.float32)[classes],
      "one of three": classes,
    }[group]
    self.loss = {
      "click": "binary_crossentropy",
      "one of three, one-hot": "categorical_crossentropy",
      "one of three": "sparse_categorical_crossentropy",
    }[group]
    self.units = 1 if group == "click" else 3

  def run(self, way, made, weighted):
    model = tower(way, self.units, "sigmoid" if self.units == 1 else "softmax")
    model.compile("adam", self.loss, metrics=made, weighted_metrics=weighted)
    examples = data.Data(data.floats(4), self.y, data.weights())
    way.test(model, examples, examples.part(5, 30))


def _group(group):
  def program(way):
    make = lambda name, suffix: getattr(metrics, name)(name=name + suffix, **RECIPES[group][name])
    names = [name for name, arguments in RECIPES[group].items() if arguments is not None]
    weighted = [make(name, "-weighted") for name in names if name not in WITHOUT_WEIGHTS]
    WithMetrics(group).run(way, [make(name, "") for name in names], weighted)

  program.__name__ = "metrics_of_" + group.replace(" ", "_").replace(",", "").replace("-", "_")
  for name, arguments in RECIPES[group].items():
    if arguments is not None:
      FEATURES.add(name, only=rf"\b{name}\b", cluster=True)(program)


for _each in RECIPES:
  _group(_each)


def _array(name, make):
  def program(way):
    group = "one of three, one-hot" if "F1" in name else "click"
    WithMetrics(group).run(way, [make()], [])

  program.__name__ = name.replace(" ", "_")
  FEATURES.add(name)(program)


for _name, _make in ARRAYS.items():
  _array(_name, _make)


class Dict(metrics.Metric):
  """Mean and most of the predictions."""

  def __init__(self):
    super().__init__(name="of_predictions")
    self.total = self.add_weight(name="total", initializer="zeros")
    self.count = self.add_weight(name="count", initializer="zeros")

  def update_state(self, y_true, y_pred, sample_weight=None):
    self.total.assign_add(tf.reduce_sum(y_pred))
    self.count.assign_add(tf.cast(tf.size(y_pred), tf.float32))

  def result(self):
    return {"mean": self.total / self.count, "count": self.count}


@FEATURES.add("own class whose result is a dict")
def dict_result(way):
  WithMetrics("click").run(way, [Dict()], [])


class Share(metrics.Metric):
  """The share of predictions above a half."""

  def __init__(self, name="share", **settings):
    super().__init__(name=name, **settings)
    self.above = self.add_weight(name="above", initializer="zeros")
    self.count = self.add_weight(name="count", initializer="zeros")

  def update_state(self, y_true, y_pred, sample_weight=None):
    self.above.assign_add(tf.reduce_sum(tf.cast(y_pred > 0.5, tf.float32)))
    self.count.assign_add(tf.cast(tf.shape(y_pred)[0], tf.float32))

  def result(self):
    return tf.math.divide_no_nan(self.above, self.count)


@FEATURES.add(
  "own class",
  "own function",
  "a name",
)
def own_metrics(way):
  def worst(y_true, y_pred):
    return tf.reduce_max(tf.abs(y_true - y_pred))

  WithMetrics("click").run(way, [Share(), worst, "acc"], [])


@FEATURES.add("Mean", "Sum", "MeanTensor")
def metrics_by_hand(way):
  """Those that are fed by hand: with add_metric, and as attributes of a model."""

  class Fed(way.Model):
    def __init__(self):
      super().__init__()
      self.dense = keras.layers.Dense(1, "sigmoid")
      self.mean = metrics.Mean(name="mean")
      self.sum = metrics.Sum(name="sum")
      self.tensor = metrics.MeanTensor(name="tensor", shape=[4])

    def call(self, x, training=None):
      return self.dense(x)

    def compute_metrics(self, x, y, y_pred, sample_weight):
      self.mean.update_state(y_pred)
      self.sum.update_state(y)
      self.tensor.update_state(tf.reduce_mean(x, axis=0))
      return super().compute_metrics(x, y, y_pred, sample_weight)

  model = Fed()
  model.build([None, 4])
  model.compile("adam", "binary_crossentropy")
  way.test(model, data.dense(), data.validation())


@FEATURES.add("add_metric")
def add_metric(way):
  x = keras.Input([4], name="x")
  hidden = keras.layers.Dense(3, "tanh")(x)
  model = way.Model(x, keras.layers.Dense(1, "sigmoid")(hidden))
  model.add_metric(tf.reduce_mean(hidden), name="activity")
  model.compile("adam", "binary_crossentropy")
  way.test(model, data.dense(), data.validation())
