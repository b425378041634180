"""Models on Frappe and MovieLens 1M beside published figures, and beside the same models in Keras.

The protocol is that of the published figures: several epochs in another order each, on Frappe with
L2 on all weights of feasigns and a tenth of the learning rate after each epoch in which the
validation AUC does not rise; the end after some such epochs in a row, and the best epoch's model on
the test rows. The twin is the model's file over embeddings of Keras that hold the whole vocabulary
(benchmarks/models.py). benchmarks/published_data.py says which files each data set is made from.
"""

import contextlib
import functools
import os
import sys
import tempfile
import time
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import harness
import numpy as np
import published_data
import tensorflow as tf
import tf_keras as keras

import models as twins
import tfps
from tfps.learning.metrics import ClickScores

TOWER = {"hidden": (400, 400, 400), "batch_norm": True}
MOST_BELOW_TWIN = 0.0005
MOST_BELOW_PUBLISHED = 0.001


class Setting(NamedTuple):
  """How a model is published on a data set.

  Fields:
    arguments: of the model.
    l2: the loss has l2 / 2 times the squares of all vectors and weights of feasigns.
    auc, log_loss: what is published.
  """

  arguments: dict
  l2: float
  auc: float
  log_loss: float


class DataSet(NamedTuple):
  """A data set and what its models share.

  Fields:
    read: function of a folder that returns its `published_data.Split`.
    settings: {model: `Setting`}.
    mf_dim: the length of vectors.
    initial: vectors begin uniform within it, with the published standard deviation.
    learning_rate: of Adam, for all weights.
    patience: how many epochs in a row without a better validation AUC end training.
    falls: whether each of them divides the learning rate by 10.
    is_split: whether the rows that are held out are the published ones.
  """

  read: object
  settings: dict
  mf_dim: int
  initial: float
  learning_rate: float
  patience: int
  falls: bool
  is_split: bool


# github.com/reczoo/BARS, ranking/ctr, Frappe_x1: batch 4,096, Adam 1e-3, one run or the mean of 5.
FRAPPE = {
  "DeepFM": Setting(TOWER | {"dropout": 0.2}, 0.05, 0.9839, 0.1495),
  "DCNv2": Setting(TOWER | {"dropout": 0.4, "crosses": 4}, 0.05, 0.9838, 0.1520),
  "WideAndDeep": Setting(TOWER | {"dropout": 0.6}, 0.1, 0.9831, 0.1540),
  "FinalMLP": Setting(
    {
      "gates": [["user"], ["item"]],
      "gate": [400],
      "heads": 5,
      "hidden": [400],
      "second_hidden": [100],
      "dropout": 0.4,
      "batch_norm": True,
    },
    0.05,
    0.9861,
    0.1484,
  ),
  "AutoInt": Setting(
    {"interacting": 6, "heads": 4, "width": 32, "hidden": []}, 0.05, 0.9831, 0.1637
  ),
}
# github.com/RUCAIBox/RecBole, benchmark/hyper/context, ml-1m: batch 4,096, the best of a search.
THREE = {"hidden": (256, 256, 256)}
MOVIELENS = {
  "DeepFM": Setting(THREE | {"dropout": 0.1}, 0.0, 0.8997, 0.3150),
  "DCNv2": Setting({"hidden": (256, 256), "dropout": 0.2, "crosses": 2}, 0.0, 0.8998, 0.3119),
  "WideAndDeep": Setting(THREE | {"dropout": 0.2}, 0.0, 0.8987, 0.3155),
  "AutoInt": Setting(
    THREE | {"dropout": 0.1, "interacting": 3, "heads": 2, "width": 4}, 0.0, 0.8987, 0.3174
  ),
}
DATA = {
  "frappe": DataSet(published_data.frappe, FRAPPE, 10, 1.7e-4, 1e-3, 2, True, True),
  "movielens": DataSet(published_data.movielens, MOVIELENS, 16, 0.024, 5e-3, 10, False, False),
}


class Protocol(NamedTuple):
  """What both ways of training share."""

  batch_size: int
  most_epochs: int

  def fit(self, data, model, split, restores, follows=()):
    """Trains until the validation AUC does not rise; returns the number of epochs."""
    adam = keras.optimizers.Adam(data.learning_rate, epsilon=1e-8)
    auc = keras.metrics.AUC(num_thresholds=20_000, name="auc")
    model.compile(adam, "binary_crossentropy", metrics=[auc])
    rises = dict(monitor="val_auc", mode="max", min_delta=1e-6)
    falls = keras.callbacks.ReduceLROnPlateau(factor=0.1, patience=1, min_lr=1e-6, **rises)
    history = model.fit(
      split.train.x,
      split.train.y,
      batch_size=self.batch_size,
      epochs=self.most_epochs,
      validation_data=(split.validation.x, split.validation.y),
      validation_batch_size=self.batch_size,
      callbacks=[
        *([falls] if data.falls else []),
        *follows,
        keras.callbacks.EarlyStopping(patience=data.patience, **rises, **restores),
        keras.callbacks.LambdaCallback(on_epoch_end=_tell),
      ],
      verbose=0,
    )
    return len(history.epoch)


def _tell(epoch, logs):
  said = " ".join(f"{name} {value:.4g}" for name, value in logs.items() if name != "val_auc")
  print(f"  epoch {epoch + 1}: val_auc {logs['val_auc']:.5f} {said}", file=sys.stderr, flush=True)


def train_keras(name, data, setting, split, protocol, seed):
  """(The trained twin, epochs)."""
  size = 1 + max(values.max() for part in split for values in part.x.values())
  l2 = keras.regularizers.L2(setting.l2 / 2) if setting.l2 else None
  vocabulary = twins.Vocabulary(size, data.mf_dim, data.initial, l2)
  model = twins.twin_class(name)(vocabulary, list(split.train.x), **setting.arguments)
  return model, protocol.fit(data, model, split, {"restore_best_weights": True})


def train_tfps(name, data, setting, split, protocol, seed, all_rows=False):
  """(The trained model, epochs). A row's gradient is that of a sum over the batch."""
  adam = tfps.Adam(
    data.learning_rate,
    l2=setting.l2 * protocol.batch_size,
    epsilon=1e-8 * protocol.batch_size,
  )
  table = tfps.FeasignTable(
    "published",
    mf_dim=data.mf_dim,
    accessor=tfps.CtrAccessor(create_threshold=0.0),
    optimizer=adam,
    lr_optimizer=adam,
    gradient_scale="sum",
    mf_init_range=data.initial,
    seed=seed,
  )
  model_class = getattr(tfps.models, name)
  if all_rows:
    model_class = with_all_rows(model_class, split.train.x)
  model = model_class(table, list(split.train.x), **setting.arguments)
  follow = tfps.callbacks.FollowLearningRate(table, base=data.learning_rate)
  with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
    best = tfps.callbacks.BestCheckpoint(folder, "val_auc", restore=True)
    return model, protocol.fit(data, model, split, {}, [follow, best])


def with_all_rows(model_class, x):
  """The model whose train step looks up every row of the training set, in addition to the batch's.

  So L2 and momentum alone move a row that is not in the batch, as a dense optimizer has it.
  """
  ids = {f"all_{slot}": np.unique(values[values != 0]) for slot, values in x.items()}

  class AllRows(model_class):
    def __init__(self, table, slots, **arguments):
      super().__init__(table, slots, **arguments)
      share = dict(zip(ids, x))
      self.all_rows = tfps.Embedding(table, list(ids), share=share, sequences=list(ids))

    def call(self, features, training=None):
      p = super().call(features, training=training)
      if not training:
        return p
      size = tf.shape(p)[0]
      looked_up = self.all_rows(
        {slot: in_rows(tf.constant(of_slot), size) for slot, of_slot in ids.items()}, training=True
      )
      return p + 0.0 * tf.add_n([tf.reduce_sum(v) for v in looked_up.sequences.values()])

  return AllRows


def in_rows(ids, size):
  """Ids [n] as [size, k], with padding 0 at the end."""
  k = -(-tf.size(ids) // size)
  return tf.reshape(tf.pad(ids, [[0, k * size - tf.size(ids)]]), [size, k])


WAYS = {
  "Keras": train_keras,
  "tfps": train_tfps,
  "tfps, all rows": functools.partial(train_tfps, all_rows=True),
}


@functools.cache
def test_scores(data_name, folder, name, way, protocol, seed):
  """(AUC, log loss) on the test rows, epochs, seconds."""
  data = DATA[data_name]
  split, setting = read(data_name, folder), data.settings[name]
  print(f"{data_name}, {name}, {way}, seed {seed}", file=sys.stderr, flush=True)
  keras.utils.set_random_seed(seed)
  began = time.perf_counter()
  model, epochs = WAYS[way](name, data, setting, split, protocol, seed)
  seconds = time.perf_counter() - began
  scores = ClickScores()
  p = model.predict(split.test.x, batch_size=protocol.batch_size, verbose=0)
  scores.update(split.test.y, np.asarray(p))
  print(f"  test AUC {scores.auc:.5f} log loss {scores.log_loss:.5f}", file=sys.stderr, flush=True)
  return scores.auc, scores.log_loss, epochs, seconds


@functools.cache
def read(data_name, folder):
  return DATA[data_name].read(folder)


def row_of(data_name, folder, name, way, protocol, seeds):
  setting = DATA[data_name].settings[name]
  runs = [test_scores(data_name, folder, name, way, protocol, seed) for seed in seeds]
  auc, log_loss, epochs, seconds = zip(*runs)
  return {
    "data": data_name,
    "model": name,
    "way": way,
    "AUC": harness.spread(auc),
    "published AUC": setting.auc,
    "log loss": harness.spread(log_loss),
    "published log loss": setting.log_loss,
    "epochs": harness.spread(epochs),
    "seconds": harness.spread(seconds),
  }


def goals_of(data_name, name, auc):
  """The Goals of a model whose AUC is {way: number}."""
  compared = {"its twin": (auc.get("Keras"), MOST_BELOW_TWIN)}
  if DATA[data_name].is_split:
    published = DATA[data_name].settings[name].auc
    compared["what is published"] = (published, MOST_BELOW_PUBLISHED)
  return [
    harness.Goal(f"{data_name}, {name}, {way}: AUC below {what}", other - auc[way], limit)
    for way in auc
    if way != "Keras"
    for what, (other, limit) in compared.items()
    if other is not None
  ]


def main():
  flags = harness.parser(__doc__)
  flags.add_argument("--frappe", help="folder of Frappe's files")
  flags.add_argument("--movielens", help="folder of MovieLens 1M's files")
  flags.add_argument("--models", nargs="+", choices=list(FRAPPE), default=list(FRAPPE))
  flags.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
  flags.add_argument("--seeds", type=int, default=1, help="how often each is trained")
  flags.add_argument("--epochs", type=int, default=100, help="at most")
  flags.add_argument("--batch-size", type=int, default=4096)
  args = flags.parse_args()
  if not any(getattr(args, name) for name in DATA):
    flags.error(f"name a folder with data: --{' or --'.join(DATA)}.")
  protocol = Protocol(args.batch_size, args.epochs)
  rows, goals = [], []
  for data_name, data in DATA.items():
    folder = getattr(args, data_name)
    for name in args.models if folder else ():
      if name not in data.settings:
        continue
      seeds = range(1, args.seeds + 1)
      of_ways = {way: row_of(data_name, folder, name, way, protocol, seeds) for way in args.ways}
      rows += of_ways.values()
      goals += goals_of(data_name, name, {way: row["AUC"].median for way, row in of_ways.items()})
  title = f"Published figures, batch {args.batch_size}, {args.seeds} seeds"
  return harness.report(args, title, rows, goals)


if __name__ == "__main__":
  sys.exit(main())
