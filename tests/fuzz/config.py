"""Configs: an override is refused in one sentence, or makes a table and a communication."""

import tensorflow as tf

from tests.fuzz import mutate
from tfps.cli import config as config_lib
from tfps.job import table as tables
from tfps.job import train as run

EXPECTED = (ValueError, tf.errors.InvalidArgumentError)


def make(folder, note):
  path = folder / "config.py"
  path.write_text(
    "from tfps.training.config import default_config\n"
    "def get_config():\n"
    "  config = default_config()\n"
    "  config.slots = ('user', 'item')\n"
    "  config.slot_policies = {'user': {'mf_dim': 4, 'accessor': {'create_threshold': 2.0}}}\n"
    "  return config\n"
  )
  fields = list(config_lib._fields(config_lib.load(str(path))[1]))

  def one(rng):
    overrides = []
    for _ in range(rng.randrange(1, 4)):
      field = rng.choice(fields)
      given = mutate.value(rng)
      overrides.append(f"--config.{field}={given}")
    if rng.random() < 0.2:
      overrides.append(mutate.data(rng, b"--config.table.mf_dim=8").decode("utf-8", "replace"))
    note("\n".join(overrides)[:4000])
    _, config = config_lib.load(str(path), overrides)
    # Not so many that to make them takes long.
    if abs(config.table.num_shards) <= 4096 and abs(config.table.mf_dim) <= 4096:
      tables.make_table(config)
    run.make_communication(config)

  return one
