"""Two towers on MovieLens 1M: which of all movies will this user rate 4 or more?

Each day is tested before it is trained on: how often the movie is among the first 10 and 50 of all.
With `--config.export.folder=...` both towers are exported together, into `user` and `item` there.
For the data, see movielens.py.

Expected of the first 50 days of users 1 to 2999 (141,005 clicks, `--config.data.days=50`), all days
together: recall@10 0.0428, recall@50 0.1570. One seed.
"""

import pathlib
import re

import numpy as np
import tensorflow as tf
from ml_collections import config_dict

import tfps
from tfps.cli.config import load_by_path

_movielens = load_by_path("movielens.py", pathlib.Path(__file__).parent)


def get_config() -> config_dict.ConfigDict:
  config: config_dict.ConfigDict = _movielens.get_config()
  user = ("user_id", "gender", "age", "occupation", "zip", "history")
  item = ("movie_id", "year", "genres")
  config.slots = user + item
  config.model.file = "models/two_tower.py"
  config.model.name = "TwoTower"
  config.model.args = {
    "user_slots": user, "item_slots": item, "item_id": "movie_id", "hidden": (64,), "dim": 32,
    "temperature": 0.1, "log_q": True, "hard_negatives": 0, "history": ("history",),
  }  # fmt: skip
  config.table.mf_dim = 16
  # Towers normalize what they make of the vectors: near zero, their gradients are as large as
  # Adagrad never forgets.
  config.table.mf_init_range = 0.1
  config.loss = ""
  config.metrics = ()
  return config


def source(config: config_dict.ConfigDict) -> tfps.data.Source:
  source: tfps.data.Source = _movielens.source(config)
  raw, args = source.raw_inputs, config.model.args
  assert isinstance(raw, tfps.data.RawInputs)
  source.raw_inputs = {"user": raw.of(args.user_slots), "item": raw.of(args.item_slots)}
  return source


def movies(config: config_dict.ConfigDict) -> dict[str, np.ndarray]:
  """The raw inputs of the item tower for all movies."""
  with open(pathlib.Path(config.data.folder, "movies.dat"), encoding="latin-1") as file:
    fields = [line.rstrip("\n").split("::") for line in file]
  ids, titles, genres = map(np.array, zip(*fields))
  years = [re.findall(r"\((\d{4})\)", title)[-1] for title in titles]
  return {"movie_id": ids, "year": np.array(years), "genres": genres}


def callbacks(config: config_dict.ConfigDict, table: tfps.FeasignTable) -> list:
  tested = source(config)
  raw = tested.raw_inputs["item"]  # type: ignore[index]
  items = raw.features({name: tf.constant(values) for name, values in movies(config).items()})
  return [tfps.callbacks.ProgressiveRecall(tested, items, item_id="movie_id", ks=(10, 50))]
