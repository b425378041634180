"""Two towers beside their Keras twin on the same rows of MovieLens 1M, in one pass: recall@50.

The rows are the first ones by time, in parts of 8,192. With each part, before it is trained on, it
is tested how often a movie that was rated 4 or more is among the 50 best of all movies. The twin is
`models/two_tower.py` over embeddings of Keras that hold every feasign from the start, and counts
shows in a variable; its vectors begin as the config's, or as Keras's own, and what is better with
the first seed counts. The most popular 50 movies so far are the floor. At the end both towers are
exported, and three deltas are applied to what is served.
"""

import os
import statistics
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import harness
import numpy as np
import tensorflow as tf
import tf_keras as keras

import models as twins_lib
import tfps
from tfps.cli import config as cli_config
from tfps.learning.recall import RecallScores

CONFIG = twins_lib.ROOT / "configs" / "movielens_towers.py"
PREDICTED = 8192
BATCH = 512
K = 50
DELTAS = 3
MOST_BELOW_TWIN = 0.001
MOST_SERVED_APART = 1e-6


class Data:
  """The rows and all items, for tfps and numbered for a twin.

  Attributes:
    x, items: {name: feasigns}.
    y: float32 [n, 1].
    clicked: int [n], the place of each row's movie among the items.
    numbers, numbered_items, size: x and items for a twin, and how many feasigns there are.
  """

  def __init__(self, source, items, rows, part):
    self._part = part
    self.items = {slot: np.asarray(values) for slot, values in items.items()}
    self.x, self.y = twins_lib.first_rows(source, rows)
    place = {movie: number for number, movie in enumerate(self.items["movie_id"].tolist())}
    self.clicked = np.array([place[movie] for movie in self.x["movie_id"].tolist()])
    both = {
      slot: twins_lib.joined([values, self.items[slot]]) if slot in self.items else values
      for slot, values in self.x.items()
    }
    numbers, self.size = twins_lib.indices(both, list(both))
    self.numbers = {slot: values[: len(self.y)] for slot, values in numbers.items()}
    self.numbered_items = {slot: numbers[slot][len(self.y) :] for slot in self.items}

  def parts(self):
    """Slices of the rows."""
    return [slice(start, start + self._part) for start in range(0, len(self.y), self._part)]


def train(model, data, x, items, slots):
  """(the RecallScores of all parts but the first, examples/s)."""
  total, taken, timed = RecallScores(), 0.0, 0
  for number, rows in enumerate(data.parts()):
    of_part = {slot: values[rows] for slot, values in x.items()}
    if number:
      clicks = data.y[rows, 0] > 0
      users = model.user.predict(
        {slot: of_part[slot][clicks] for slot in slots}, batch_size=PREDICTED, verbose=0
      )
      vectors = model.item.predict(items, batch_size=PREDICTED, verbose=0)
      total.update(users, data.clicked[rows][clicks], vectors, [K])
    began = time.perf_counter()
    model.fit(of_part, data.y[rows], batch_size=BATCH, shuffle=False, verbose=0)
    if number > 1:
      taken += time.perf_counter() - began
      timed += len(data.y[rows])
  return total.recall[K], timed / taken if taken else 0.0


def most_popular(data):
  """The recall of the items that were clicked most so far."""
  total, clicks = RecallScores(), np.zeros(len(data.items["movie_id"]))
  for number, rows in enumerate(data.parts()):
    clicked = data.clicked[rows][data.y[rows, 0] > 0]
    if number:
      total.update(np.ones([len(clicked), 1]), clicked, clicks[:, np.newaxis], [K])
    np.add.at(clicks, clicked, 1)
  return total.recall[K]


def served_apart(model, data, raws, columns):
  """The largest difference between the vectors of both served towers, after deltas, and ours."""
  rows = slice(0, BATCH)
  with tempfile.TemporaryDirectory() as folder:
    exporter = tfps.export.Exporter(model.served_models(), folder, raws)
    sessions = {name: tfps.export.SavedModelSession(path) for name, path in exporter.base().items()}
    for number in range(DELTAS):
      rows = slice(number * BATCH, (number + 1) * BATCH)
      model.train_on_batch({slot: values[rows] for slot, values in data.x.items()}, data.y[rows])
      for name, path in exporter.delta().items():
        for chunk in tfps.export.delta_chunks(path):
          sessions[name].run(chunk, "apply_delta")
    apart = 0.0
    for name, tower in model.served_models().items():
      raw = {key: columns[name][key] for key in raws[name].specs}
      features = raws[name].features({key: tf.constant(of_all) for key, of_all in raw.items()})
      found, expected = sessions[name].run(raw)["predictions"], tower(features).numpy()
      apart = max(apart, float(np.abs(found - expected).max()))
      sessions[name].close()
    exporter.close()
  return apart


def make_model(config, seed, table=None, model_class=None):
  keras.utils.set_random_seed(seed)
  if table is None:
    table = make_table(config, seed)
    model_class = tfps.models.TwoTower
  model = model_class(table, **dict(config.model.args))
  optimizer = keras.optimizers.get(config.dense_optimizer.name)
  optimizer.learning_rate = config.dense_optimizer.learning_rate
  model.compile(optimizer)
  return model


def make_table(config, seed):
  """The config's table; every feasign owns a vector at once, as in the twin, and is served."""
  optimizer = {**config.mf_optimizer}
  return tfps.FeasignTable(
    **{**config.table, "name": "two_towers", "seed": seed},
    accessor=tfps.CtrAccessor(
      create_threshold=0.0, base_update_threshold=0.0, delta_update_threshold=0.0
    ),
    optimizer=getattr(tfps, optimizer.pop("name"))(**optimizer),
  )


def main():
  flags = harness.parser(__doc__)
  flags.add_argument("--data", default="data/ml-1m", help="folder of the published files")
  flags.add_argument("--rows", type=int, default=240_000, help="how many ratings")
  flags.add_argument("--part", type=int, default=8192, help="how many are tested at a time")
  flags.add_argument("--seeds", type=int, default=3, help="how many seeds")
  flags.add_argument("--overrides", nargs="*", default=[], help="as of the config, without --")
  args = flags.parse_args()
  overrides = [f"--config.data.folder={args.data}", *(f"--{one}" for one in args.overrides)]
  module, config = cli_config.load(str(CONFIG), overrides)
  source = module.source(config)
  raws, columns = source.raw_inputs, module.movies(config)
  items = raws["item"].features({name: tf.constant(of_all) for name, of_all in columns.items()})
  data = Data(source, items, args.rows, args.part)
  user_slots = config.model.args.user_slots
  print(f"most popular {most_popular(data):.4f}", file=sys.stderr)
  ours, apart = [], 0.0
  ranges = (config.table.mf_init_range, 0.05)
  twins = {mf_init_range: [] for mf_init_range in ranges}
  for seed in range(1, args.seeds + 1):
    model = make_model(config, seed)
    ours.append(train(model, data, data.x, data.items, user_slots))
    print(f"tfps {ours[-1]}", file=sys.stderr)
    served = {"user": raws["user"].sample(0, 256), "item": columns}
    apart = max(apart, served_apart(model, data, raws, served))
    first = {name: found[0][0] for name, found in twins.items() if found}
    for mf_init_range in [max(first, key=first.get)] if first else ranges:
      vocabulary = twins_lib.Vocabulary(data.size, config.table.mf_dim, mf_init_range)
      model = make_model(config, seed, vocabulary, twins_lib.twin_class("TwoTower"))
      twins[mf_init_range].append(train(model, data, data.numbers, data.numbered_items, user_slots))
      print(f"twin of {mf_init_range} {twins[mf_init_range][-1]}", file=sys.stderr)
  twin = max(twins.values(), key=lambda found: found[0][0])
  mean = lambda found: statistics.mean(recall for recall, _ in found)
  rows = [
    {"model": name, f"recall@{K}": round(recall, 4), "examples_per_s": speed}
    for name, recall, speed in [
      ("tfps", mean(ours), harness.spread([speed for _, speed in ours])),
      ("twin", mean(twin), harness.spread([speed for _, speed in twin])),
      ("most popular", most_popular(data), None),
    ]
  ]
  goals = [
    harness.Goal(f"recall@{K} below the twin", mean(twin) - mean(ours), MOST_BELOW_TWIN),
    harness.Goal(f"served apart after {DELTAS} deltas", apart, MOST_SERVED_APART),
  ]
  title = f"Two towers beside their Keras twin, {len(data.y):,} rows, {args.seeds} seeds"
  return harness.report(args, title, rows, goals)


if __name__ == "__main__":
  sys.exit(main())
