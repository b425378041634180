"""What `test_worker.py` runs on its cluster beside trainings: spoilt steps, callbacks and slots."""

import ast
import contextlib
import io
import re

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import logging

import tfps
from tests.nonfinite import (
  BATCH,
  FIELDS,
  Files,
  compiled,
  lines,
  source_of,
  state,
)
from tfps.checkpoint import CheckpointError, CheckpointManager

MODES = {
  "async": dict(),
  "async, merged": dict(dense_local_steps=False),
  "bounded": dict(consistency="bounded", max_delay=2),
  "sync": dict(consistency="sync", tickets_per_step=2),
}
WAYS = {
  "NaN feature": ("feature", "nan"),
  "infinite id weight": ("id_weight", "inf"),
  "NaN label": ("label", "nan"),
  "loss that overflows": ("label", "3e38"),
  "NaN of a custom loss": ("label", "7"),
}
LINE = BATCH + 3  # In the second batch of the first ticket of its file.
# {way: the line that is named}: without a number that is not finite, the batch's first.
NAMED = {way: LINE if bad in ("nan", "inf") else BATCH for way, (_, bad) in WAYS.items()}


def custom_loss(y, y_pred):
  """NaN where a label is 7."""
  loss = keras.losses.binary_crossentropy(y, y_pred)
  return loss + tf.where(y[:, 0] == 7, np.nan, 0.0)


def spoilt(folder):
  """After each mode, one after the other, what is left of ten tickets, five with a spoilt batch.

  {mode: (all that a step changes, statistics, spoilt steps, iterations, what stderr said)}, and at
  "limit" the error of a run that ends with its third.
  """
  paths = []
  for number, (way, bad) in enumerate(WAYS.items()):
    paths.append(folder / f"{way}.txt")
    paths[-1].write_text("\n".join(lines(number, {LINE: bad})) + "\n")
  source = source_of({"day": list(map(str, paths))})
  found = {}
  model = compiled(loss=custom_loss)
  model.build_for(source)
  files = Files(folder / "spoilt", model)
  for mode, settings in MODES.items():
    skipped, told = tfps.callbacks.SkippedRecords(), io.StringIO()
    communication = tfps.Communication(**settings)
    with contextlib.redirect_stderr(told):
      model.fit(source, communication=communication, callbacks=[skipped], verbose=0)
    files.write()
    metrics = [np.array(metric.result()) for metric in model.metrics]
    found[mode] = (
      [*state(model), *metrics], model.embedding.table.statistics(), skipped.nonfinite_steps,
      int(model.optimizer.iterations), told.getvalue(),
    )  # fmt: skip
  files.close()
  model.max_nonfinite_steps = 3
  try:
    model.fit(source, verbose=0)
  except ValueError as error:
    found["limit"] = f"{type(error).__name__}: {error}"
  return found


def labels(folder):
  """What is logged of a model whose labels are no clicks, which trains twice."""
  path = folder / "labels.txt"
  path.write_text("\n".join(lines(0, dict.fromkeys(range(0, 48, 5), ("label", "4")))) + "\n")
  logged = []
  warning, logging.warning = logging.warning, lambda text, *values: logged.append(text % values)
  try:
    model = compiled(loss="mse")
    for _ in range(2):
      model.fit(source_of(str(path)), verbose=0)
  finally:
    logging.warning = warning
  return logged


class _Says(keras.callbacks.Callback):
  """Puts "said" in the logs of epochs, and keeps what the model is at their ends."""

  def __init__(self, values):
    super().__init__()
    self.states = []
    self._values = values

  def on_epoch_end(self, epoch, logs=None):
    logs["said"] = self._values[epoch]
    self.states.append(state(self.model))


def best(folder):
  """What the model is at the end of each of three epochs, the second the best, and afterwards."""
  path = folder / "best.txt"
  path.write_text("\n".join(lines()) + "\n")
  model, says = compiled(), _Says([2.0, 1.0, 3.0])
  back = tfps.callbacks.BestCheckpoint(str(folder / "best"), "said", restore=True)
  model.fit(source_of(str(path)), epochs=3, callbacks=[says, back], verbose=0)
  return says.states, state(model), back.best_epoch


def _slots(records):
  columns = tf.strings.split(records, " ").to_tensor(shape=[None, len(FIELDS)])
  label = tf.strings.to_number(columns[:, FIELDS.index("label")])
  user = columns[:, 0]
  cities = tf.strings.substr(user, 0, 2)
  return {"user": tfps.feasign("user", user), "city": tfps.feasign("city", cities)}, label[:, None]


def slot_added(folder):
  """A checkpoint of a model with one slot, in a model with one more.

  (the refusal, the rows of the first model and of the second, the weights of the first, and of the
  second before and after, the loss as the second goes on, how many rows it then has).
  """
  from models.deepfm import DeepFM

  path = folder / "slots.txt"
  path.write_text("\n".join(lines()) + "\n")
  source = tfps.data.source(str(path), _slots, batch_size=BATCH, batches_per_ticket=3)
  users = tfps.feasign("user", [f"u{i}" for i in range(12)])

  def made(slots):
    accessor = tfps.CtrAccessor(create_threshold=0.1)
    table = tfps.FeasignTable("grows", mf_dim=2, accessor=accessor)
    model = DeepFM(table, slots, hidden=[4])
    model.compile("adam", "binary_crossentropy")
    model.build_for(source)
    return model, table

  first, table = made(["user"])
  first.fit(source, verbose=0)
  with contextlib.closing(CheckpointManager(folder / "slots", first, [table])) as manager:
    manager.save({})
  second, grown = made(["user", "city"])
  before = second.get_weights()
  restore = lambda may_differ: CheckpointManager(
    folder / "slots", second, [grown], read_only=True, may_differ=may_differ
  ).restore()
  refusal = ""
  try:
    restore(())
  except CheckpointError as error:
    refusal = str(error)
  restore(ast.literal_eval(re.search(r"may_differ=(\(.*?\)) takes", refusal)[1]))
  rows, after = [one.lookup(users) for one in (table, grown)], second.get_weights()
  history = second.fit(source, verbose=0).history
  count = int(grown.statistics()["rows"])
  return refusal, rows, (first.get_weights(), before, after), history["loss"][-1], count


def rates(folder):
  """A row's weight at the end of each of three epochs, at rates that a callback halves.

  Each epoch has six steps with a gradient of 1.
  """
  path = folder / "rates.txt"
  path.write_text("5\n" * 12)
  parse = lambda records: (
    {"user": tf.strings.to_number(records, tf.int64)}, tf.zeros([tf.size(records), 1])
  )  # fmt: skip
  source = tfps.data.source(str(path), parse, batch_size=2, batches_per_ticket=1)
  accessor = tfps.CtrAccessor(create_threshold=0)
  table = tfps.FeasignTable("rates", mf_dim=2, accessor=accessor, optimizer=tfps.SGD(0.1))
  inputs = {"user": keras.Input([], dtype=tf.int64, name="user")}
  logit = tfps.Embedding(table, ["user"])(inputs).lr_logit
  kept = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", trainable=False)(logit)
  bias = keras.layers.Dense(1, kernel_initializer="zeros")(tf.zeros_like(logit))
  model = tfps.Model(inputs, kept + bias)
  model.compile(keras.optimizers.SGD(0.01), lambda y, y_pred: y_pred)
  found = []
  callbacks = [
    keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 / 2**epoch),
    tfps.callbacks.FollowLearningRate(table, base=0.01),
    keras.callbacks.LambdaCallback(
      on_epoch_end=lambda *_: found.append(
        (float(table.lookup([5])["lr_w"][0]), float(model.trainable_variables[-1].numpy()[0]))
      )
    ),
  ]
  model.fit(source, epochs=3, callbacks=callbacks, verbose=0)
  return found
