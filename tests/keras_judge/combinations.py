"""Models, losses, metrics, optimizers, batches and tickets that hypothesis draws together."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras as keras
from hypothesis import strategies as st

import tfps
from tests.keras_judge import data, models, ways

layers = keras.layers

REDUCTIONS = ["auto", "sum", "sum_over_batch_size"]
HIDDEN = ["dense", "norm", "regularized"]
OPTIMIZERS = {
  "sgd": lambda: keras.optimizers.SGD(0.1),
  "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9, global_clipnorm=0.5),
  "adam": lambda: keras.optimizers.Adam(0.01),
  "rmsprop": lambda: keras.optimizers.RMSprop(0.01, use_ema=True),
  "adagrad": lambda: keras.optimizers.Adagrad(
    keras.optimizers.schedules.ExponentialDecay(0.1, 4, 0.9)
  ),
}
LOSSES = {
  "click": (keras.losses.BinaryCrossentropy, "sigmoid"),
  "square": (keras.losses.MeanSquaredError, None),
  "huber": (keras.losses.Huber, "tanh"),
}
METRICS = {
  "click": [keras.metrics.AUC, "mae", "binary_accuracy"],
  "square": ["mae", "mse", keras.metrics.RootMeanSquaredError],
  "huber": ["mae", keras.metrics.LogCoshError],
}


class Combination(NamedTuple):
  """What is drawn; see `combinations`."""

  with_table: bool
  heads: list[tuple[str, str]]  # (loss, reduction) of each output
  hidden: list[str]
  optimizer: str
  metrics: int
  weighted: int
  sample_weight: bool
  loss_weights: bool
  examples: int
  batch_size: int
  tickets: int
  epochs: int
  validation: bool

  def way(self) -> ways.OneProcess:
    """A source of tickets of as many batches."""
    way = ways.OneProcess()
    way.batches_per_ticket = self.tickets
    return way

  def program(self, way: Any) -> None:
    """Fits, evaluates and predicts."""
    model = self._model(way)
    made = lambda names, end: [
      [self._metric(m, end) for m in METRICS[loss][:names]] for loss, _ in self.heads
    ]
    model.compile(
      OPTIMIZERS[self.optimizer](),
      [LOSSES[loss][0](reduction=reduction) for loss, reduction in self.heads],
      metrics=made(self.metrics, ""),
      weighted_metrics=made(self.weighted, "-weighted"),
      loss_weights=[0.5 + i for i, _ in enumerate(self.heads)] if self.loss_weights else None,
    )
    examples = self._data()
    validation = examples.part(1, 1 + self.examples // 2) if self.validation else None
    way.all(model, examples, validation, epochs=self.epochs)

  def _metric(self, metric: Any, end: str) -> Any:
    if isinstance(metric, str):
      return metric
    return metric(name=f"{metric.__name__}{end}")

  def _data(self) -> data.Data:
    count = self.examples
    x: Any = data.floats(4, examples=count)
    if self.with_table:
      x = {"x": x, "words": data.integers(9, 3, examples=count)}
    labels = [data.clicks(count) for _ in self.heads]
    weights = [data.weights(count) for _ in self.heads]
    y = labels[0] if len(labels) == 1 else tuple(labels)
    weight = weights[0] if len(labels) == 1 else tuple(weights)
    return data.Data(x, y, weight if self.sample_weight else None, batch_size=self.batch_size)

  def _model(self, way: Any) -> Any:
    x = keras.Input([4], name="x")
    inputs: Any = x
    hidden, logit = x, 0.0
    if self.with_table:
      inputs = {"x": x, "words": keras.Input([3], dtype=tf.int64, name="words")}
      table = models.table(
        accessor=tfps.CtrAccessor(create_threshold=0.15), gradient_scale="per_show"
      )
      found = tfps.Embedding(table, ["words"], combiner="mean")(inputs)
      hidden = layers.Concatenate()([x, layers.Flatten()(found.mf)])
      logit = found.lr_logit
    for kind in self.hidden:
      hidden = {
        "dense": lambda: layers.Dense(3, "tanh"),
        "norm": lambda: layers.BatchNormalization(momentum=0.9),
        "regularized": lambda: layers.Dense(
          3, "tanh", kernel_regularizer="l2", activity_regularizer="l2"
        ),
      }[kind]()(hidden)
    outputs = [
      layers.Activation(LOSSES[loss][1])(layers.Dense(1)(hidden) + logit) for loss, _ in self.heads
    ]
    model = way.TableModel if self.with_table else way.Model
    return model(inputs, outputs[0] if len(outputs) == 1 else outputs)


@st.composite
def combinations(draw) -> Combination:
  """Draws a `Combination`."""
  reductions = st.sampled_from(REDUCTIONS)
  return Combination(
    with_table=draw(st.booleans()),
    heads=draw(
      st.lists(st.tuples(st.sampled_from(sorted(LOSSES)), reductions), min_size=1, max_size=2)
    ),
    hidden=draw(st.lists(st.sampled_from(HIDDEN), max_size=2)),
    optimizer=draw(st.sampled_from(sorted(OPTIMIZERS))),
    metrics=draw(st.integers(0, 3)),
    weighted=draw(st.integers(0, 2)),
    sample_weight=draw(st.booleans()),
    loss_weights=draw(st.booleans()),
    examples=draw(st.integers(9, 60)),
    batch_size=draw(st.integers(2, 11)),
    tickets=draw(st.integers(1, 12)),
    epochs=draw(st.integers(1, 3)),
    validation=draw(st.booleans()),
  )
