"""Every optimizer that Keras ships, and what it can be told.

tests/test_worker.py runs them on a cluster.
"""

import inspect

import tf_keras as keras

from tests.keras_judge import data
from tests.keras_judge.feature import Features
from tests.keras_judge.models import compiled, wide

FEATURES = Features("optimizers")
LEGACY = Features("legacy optimizers")
SCHEDULES = Features("learning-rate schedules")
optimizers = keras.optimizers
RECIPES = {
  "Adadelta": dict(learning_rate=1.0),
  "Adafactor": dict(learning_rate=0.05),
  "Adagrad": dict(learning_rate=0.1),
  "Adam": dict(amsgrad=True),
  "AdamW": dict(weight_decay=0.1),
  "Adamax": dict(learning_rate=0.05),
  "Ftrl": dict(learning_rate=0.1, l1_regularization_strength=0.01),
  "Lion": dict(learning_rate=0.01),
  "Nadam": dict(learning_rate=0.05),
  "RMSprop": dict(momentum=0.5, centered=True),
  "SGD": dict(learning_rate=0.1, momentum=0.9, nesterov=True),
}
LEGACY_RECIPES = {
  "Adadelta": dict(learning_rate=1.0),
  "Adagrad": dict(learning_rate=0.1),
  "Adam": dict(amsgrad=True),
  "Adamax": dict(learning_rate=0.05),
  "Ftrl": dict(learning_rate=0.1),
  "Nadam": dict(learning_rate=0.05),
  "RMSprop": dict(momentum=0.5),
  "SGD": dict(learning_rate=0.1, momentum=0.9),
}
schedules = optimizers.schedules
SCHEDULE_RECIPES = {
  "CosineDecay": lambda: schedules.CosineDecay(0.1, 9, warmup_target=0.2, warmup_steps=3),
  "CosineDecayRestarts": lambda: schedules.CosineDecayRestarts(0.1, 4),
  "ExponentialDecay": lambda: schedules.ExponentialDecay(0.1, 5, 0.5),
  "InverseTimeDecay": lambda: schedules.InverseTimeDecay(0.1, 5, 0.5),
  "PiecewiseConstantDecay": lambda: schedules.PiecewiseConstantDecay([4, 9], [0.1, 0.2, 0.05]),
  "PolynomialDecay": lambda: schedules.PolynomialDecay(0.1, 9),
}


def shipped(module, base):
  """The names of the classes of a module, without the base class."""
  return {
    name
    for name in dir(module)
    if inspect.isclass(getattr(module, name)) and issubclass(getattr(module, name), base)
  } - {"Optimizer", "LearningRateSchedule"}


def _optimizer(features, name, make):
  def program(way):
    model = compiled(way, make())
    if hasattr(model.optimizer, "build"):
      # Keras's Nadam depends on how often it is traced: twice, if it is not built.
      model.optimizer.build(model.trainable_variables)
    way.train(model, data.dense())

  program.__name__ = f"legacy_{name}" if features is LEGACY else name
  refused = "ValueError: .*in one process only" if features is LEGACY else ""
  features.add(name, refused_on_cluster=refused)(program)


for _name, _arguments in RECIPES.items():
  _make = lambda name=_name, arguments=_arguments: getattr(optimizers, name)(**arguments)
  _optimizer(FEATURES, _name, _make)
for _name, _arguments in LEGACY_RECIPES.items():
  _make = lambda name=_name, arguments=_arguments: getattr(optimizers.legacy, name)(**arguments)
  _optimizer(LEGACY, _name, _make)


def _schedule(name, make):
  def program(way):
    way.train(compiled(way, optimizers.SGD(make())), data.dense())

  program.__name__ = f"schedule_{name}"
  SCHEDULES.add(name)(program)


for _name, _make in SCHEDULE_RECIPES.items():
  _schedule(_name, _make)


@FEATURES.add("clipnorm")
def clipnorm(way):
  way.train(compiled(way, optimizers.SGD(0.5, clipnorm=0.01)), data.dense())


@FEATURES.add("clipvalue")
def clipvalue(way):
  way.train(compiled(way, optimizers.SGD(0.5, clipvalue=0.01)), data.dense())


@FEATURES.add("global_clipnorm")
def global_clipnorm(way):
  way.train(compiled(way, optimizers.SGD(0.5, global_clipnorm=0.01)), data.dense())


@FEATURES.add("global_clipnorm with a table")
def global_clipnorm_with_table(way):
  way.train(wide(optimizers.SGD(0.5, global_clipnorm=0.01)), data.rows())


@FEATURES.add("use_ema, ema_overwrite_frequency")
def use_ema(way):
  optimizer = optimizers.SGD(0.5, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3)
  way.train(compiled(way, optimizer), data.dense())


@FEATURES.add("use_ema, written at the end of fit")
def ema_at_end(way):
  optimizer = optimizers.SGD(0.5, use_ema=True, ema_momentum=0.9)
  way.train(compiled(way, optimizer), data.dense())


@FEATURES.add("weight_decay")
def weight_decay(way):
  way.train(compiled(way, optimizers.SGD(0.5, weight_decay=0.1)), data.dense())


@FEATURES.add("constraints")
def constraints(way):
  constraint = keras.constraints.MaxNorm(0.2)
  x = keras.Input([4])
  model = way.Model(x, keras.layers.Dense(1, "sigmoid", kernel_constraint=constraint)(x))
  model.compile(optimizers.SGD(0.5), "mse")
  way.train(model, data.dense())


@FEATURES.add("LossScaleOptimizer", refused_on_cluster="ValueError: Loss scaling is not supported")
def loss_scale(way):
  optimizer = keras.mixed_precision.LossScaleOptimizer(optimizers.SGD(0.5), dynamic_growth_steps=3)
  way.train(compiled(way, optimizer), data.dense())


@FEATURES.add("one by name")
def by_name(way):
  way.train(compiled(way, "rmsprop"), data.dense())
