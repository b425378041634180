"""DeepFM on MovieTweetings, day after day: will this user rate this movie 8 or more?

The data set is published at github.com/sidooms/MovieTweetings; `config.data.folder` holds its
ratings.dat and movies.dat.
"""

from ml_collections import config_dict

import tfps
from tfps.training.config import default_config


def get_config() -> config_dict.ConfigDict:
  config = default_config()
  config.data = {"folder": "data/movietweetings"}
  config.slots = (
    "user_id", "movie_id", "year", "decade", "genres", "user_id_x_decade", "user_id_x_genre1",
  )  # fmt: skip
  # On the curve of benchmarks/progressive_auc.py two fifths of the feasigns own a vector here, for
  # 0.005 of AUC.
  config.accessor.create_threshold = 2.0
  # Most feasigns come once or twice in all 252 days: ageing and eviction would forget what there is
  # to learn.
  config.end_of_day = False
  config.mf_optimizer.learning_rate = 0.2
  config.lr_optimizer.learning_rate = 0.2
  config.evaluation.gauc_slot = "user_id"
  return config


def source(config: config_dict.ConfigDict) -> tfps.data.Source:
  return tfps.data.movietweetings(
    config.data.folder,
    slots=config.slots,
    batch_size=config.batch_size,
    batches_per_ticket=config.batches_per_ticket,
    on_bad_record=config.on_bad_record,
    max_bad_records=config.max_bad_records,
  )
