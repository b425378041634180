"""Joins logs/features and logs/actions: clicks, and likes and dwell seconds within an hour.

A click counts within 10 minutes.
"""

from ml_collections import config_dict

from tfps.join.settings import default_config


def get_config() -> config_dict.ConfigDict:
  config = default_config()
  config.features.folder = "logs/features"
  config.actions.folder = "logs/actions"
  config.samples.folder = "samples"
  config.state = "join-state"
  config.labels = {
    "click": {"action": "click", "wait": 600.0, "value": ""},
    "like": {"action": "like", "wait": 3600.0, "value": ""},
    "dwell": {"action": "dwell", "wait": 3600.0, "value": "max"},
  }
  return config
