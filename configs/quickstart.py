"""DeepFM on a simulated week of clicks: needs no data and no network."""

from ml_collections import config_dict

import tfps
from tfps.training.config import default_config


def get_config() -> config_dict.ConfigDict:
  config = default_config()
  config.data = {"days": 7, "examples_per_day": 40_000}
  config.slots = ("user_id", "item_id", "category", "tags", "hour", "device", "city")
  config.accessor.create_threshold = 2.0
  config.evaluation.gauc_slot = "user_id"
  return config


def source(config: config_dict.ConfigDict) -> tfps.data.Source:
  return tfps.data.ClickStream(
    days=config.data.days,
    examples_per_day=config.data.examples_per_day,
    seed=config.seed,
    batch_size=config.batch_size,
    batches_per_ticket=config.batches_per_ticket,
  )
