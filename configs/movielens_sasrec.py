"""SASRec on MovieLens 1M: will this user, after the last 20 movies that were liked, like this one?

The rows are those of movielens_history.py. Slots beside the movie and the history take part by
their own weights only, so here is none but the user's, by whom AUC is grouped. Expected of the
first 50 days of users 1 to 2999 (241,890 ratings, `--config.data.days=50`), all days together, each
tested before it is trained on: AUC 0.7124, log loss 0.6088. One seed.
"""

import pathlib

from ml_collections import config_dict

from tfps.cli.config import load_by_path

_history = load_by_path("movielens_history.py", pathlib.Path(__file__).parent)
source = _history.source


def get_config() -> config_dict.ConfigDict:
  config: config_dict.ConfigDict = _history.get_config()
  config.slots = ("user_id", "movie_id", "history")
  config.model.file = "models/sasrec.py"
  config.model.name = "SASRec"
  config.model.args.length = 20
  config.model.args.blocks = 1
  return config
