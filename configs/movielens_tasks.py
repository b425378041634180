"""MMoE on MovieLens 1M with two tasks: will this user like this movie (4 or more), or love it (5)?

`--config.model.file=models/ple.py --config.model.name=PLE` trains PLE, and likewise ESMM, for which
a like is the click and a love the conversion. For the data, see movielens.py.

Expected of the first 50 days of users 1 to 2999 (241,890 ratings, `--config.data.days=50`), all
days together, each tested before it is trained on, AUC and log loss of "like" and of "love": MMoE
0.7091, 0.6109 and 0.7133, 0.4934; PLE 0.7022, 0.6147 and 0.7086, 0.4961; ESMM 0.7140, 0.6075 and
0.7202, 0.4884. One seed each.
"""

import pathlib

from ml_collections import config_dict

from tfps.cli.config import load_by_path

_movielens = load_by_path("movielens.py", pathlib.Path(__file__).parent)
source = _movielens.source


def get_config() -> config_dict.ConfigDict:
  config: config_dict.ConfigDict = _movielens.get_config()
  config.data.labels = {"like": 4, "love": 5}
  config.model.file = "models/mmoe.py"
  config.model.name = "MMoE"
  config.model.args.tasks = ("like", "love")
  config.model.args.hidden = (64,)
  config.loss = {"like": "binary_crossentropy", "love": "binary_crossentropy"}
  config.metrics = {"like": ("AUC",), "love": ("AUC",)}
  return config
