"""DIN on MovieLens 1M with each user's history: the last 20 movies that were rated 4 or more.

The history reads the movies' rows. `--config.model.file=models/bst.py --config.model.name=BST`
trains the transformer; for SASRec see movielens_sasrec.py, for the data movielens.py. Expected of
the first 50 days of users 1 to 2999 (241,890 ratings, `--config.data.days=50`), all days together,
each tested before it is trained on: DIN AUC 0.7120, log loss 0.6093; BST 0.7020, 0.6168. With rows
of the history's own (`--config.model.args.share=False`) DIN 0.7125, 0.6092; BST 0.7030, 0.6161. One
seed each.
"""

import pathlib

from ml_collections import config_dict

import tfps
from tfps.cli.config import load_by_path

_movielens = load_by_path("movielens.py", pathlib.Path(__file__).parent)


def get_config() -> config_dict.ConfigDict:
  config: config_dict.ConfigDict = _movielens.get_config()
  config.slots = (
    "user_id", "movie_id", "genres", "gender", "age", "occupation", "zip", "history",
  )  # fmt: skip
  config.model.file = "models/din.py"
  config.model.name = "DIN"
  config.model.args.target = "movie_id"
  config.model.args.history = "history"
  config.model.args.share = True  # False: the history has rows of its own.
  return config


def source(config: config_dict.ConfigDict) -> tfps.data.Source:
  share = {"history": "movie_id"} if config.model.args.share else {}
  return _movielens.source(config, share=share)
