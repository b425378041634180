"""Every optimizer of Keras on dense weights: on a cluster, and by stock Keras on its batches.

tests/keras_judge/ tries them in one process.
"""

import numpy as np
import tensorflow as tf
import tf_keras as keras

import tfps

BATCH = 32
BATCHES = 6

_optimizers = keras.optimizers


def _schedule():
  return _optimizers.schedules.CosineDecay(0.0, 8, warmup_target=0.1, warmup_steps=2)


# {name: a function that makes one}
OPTIMIZERS = {
  "Adadelta": lambda: _optimizers.Adadelta(1.0),
  "Adafactor": lambda: _optimizers.Adafactor(0.05),
  "Adagrad": lambda: _optimizers.Adagrad(0.1),
  "Adam": lambda: _optimizers.Adam(0.05),
  "amsgrad": lambda: _optimizers.Adam(0.05, amsgrad=True),
  "AdamW": lambda: _optimizers.AdamW(0.05, weight_decay=0.1),
  "Adamax": lambda: _optimizers.Adamax(0.05),
  "Ftrl": lambda: _optimizers.Ftrl(0.1, l1_regularization_strength=0.01),
  "Lion": lambda: _optimizers.Lion(0.01),
  "Nadam": lambda: _optimizers.Nadam(0.05),
  "RMSprop": lambda: _optimizers.RMSprop(0.02, momentum=0.5, centered=True),
  "SGD": lambda: _optimizers.SGD(0.1),
  "nesterov": lambda: _optimizers.SGD(0.1, momentum=0.9, nesterov=True),
  "EMA": lambda: _optimizers.Adam(0.05, use_ema=True, ema_momentum=0.8),
  "EMA that overwrites": lambda: _optimizers.SGD(
    0.1, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=2
  ),
  "schedule": lambda: _optimizers.Adam(_schedule()),
  "clipnorm": lambda: _optimizers.SGD(0.5, clipnorm=0.05),
  "clipvalue": lambda: _optimizers.SGD(0.5, clipvalue=0.02),
  "global_clipnorm": lambda: _optimizers.SGD(0.5, global_clipnorm=0.05),
}
LEGACY = {"legacy.Adam": lambda: _optimizers.legacy.Adam(0.05)}


def make_source():
  return tfps.data.ClickStream(
    days=1, examples_per_day=BATCHES * BATCH, batch_size=BATCH, batches_per_ticket=1
  )


def make_model(kind, optimizer):
  """Two layers on the user's id, which are `kind`, keras.Model or tfps.Model."""
  inputs = {name: keras.Input([], dtype=tf.int64, name=name) for name in ("user_id", "item_id")}
  ids = keras.layers.Lambda(
    lambda x: tf.concat([tf.one_hot(x[name] % 7, 7) for name in ("user_id", "item_id")], axis=1)
  )(inputs)
  outputs = keras.layers.Dense(1, "sigmoid")(keras.layers.Dense(3, "tanh")(ids))
  model = kind(inputs, outputs)
  model.compile(optimizer, "binary_crossentropy")
  return model


def arrays(source):
  """(x, y) of all examples, in the order of the tickets."""
  batches = [batch for ticket in source.tickets() for batch in source.open(ticket)]
  names = ("user_id", "item_id")
  x = {name: np.concatenate([batch[0][name] for batch in batches]) for name in names}
  return x, np.concatenate([batch[1] for batch in batches])


def by_keras(make_optimizer, initial):
  """The weights that stock Keras makes of the same batches."""
  model = make_model(keras.Model, make_optimizer())
  model.set_weights(initial)
  # Nadam's momentum follows from how often its step was traced, which is once if it is built.
  if isinstance(model.optimizer, keras.optimizers.Optimizer):
    model.optimizer.build(model.trainable_variables)
  x, y = arrays(make_source())
  model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
  return model.get_weights()


def on_source(make_optimizer, **communication):
  """(the weights before, those after) by tfps."""
  keras.utils.set_random_seed(4)
  model = make_model(tfps.Model, make_optimizer())
  initial = model.get_weights()
  model.fit(make_source(), communication=tfps.Communication(**communication), verbose=0)
  return initial, model.get_weights()


def on_cluster():
  """{(optimizer, consistency): the weights before and after, or what was raised}."""
  cases = [(name, "sync") for name in (*OPTIMIZERS, "legacy.Adam")]
  cases += [(name, "bounded") for name in ("Adafactor", "Adamax", "EMA", "EMA that overwrites")]
  found = {}
  for name, consistency in cases:
    try:
      found[name, consistency] = on_source(
        (OPTIMIZERS | LEGACY)[name], consistency=consistency, tickets_per_step=1
      )
    except ValueError as error:
      found[name, consistency] = str(error)
  return found
