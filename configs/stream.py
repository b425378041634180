"""DeepFM on samples of `tfps join` that keep arriving in a folder or a Kafka topic: an endless run.

  tfps train --config=configs/stream.py --config.data.folder=/samples
  --config.checkpoint.folder=/checkpoints/ctr

`config.slots` names the features that are trained on, those with several values in
`config.data.lists`, too; all of them are texts. With several `config.data.labels`, the model has an
output for each. SIGTERM ends the run with a checkpoint, from which the same command goes on.
"""

from collections.abc import Sequence

import tensorflow as tf
from ml_collections import config_dict

import tfps
from tfps.training.config import default_config


def get_config() -> config_dict.ConfigDict:
  config = default_config()
  config.data = {
    "folder": "samples", "lists": (), "labels": ("click",), "time": "time",
    # Instead of the folder: a topic, whose messages the chief puts as files into the spool.
    "brokers": "", "topic": "", "spool": "spool",
  }  # fmt: skip
  config.checkpoint.folder = "checkpoints/stream"
  config.checkpoint.every_minutes = 1.0
  config.slots = ("user_id", "item_id")
  config.accessor.create_threshold = 2.0
  return config


def source(config: config_dict.ConfigDict) -> tfps.data.Source:
  data, stream = config.data, dict(config.stream)
  stream.pop("report_seconds")
  raw = raw_inputs(config.slots, data.lists)
  arrivals = data.folder
  if data.topic:
    arrivals = tfps.data.Topic(data.brokers, data.topic, data.spool)
  samples = tfps.data.stream(
    arrivals,
    tfps.data.parse_samples(raw, data.labels),
    time=data.time,
    batch_size=config.batch_size,
    batches_per_ticket=config.batches_per_ticket,
    on_bad_record=config.on_bad_record,
    max_bad_records=config.max_bad_records,
    **stream,
  )
  samples.raw_inputs = raw
  return samples


def raw_inputs(slots: Sequence[str], lists: Sequence[str]) -> tfps.data.RawInputs:
  """What clients of the served model send: the samples' slots, as texts."""
  specs = {
    slot: tf.TensorSpec([None, None] if slot in lists else [None], tf.string) for slot in slots
  }
  return tfps.data.RawInputs(
    specs, lambda texts: {slot: tfps.feasign(slot, texts[slot], padding="") for slot in slots}
  )
