"""Models on Frappe and MovieLens 1M beside published figures, and beside the same models in Keras.

The protocol is that of the published figures: several epochs in another order each, L2 on the
vectors, a tenth of the learning rate after each epoch in which the validation AUC does not rise,
the end after two such epochs in a row, and the best epoch's model on the test rows. The twin is the
model's file over embeddings of Keras that hold the whole vocabulary (benchmarks/models.py).
benchmarks/published_data.py says which files each data set is made from.
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
  """A data set: the function that reads it, the length of vectors, and its models."""

  read: object
  mf_dim: int
  settings: dict


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
# Wang et al., "DCN V2", WWW 2021, table 5; the settings are not published.
MOVIELENS = {
  "DeepFM": Setting(TOWER | {"dropout": 0.2}, 1e-5, 0.8932, 0.3202),
  "DCNv2": Setting(TOWER | {"dropout": 0.2, "crosses": 3}, 1e-5, 0.8964, 0.3160),
}
DATA = {
  "frappe": DataSet(published_data.frappe, 10, FRAPPE),
  "movielens": DataSet(published_data.movielens, 16, MOVIELENS),
}


class Protocol(NamedTuple):
  """What both ways of training share."""

  batch_size: int
  learning_rate: float
  most_epochs: int

  def fit(self, model, split, restores, follows=()):
    """Trains until the validation AUC does not rise; returns the number of epochs."""
    adam = keras.optimizers.Adam(self.learning_rate, epsilon=1e-8)
    auc = keras.metrics.AUC(num_thresholds=20_000, name="auc")
    model.compile(adam, "binary_crossentropy", metrics=[auc])
    rises = dict(monitor="val_auc", mode="max", min_delta=1e-6)
    history = model.fit(
      split.train.x,
      split.train.y,
      batch_size=self.batch_size,
      epochs=self.most_epochs,
      validation_data=(split.validation.x, split.validation.y),
      validation_batch_size=self.batch_size,
      callbacks=[
        keras.callbacks.ReduceLROnPlateau(factor=0.1, patience=1, min_lr=1e-6, **rises),
        *follows,
        keras.callbacks.EarlyStopping(patience=2, **rises, **restores),
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
  l2 = keras.regularizers.L2(setting.l2 / 2)
  vocabulary = twins.Vocabulary(size, data.mf_dim, INITIAL, l2)
  model = twins.twin_class(name)(vocabulary, list(split.train.x), **setting.arguments)
  return model, protocol.fit(model, split, {"restore_best_weights": True})


INITIAL = 1.7e-4  # Uniform within it has the published standard deviation, 1e-4.


def train_tfps(name, data, setting, split, protocol, seed):
  """(The trained model, epochs). A row's gradient is that of a sum over the batch."""
  adam = tfps.Adam(
    protocol.learning_rate,
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
    mf_init_range=INITIAL,
    seed=seed,
  )
  model = getattr(tfps.models, name)(table, list(split.train.x), **setting.arguments)
  follow = tfps.callbacks.FollowLearningRate(table, base=protocol.learning_rate)
  with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
    best = tfps.callbacks.BestCheckpoint(folder, "val_auc", restore=True)
    return model, protocol.fit(model, split, {}, [follow, best])


WAYS = {"Keras": train_keras, "tfps": train_tfps}


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


def main():
  flags = harness.parser(__doc__)
  flags.add_argument("--frappe", help="folder of Frappe's files")
  flags.add_argument("--movielens", help="folder of MovieLens 1M's files")
  flags.add_argument("--models", nargs="+", choices=list(FRAPPE), default=list(FRAPPE))
  flags.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
  flags.add_argument("--seeds", type=int, default=1, help="how often each is trained")
  flags.add_argument("--epochs", type=int, default=100, help="at most")
  flags.add_argument("--batch-size", type=int, default=4096)
  flags.add_argument("--learning-rate", type=float, default=1e-3)
  args = flags.parse_args()
  protocol = Protocol(args.batch_size, args.learning_rate, args.epochs)
  rows, goals = [], []
  for data_name, data in DATA.items():
    folder = getattr(args, data_name)
    for name in args.models if folder else ():
      if name not in data.settings:
        continue
      seeds = range(1, args.seeds + 1)
      of_ways = {way: row_of(data_name, folder, name, way, protocol, seeds) for way in args.ways}
      rows += of_ways.values()
      if len(of_ways) == len(WAYS):
        below = of_ways["Keras"]["AUC"].median - of_ways["tfps"]["AUC"].median
        goals.append(
          harness.Goal(f"{data_name}, {name}: AUC below its twin", below, MOST_BELOW_TWIN)
        )
      if data_name == "frappe" and "tfps" in of_ways:
        below = FRAPPE[name].auc - of_ways["tfps"]["AUC"].median
        goals.append(
          harness.Goal(
            f"{data_name}, {name}: AUC below what is published", below, MOST_BELOW_PUBLISHED
          )
        )
  title = f"Published figures, batch {args.batch_size}, {args.seeds} seeds"
  return harness.report(args, title, rows, goals)


if __name__ == "__main__":
  sys.exit(main())
