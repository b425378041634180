"""Every model of models/ beside its Keras twin on the same rows of MovieLens 1M, in one pass.

The twin is the same file over embeddings of Keras that hold every feasign from the start, and
keras.Model in place of tfps.Model. Both are trained in several ways each, as a user who tries
optimizers would; of each, the one that is better with the first seed counts. The rows are the first
ones by time, in parts of 8,192, each tested before it is trained on; examples/s are of the parts
after the first two, in which functions are traced.
"""

import ast
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import harness
import numpy as np
import tensorflow as tf
import tf_keras as keras
from row_optimizer import RowOptimizer

import tfps
from tfps.cli import config as cli_config
from tfps.graph.autograph import libraries_unconverted
from tfps.layers.embedding import EmbeddingOutput
from tfps.learning.metrics import ClickScores

ROOT = pathlib.Path(__file__).resolve().parent.parent
SLOTS = ["user_id", "movie_id", "genres", "gender", "age", "occupation", "zip", "history"]
LABELS = {"ctr": 4, "ctcvr": 5}
HISTORY, TASKS = {"target": "movie_id"}, {"tasks": tuple(LABELS)}
# The arguments that a model needs on these rows.
MODELS = {
  "WideAndDeep": {},
  "DeepFM": {},
  "XDeepFM": {},
  "DCNv2": {},
  "AutoInt": {},
  "FinalMLP": {},
  "DLRM": {},
  "DIN": HISTORY,
  "BST": HISTORY,
  "SASRec": HISTORY,
  "MMoE": TASKS,
  "PLE": TASKS,
  "ESMM": TASKS,
}
PART = 8192
BATCH = 512
MOST_BELOW_TWIN = 0.001


class Way(NamedTuple):
  """What steps the rows of a table, or the embeddings of a twin.

  Fields:
    mf_init_range: vectors begin within it.
    optimizer: where it is None, that of the configuration, or that of the twin's dense weights.
    sums: whether it takes the gradients of a sum over the batch.
  """

  mf_init_range: float
  optimizer: Callable[[], Any] | None = None
  sums: bool = False


WAYS = {
  "Adagrad": Way(1e-4),
  "FTRL 0.1 of sums": Way(0.05, lambda: tfps.FTRL(0.1, beta=0.3), True),
  "FTRL 0.2 of sums": Way(0.05, lambda: tfps.FTRL(0.2, beta=0.3), True),
}
TWIN_WAYS = {
  "Adam": Way(0.05),
  "Adam, near 0": Way(1e-4),
  "Adagrad of sums": Way(0.05, lambda: keras.optimizers.Adagrad(0.1), True),
}


class Vocabulary:
  """Stands for a table in a twin: how many feasigns there are, and how vectors begin.

  `regularizer` is that of both embeddings, of whole vocabularies; none by default.
  """

  def __init__(self, size, mf_dim, mf_init_range, regularizer=None):
    self.size, self.mf_dim, self.regularizer = size, mf_dim, regularizer
    self._range = mf_init_range

  @property
  def initial(self):
    return keras.initializers.RandomUniform(-self._range, self._range)

  def mf_dim_of(self, slot):
    return self.mf_dim


class FullVocabulary(keras.layers.Layer):
  """`tfps.Embedding`, as far as the models use it, of two embeddings of Keras."""

  def __init__(
    self, table, slots, combiner="sum", dtype=None, share=None, sequences=(), statistics=False
  ):
    super().__init__(dtype=dtype)
    self.combiner, self.sequence_slots = combiner, sequences
    self.pooled_slots = tuple(slot for slot in slots if slot not in sequences)
    self.mf_dim = table.mf_dim
    embedding = lambda dim, initial: keras.layers.Embedding(
      table.size, dim, initial, embeddings_regularizer=table.regularizer
    )
    self.weights_ = embedding(1, "zeros")
    self.vectors = embedding(table.mf_dim, table.initial)
    self.shows = statistics and self.add_weight(
      "shows", [table.size], initializer="zeros", trainable=False
    )

  def call(self, features, training=None):
    # Index 0 is padding.
    mf = tf.stack([self._pool(self.vectors, features, slot) for slot in self.pooled_slots], axis=1)
    lr = [self._pool(self.weights_, features, slot) for slot in self.pooled_slots]
    sequences = {
      slot: self.vectors(features[slot]) * _present(features[slot]) for slot in self.sequence_slots
    }
    lr = tf.concat(lr, axis=1)
    counts = {} if self.shows is False else self._count(features, training)
    return EmbeddingOutput(tf.reduce_sum(lr, axis=1, keepdims=True), lr, mf, sequences, counts)

  def _count(self, features, training):
    """{slot: [B, 1, 2]} of slots with one feasign: its shows so far, and no clicks."""
    ids = {slot: features[slot] for slot in self.pooled_slots if features[slot].shape.rank == 1}
    shows = {slot: tf.gather(self.shows, of_slot) for slot, of_slot in ids.items()}
    with tf.control_dependencies(shows.values()):
      for of_slot in ids.values() if training else ():
        self.shows.scatter_add(tf.IndexedSlices(tf.ones(tf.shape(of_slot)), of_slot))
    return {
      slot: tf.stack([read, tf.zeros_like(read)], axis=1)[:, tf.newaxis]
      for slot, read in shows.items()
    }

  def _pool(self, embedding, features, slot):
    ids = features[slot]
    if ids.shape.rank == 1:
      return embedding(ids)
    assert self.combiner == "mean"
    present = _present(ids)
    total = tf.reduce_sum(embedding(ids) * present, axis=1)
    return total / tf.maximum(tf.reduce_sum(present, axis=1), 1.0)


def _present(ids):
  return tf.cast(ids != 0, tf.float32)[:, :, tf.newaxis]


def file_of(name):
  return ROOT / "models" / f"{getattr(tfps.models, name).__module__.rpartition('.')[2]}.py"


def twin_class(name, way=None):
  """The model's file over `FullVocabulary`, whose weights are stepped in this `Way`."""
  text = file_of(name).read_text()
  for ours, keras_s in (("tfps.Embedding(", "FullVocabulary("), ("(tfps.Model)", "(keras.Model)")):
    assert ours in text
    text = text.replace(ours, keras_s)
  names = {"FullVocabulary": FullVocabulary, "__name__": f"twin_of_{name}"}
  exec(compile(text, str(file_of(name)), "exec", dont_inherit=True), names)
  twin = names[name]
  if way is None or way.optimizer is None:
    return twin

  class Twin(RowOptimizer, twin):
    def __init__(self, *arguments, **keywords):
      super().__init__(*arguments, **keywords)
      self.row_optimizer, self.sums = way.optimizer(), way.sums

    def row_layers(self):
      return [layer for layer in self.submodules if isinstance(layer, FullVocabulary)]

  return Twin


def lines_of_code(name):
  """Lines of the model's file without docstrings, comments and what is empty."""
  tree = ast.parse(file_of(name).read_text())
  for node in ast.walk(tree):
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
      node.body = node.body[1:]
  return len({node.lineno for node in ast.walk(tree) if hasattr(node, "lineno")})


def read(folder, most, share):
  """({slot: feasigns}, dense beside them; {task: labels [n, 1]}) of the first rows."""
  source = tfps.data.movielens(folder, slots=SLOTS, labels=LABELS, batch_size=PART, share=share)
  features, labels = first_rows(source, most)
  history = np.count_nonzero(features["history"], axis=1)
  features["dense"] = np.log1p(history, dtype=np.float32)[:, None]
  return features, labels


def first_rows(source, most):
  """({slot: feasigns}, labels) of a source's first rows."""
  parts, count = [], 0
  for ticket in source.tickets():
    for x, y in source.open(ticket).as_numpy_iterator():
      parts.append((x, y))
      count += len(x["user_id"])
    if count >= most:
      break
  labels = [y for _, y in parts]
  labels = tf.nest.map_structure(lambda *values: np.concatenate(values)[:most], *labels)
  return {slot: joined([x[slot] for x, _ in parts])[:most] for slot in parts[0][0]}, labels


def joined(values):
  """Arrays [n] or [n, k] one after the other, padded with 0 to the widest."""
  if values[0].ndim == 2:
    widest = max(value.shape[1] for value in values)
    values = [np.pad(value, [(0, 0), (0, widest - value.shape[1])]) for value in values]
  return np.concatenate(values)


def indices(features, slots=SLOTS):
  """(The features with the number of each feasign in the place of the feasign, how many)."""
  ids = {slot: features[slot] for slot in slots}
  known = np.unique(np.concatenate([[0], *(value.reshape(-1) for value in ids.values())]))
  number = np.arange(len(known))
  zero = int(np.searchsorted(known, 0))
  number[[0, zero]] = number[[zero, 0]]  # 0 stays 0.
  numbered = {slot: number[np.searchsorted(known, value)] for slot, value in ids.items()}
  return features | numbered, len(known)


def progressive(model, features, labels, tasks):
  """(the AUC of the first task, examples/s)."""
  loss = "binary_crossentropy"
  model.compile("adam", dict.fromkeys(tasks, loss) if tasks else loss)
  scores, taken, count = ClickScores(), 0.0, len(labels["ctr"])
  timed = 0
  for start in range(0, count, PART):
    rows = slice(start, start + PART)
    x = {name: value[rows] for name, value in features.items()}
    y = {task: labels[task][rows] for task in tasks} if tasks else labels["ctr"][rows]
    p = model.predict(x, batch_size=PART, verbose=0)
    scores.update(labels["ctr"][rows].reshape(-1), (p["ctr"] if tasks else p).reshape(-1))
    began = time.perf_counter()
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    if start >= 2 * PART:
      taken += time.perf_counter() - began
      timed += len(labels["ctr"][rows])
  return scores.auc, timed / taken if taken else 0.0


def measure(name, features, labels, config, ways, seeds):
  """A row of the report, which is printed to stderr at once, too."""
  numbered, size = indices(features)
  arguments, tasks = MODELS[name], MODELS[name].get("tasks", ())

  def of_table(way, seed):
    model = getattr(tfps.models, name)(make_table(config, way, seed), SLOTS, **arguments)
    return progressive(model, features, labels, tasks)

  def of_twin(way, seed):
    vocabulary = Vocabulary(size, config.table.mf_dim, way.mf_init_range)
    model = twin_class(name, way)(vocabulary, SLOTS, **arguments)
    return progressive(model, numbered, labels, tasks)

  way, ours = best(_chosen(WAYS, ways), of_table, seeds)
  twin_way, twins = best(_chosen(TWIN_WAYS, ways), of_twin, seeds)
  row = {
    "model": name,
    "AUC": round(_mean_auc(ours), 4),
    "way": way,
    "twin_AUC": round(_mean_auc(twins), 4),
    "twin_way": twin_way,
    "difference": harness.spread([one - other for (one, _), (other, _) in zip(ours, twins)]),
    "examples_per_s": harness.spread([speed for _, speed in ours]),
    "twin_examples_per_s": harness.spread([speed for _, speed in twins]),
    "lines": lines_of_code(name),
  }
  print(*(f"{column} {value}" for column, value in row.items()), sep=", ", file=sys.stderr)
  return row


def _chosen(ways, names):
  return {name: way for name, way in ways.items() if name in names}


def best(ways, train, seeds):
  """(The way that is better in the first seed, its results of all seeds)."""

  def trained(way, seed):
    keras.utils.set_random_seed(seed)
    return train(ways[way], seed)

  first, *others = seeds
  results = {way: trained(way, first) for way in ways}
  print(f"seed {first}: {results}", file=sys.stderr, flush=True)
  chosen = max(ways, key=lambda way: results[way][0])
  return chosen, [results[chosen], *(trained(chosen, seed) for seed in others)]


def _mean_auc(found):
  return statistics.mean(auc for auc, _ in found)


def make_table(config, way, seed):
  """The table of configs/movielens.py; every feasign owns a vector at once, as in the twin."""
  settings = {**config.table, "name": "models", "seed": seed, "mf_init_range": way.mf_init_range}
  if way.sums:
    settings["gradient_scale"] = "sum"
  made = lambda of_config: (way.optimizer or (lambda: tfps.Adagrad(**_without_name(of_config))))()
  return tfps.FeasignTable(
    **settings,
    accessor=tfps.CtrAccessor(create_threshold=0.0),
    optimizer=made(config.mf_optimizer),
    lr_optimizer=made(config.lr_optimizer),
  )


def _without_name(settings):
  return {field: value for field, value in settings.items() if field != "name"}


def main():
  flags = harness.parser(__doc__)
  flags.add_argument("--data", default="data/ml-1m", help="folder of the published files")
  flags.add_argument("--rows", type=int, default=240_000, help="how many ratings")
  flags.add_argument("--seeds", type=int, default=3, help="how many seeds")
  flags.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
  both = [*WAYS, *TWIN_WAYS]
  flags.add_argument("--ways", nargs="+", choices=both, default=both, help="of model and twin")
  args = flags.parse_args()
  _, config = cli_config.load(str(ROOT / "configs" / "movielens.py"))
  own, labels = read(args.data, args.rows, {})
  shared, _ = read(args.data, args.rows, {"history": "movie_id"})
  seeds = range(1, args.seeds + 1)
  # The graphs are the same; AutoGraph has less to convert.
  with libraries_unconverted():
    rows = [
      measure(name, shared if MODELS[name] is HISTORY else own, labels, config, args.ways, seeds)
      for name in args.models
    ]
  goals = [
    harness.Goal(
      f"{row['model']}: AUC below its twin", row["twin_AUC"] - row["AUC"], MOST_BELOW_TWIN
    )
    for row in rows
  ]
  count = len(labels["ctr"])
  title = f"Models beside their Keras twins, {count:,} rows, batch {BATCH}, {args.seeds} seeds"
  return harness.report(args, title, rows, goals)


if __name__ == "__main__":
  sys.exit(main())
