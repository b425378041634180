"""The trainer's config: DeepFM on the samples that the join writes, with exports for the server."""

import pathlib
from collections.abc import Mapping

import tensorflow as tf
from ml_collections import config_dict

import tfps
from tfps.training.config import default_config

TEXTS = ("user_id", "segment", "item_id", "topic")  # what clients send, and the logs hold


def get_config() -> config_dict.ConfigDict:
  config = default_config()
  config.data = {"folder": "samples"}
  config.slots = (*TEXTS, "segment_x_topic")
  config.model.file = str(pathlib.Path(__file__).resolve().parents[2] / "models" / "deepfm.py")
  config.model.args.hidden = (32,)
  config.table.num_shards = 64
  config.accessor.create_threshold = 1.0
  config.accessor.base_update_threshold = 0.0
  config.accessor.delta_update_threshold = 0.0
  # Adam keeps its step where adagrad's shrinks, so that the model follows a taste that changes.
  config.mf_optimizer = {"name": "Adam", "learning_rate": 0.01}
  config.lr_optimizer = {"name": "Adam", "learning_rate": 0.03}
  config.batch_size = 128
  config.stream.poll_seconds = 0.2
  config.stream.report_seconds = 10.0
  config.checkpoint.folder = "checkpoints"
  config.checkpoint.every_minutes = 0.5
  config.export.folder = "export"
  return config


def source(config: config_dict.ConfigDict) -> tfps.data.Source:
  stream = dict(config.stream)
  stream.pop("report_seconds")
  raw = tfps.data.RawInputs({name: tf.TensorSpec([None], tf.string) for name in TEXTS}, _features)
  samples = tfps.data.stream(
    config.data.folder,
    tfps.data.parse_samples(raw),
    batch_size=config.batch_size,
    batches_per_ticket=config.batches_per_ticket,
    on_bad_record=config.on_bad_record,
    max_bad_records=config.max_bad_records,
    **stream,
  )
  samples.raw_inputs = raw
  return samples


def _features(texts: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  cross = tf.strings.join([texts["segment"], texts["topic"]], "/")
  values = {**texts, "segment_x_topic": cross}
  return {
    slot: tfps.feasign(slot, values[slot], padding="") for slot in (*TEXTS, "segment_x_topic")
  }
