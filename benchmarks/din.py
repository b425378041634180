"""DIN on MovieLens 1M: a history that reads the movies' rows, beside the same network in Keras.

Zhou et al., KDD 2018, without a softmax over the history. The ratings are in the order of time, cut
into parts; each part is tested before it is trained on, once.
"""

import collections
import os
import pathlib
import statistics
import sys
import time
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import harness
import numpy as np
import tensorflow as tf
import tf_keras as keras
from row_optimizer import RowOptimizer

import tfps

CLICK_RATING = 4
HISTORY = 20
BATCH = 512
MF_DIM = 8
SLOTS = ("user", "movie", "gender", "age", "occupation", "zip", "genres")
SHARE = {"history": "movie"}


class Way(NamedTuple):
  """Where the vectors are, whose rows the history reads, and what steps them."""

  history: str = "share"  # or "own": feasigns of its own; "mixed": the movies', as of one slot
  optimizer: object = None
  gradient_scale: str = "per_show"
  keras: bool = False  # embeddings of Keras
  init: float = 0.05


WAYS = {
  "Keras, shared, Adagrad 0.1": Way("share", lambda: keras.optimizers.Adagrad(0.1), "sum", True),
  "Keras, shared, Adam 0.01": Way("share", lambda: keras.optimizers.Adam(0.01), keras=True),
  "Keras, unshared, Adagrad 0.1": Way("own", lambda: keras.optimizers.Adagrad(0.1), "sum", True),
  "Keras, unshared, Adam 0.01": Way("own", lambda: keras.optimizers.Adam(0.01), keras=True),
  "tfps, shared, Adagrad 0.3": Way("share", tfps.Adagrad(0.3, initial_g2sum=0.3)),
  "tfps, shared, FTRL 0.2": Way("share", tfps.FTRL(0.2, beta=0.3), "sum"),
  "tfps, unshared, Adagrad 0.3": Way("own", tfps.Adagrad(0.3, initial_g2sum=0.3)),
  "tfps, unshared, FTRL 0.2": Way("own", tfps.FTRL(0.2, beta=0.3), "sum"),
  "tfps, shared, Adam 0.01": Way("share", tfps.Adam(0.01)),
  "tfps, one slot, Adagrad 0.3": Way("mixed", tfps.Adagrad(0.3, initial_g2sum=0.3)),
}


def main():
  flags = harness.parser(__doc__)
  flags.add_argument("--data", default="data/ml-1m", help="folder that holds MovieLens 1M")
  flags.add_argument("--parts", type=int, default=6, help="how many parts there are")
  flags.add_argument("--part", type=int, default=40_000, help="examples of a part")
  flags.add_argument("--seeds", type=int, default=3, help="how often each is trained")
  flags.add_argument("--ways", nargs="+", choices=sorted(WAYS), default=list(WAYS))
  args = flags.parse_args()
  values, labels = read(pathlib.Path(args.data), args.parts * args.part)
  rows = []
  for name in args.ways:
    runs = []
    for seed in range(args.seeds):
      runs.append(measure(WAYS[name], values, labels, args.part, seed))
      print(name, seed, *(f"{auc:.4f}" for auc in runs[-1][0]), file=sys.stderr, flush=True)
    rows.append(row_of(name, runs))
  return harness.report(args, f"DIN, MovieLens 1M, batch {BATCH}, one pass", rows, [])


def row_of(name, runs):
  """The result row of several runs, which are (AUC of each part from the second, seconds)."""
  aucs = np.array([auc for auc, _ in runs])
  row = {"what": name, "mean AUC": harness.spread(aucs.mean(axis=1))}
  row |= {f"AUC, part {2 + i}": statistics.mean(aucs[:, i]) for i in range(aucs.shape[1])}
  return row | {"seconds": harness.spread([seconds for _, seconds in runs])}


def read(folder, count):
  """({slot: strings [n] or [n, k]}, float32 [n, 1]) of the first ratings by time."""
  lines = lambda name: (folder / name).read_text("latin-1").splitlines()
  genres = {line.split("::")[0]: line.split("::")[2].split("|") for line in lines("movies.dat")}
  users = {line.split("::")[0]: line.split("::")[1:] for line in lines("users.dat")}
  ratings = [tuple(map(int, line.split("::"))) for line in lines("ratings.dat")]
  ratings.sort(key=lambda rating: (rating[3], rating[0], rating[1]))
  columns = collections.defaultdict(list)
  liked = collections.defaultdict(list)  # (time, movie) of each user, in order
  for user, movie, rating, when in ratings[:count]:
    earlier = [str(one) for at, one in liked[user][-2 * HISTORY :] if at < when][-HISTORY:]
    described = dict(zip(("gender", "age", "occupation", "zip"), users[str(user)]))
    example = described | {"user": str(user), "movie": str(movie)}
    example |= {"genres": genres[str(movie)], "history": earlier, "click": rating >= CLICK_RATING}
    for name, value in example.items():
      columns[name].append(value)
    if rating >= CLICK_RATING:
      liked[user].append((when, movie))
  labels = np.array(columns.pop("click"), np.float32)[:, None]
  values = {
    name: padded(column) if isinstance(column[0], list) else np.array(column)
    for name, column in columns.items()
  }
  return values, labels


def padded(lists):
  """Strings [n, k], "" where a list is shorter."""
  longest = max(map(len, lists))
  return np.array([one + [""] * (longest - len(one)) for one in lists])


class Attention(keras.layers.Layer):
  """A weighted sum of a history's vectors; a small network says how well each suits the target."""

  def __init__(self):
    super().__init__()
    self.score = keras.Sequential(
      [keras.layers.Dense(32, "relu"), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)]
    )

  def call(self, target, history, present):
    target = tf.repeat(target[:, None], tf.shape(history)[1], axis=1)
    pairs = tf.concat([target, history, target - history, target * history], axis=2)
    return tf.reduce_sum(self.score(pairs) * present[:, :, None] * history, axis=1)


class Din:
  """The network over what a subclass, which is a model, looks up."""

  def __init__(self):
    super().__init__()
    self.attention = Attention()
    self.tower = keras.Sequential(
      [keras.layers.Dense(64, "relu"), keras.layers.Dense(32, "relu"), keras.layers.Dense(1)]
    )

  def call(self, x, training=None):
    logit, vectors, history = self.look_up(x, training)
    present = tf.cast(x["history"] != 0, tf.float32)
    read = self.attention(vectors[SLOTS.index("movie")], history, present)
    return tf.sigmoid(logit + self.tower(tf.concat([*vectors, read], axis=1)))


class TableDin(Din, tfps.Model):
  """Rows of a table."""

  def __init__(self, way):
    super().__init__()
    table = tfps.FeasignTable(
      "din",
      mf_dim=MF_DIM,
      optimizer=way.optimizer,
      gradient_scale=way.gradient_scale,
      mf_init_range=way.init,
      accessor=tfps.CtrAccessor(create_threshold=0.0),
    )
    arguments = {"mixed": dict(lr_slots=["history"]), "own": {}, "share": dict(share=SHARE)}
    self.embedding = tfps.Embedding(
      table,
      [*SLOTS, "history"],
      {"genres": "mean"},
      sequences=["history"],
      **arguments[way.history],
    )

  def look_up(self, x, training):
    output = self.embedding(x, training=training)
    return output.lr_logit, tf.unstack(output.mf, axis=1), output.sequences["history"]


class KerasDin(RowOptimizer, Din, keras.Model):
  """Embeddings of the whole vocabulary; the history reads the movies', or has its own."""

  def __init__(self, sizes, way):
    super().__init__()
    self.movies = SHARE["history"] if way.history == "share" else "history"
    uniform = lambda: keras.initializers.RandomUniform(-way.init, way.init)
    self.wide = [keras.layers.Embedding(sizes[slot], 1, "zeros") for slot in SLOTS]
    self.deep = {
      slot: keras.layers.Embedding(sizes[slot], MF_DIM, uniform())
      for slot in dict.fromkeys([*SLOTS, self.movies])
    }
    self.row_optimizer, self.sums = way.optimizer(), way.gradient_scale == "sum"

  def look_up(self, x, training):
    weights = [_mean(layer(x[slot]), x[slot]) for layer, slot in zip(self.wide, SLOTS)]
    vectors = [_mean(self.deep[slot](x[slot]), x[slot]) for slot in SLOTS]
    return tf.add_n(weights), vectors, self.deep[self.movies](x["history"])

  def row_layers(self):
    return [*self.wide, *self.deep.values()]


def _mean(vectors, ids):
  if vectors.shape.rank == 2:
    return vectors
  present = tf.cast(ids != 0, tf.float32)[:, :, None]
  return tf.math.divide_no_nan(
    tf.reduce_sum(vectors * present, axis=1), tf.reduce_sum(present, axis=1)
  )


def measure(way, values, labels, part, seed):
  """(AUC of each part from the second on, seconds of all)."""
  keras.utils.set_random_seed(seed)
  if way.keras:
    x, sizes = numbered(values, {} if way.history == "own" else SHARE)
    model = KerasDin(sizes, way)
  else:
    owners = {} if way.history == "own" else SHARE
    x = {
      slot: tfps.feasign(owners.get(slot, slot), column, padding="").numpy()
      for slot, column in values.items()
    }
    model = TableDin(way)
  model.compile("adam", "binary_crossentropy")
  aucs, started = [], time.perf_counter()
  for begin in range(0, len(labels), part):
    of_part = {slot: column[begin : begin + part] for slot, column in x.items()}
    clicks = labels[begin : begin + part]
    if begin:
      scores = model.predict(of_part, batch_size=4096, verbose=0)
      aucs.append(auc(clicks[:, 0], scores[:, 0]))
    model.fit(of_part, clicks, batch_size=BATCH, shuffle=False, verbose=0)
  return aucs, time.perf_counter() - started


def auc(clicks, scores):
  """The share of pairs of a click and a non-click that are in order; half of those with ties."""
  _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
  ranks = (np.cumsum(count) - (count - 1) / 2)[place]
  positive = clicks.sum()
  above = ranks[clicks > 0].sum() - positive * (positive + 1) / 2
  return float(above / (positive * (len(clicks) - positive)))


def numbered(values, owners):
  """({slot: numbers from 1 by value, 0 is padding}, {slot: how many there are})."""
  x, sizes = {}, {}
  for slot, column in values.items():
    words = values[owners.get(slot, slot)]
    number = {
      word: i for i, word in enumerate(sorted(set(words.flat) | set(column.flat) - {""}), 1)
    }
    number[""] = 0
    x[slot] = np.array([number[word] for word in column.flat]).reshape(column.shape)
    sizes[slot] = 1 + max(number.values())
  return x, sizes


if __name__ == "__main__":
  sys.exit(main())
