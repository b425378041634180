"""TF_CONFIG: any text is a task, or one sentence."""

import json

from tests.fuzz import mutate
from tfps.cluster import tf_config
from tfps.errors import ConfigError

EXPECTED = ConfigError
_GOOD = {
  "cluster": {
    "chief": ["a:1"],
    "worker": ["b:2", "c:65535"],
    "ps": ["[::1]:3", "d:4"],
    "evaluator": ["e:5"],
  },
  "task": {"type": "worker", "index": 1},
}


def make(folder, note):
  del folder

  def one(rng):
    text = json.dumps(mutate.tree(rng, _GOOD))
    if rng.random() < 0.3:
      text = mutate.data(rng, text.encode()).decode("utf-8", "replace")
    if rng.random() < 0.01:
      text = "[" * rng.choice((10, 100_000)) + text
    note(text[:2000])
    task = tf_config.parse(text)
    assert task.address is None or tf_config.split_address(task.address)
    task.cluster.spec()

  return one
