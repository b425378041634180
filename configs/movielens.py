"""DeepFM on MovieLens 1M, day after day: will this user rate this movie 4 or more?

The data set is published at grouplens.org/datasets/movielens/1m; `config.data.folder` holds its
ratings.dat, movies.dat and users.dat. `--config.model.file=models/xdeepfm.py
--config.model.name=XDeepFM` trains xDeepFM, and likewise the other models of crosses.

Expected of the first 50 days of users 1 to 2999 (241,890 ratings, `--config.data.days=50`), all
days together, each tested before it is trained on: AUC and log loss of DeepFM 0.7153, 0.6072;
xDeepFM 0.7154, 0.6071; AutoInt 0.7155, 0.6074; FinalMLP 0.7148, 0.6077. One seed each.
"""

import functools
from typing import Any

from ml_collections import config_dict

import tfps
from tfps.training.config import default_config


def get_config() -> config_dict.ConfigDict:
  config = default_config()
  # `days`: how many of the first days to train on; 0 for all. `labels`: {task: the least rating
  # that is a 1}; where it is empty, the click alone.
  config.data = {"folder": "data/ml-1m", "days": 0, "labels": {}}
  config.slots = (
    "user_id", "movie_id", "year", "decade", "genres", "gender", "age", "occupation", "zip",
    "gender_x_age", "movie_id_x_gender", "user_id_x_decade",
  )  # fmt: skip
  # On the curve of benchmarks/progressive_auc.py higher thresholds save next to nothing: nearly all
  # feasigns are frequent.
  config.accessor.create_threshold = 1.0
  # The days are few and uneven, and what was learnt stays true for all of them: no ageing.
  config.end_of_day = False
  config.mf_optimizer = {"name": "Adagrad", "learning_rate": 0.1, "initial_g2sum": 0.3}
  config.lr_optimizer = {"name": "Adagrad", "learning_rate": 0.1, "initial_g2sum": 0.3}
  config.evaluation.gauc_slot = "user_id"
  return config


def source(config: config_dict.ConfigDict, **arguments: Any) -> tfps.data.Source:
  source = functools.partial(
    tfps.data.movielens,
    config.data.folder,
    slots=config.slots,
    labels=dict(config.data.labels) or None,
    batch_size=config.batch_size,
    batches_per_ticket=config.batches_per_ticket,
    on_bad_record=config.on_bad_record,
    max_bad_records=config.max_bad_records,
    **arguments,
  )
  if not config.data.days:
    return source()
  return source(days=[day.name for day in source().days()[: config.data.days]])
