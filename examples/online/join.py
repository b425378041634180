"""The join's config: a click counts if it comes within eight seconds of the show."""

from ml_collections import config_dict

from tfps.join.settings import default_config


def get_config() -> config_dict.ConfigDict:
  config = default_config()
  # Beside the item's id, which every sample has.
  config.slots = dict.fromkeys(("user_id", "segment", "topic"), "string")
  config.labels = {"click": {"action": "click", "wait": 8.0}}
  config.disorder = 2.0
  config.skew = 1.0
  config.slice = 1.0
  config.poll = 0.5
  config.idle = 5.0
  config.state = "state"
  config.samples.folder = "samples"
  return config
