"""DCN-v2 on Criteo's display advertising data: tab-separated label, 13 counts, 26 categories.

`config.data.files` is a glob of files in the published format, without a header.
"""

import tfps
from tfps.training.config import default_config


def get_config():
  config = default_config()
  config.data = {"files": "data/criteo/train.tsv"}
  config.slots = tuple(f"I{i}" for i in range(1, 14)) + tuple(f"C{i}" for i in range(1, 27))
  config.model.file = "models/dcn_v2.py"
  config.model.name = "DCNv2"
  config.accessor.create_threshold = 2.0
  return config


def source(config):
  return tfps.data.criteo(
    config.data.files, batch_size=config.batch_size, batches_per_ticket=config.batches_per_ticket
  )
