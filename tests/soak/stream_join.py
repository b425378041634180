"""The join of the soak `stream.py`: a click within half a minute of event time."""

from tfps.join.settings import default_config


def get_config():
  config = default_config()
  config.slots = {"user_id": "string"}
  config.labels = {"click": {"action": "click", "wait": 30.0}}
  config.disorder = 10.0
  config.skew = 1.0
  config.slice = 1.0
  config.poll = 0.1
  return config
