"""What the tests of `tfps replay` share: samples, a model trained on them, its server's log."""

import pathlib

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

import tfps
from tests.model_server import ModelServer
from tfps.checkpoint import CheckpointManager
from tfps.cli import config as config_lib
from tfps.export.delta_folder import ExportFolder
from tfps.job import train as training
from tfps.training.position import Position

REQUESTS, CANDIDATES = 30, 4
WORDS = np.array([f"w{i}" for i in range(30)])
# Which requests are served by the base alone, and which after each delta.
STATES = {0: range(14), 1: range(14, 20), 2: range(20, REQUESTS)}
CONFIG = """
import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.training.config import default_config

text, texts = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, None], tf.string)
SPECS = {
  "request_id": text, "item_id": text, "user": tf.TensorSpec([None], tf.int64), "tags": texts,
  "history": texts, "price": tf.TensorSpec([None], tf.float32),
}

class Net(tfps.Model):
  def __init__(self, table, slots):
    super().__init__()
    self.pooled = tfps.Embedding(table, ["user", "tags"])
    self.sequence = tfps.Embedding(table, ["history"], {"history": None})
    self.tower = keras.Sequential([keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])

  def call(self, features, training=None):
    pooled = self.pooled(features, training=training)
    history = self.sequence(features, training=training).sequences["history"]
    places = tf.range(1.0, tf.cast(tf.shape(history)[1], tf.float32) + 1)
    history = tf.reduce_sum(history / places[tf.newaxis, :, tf.newaxis], axis=1)  # Order matters.
    flat = tf.reshape(pooled.mf, [-1, 2 * 3])
    return tf.sigmoid(self.tower(tf.concat([flat, pooled.lr, history, features["price"]], axis=1)))

def get_config():
  config = default_config()
  config.slots = ("user", "tags", "history")
  config.model.file, config.model.name = "", "Net"
  config.data = {"samples": "", "user_hashed_as": "user"}
  config.table.mf_init_range, config.table.num_shards, config.table.mf_dim = 0.5, 16, 3
  config.accessor.create_threshold = 0.0
  config.accessor.base_update_threshold = config.accessor.delta_update_threshold = 0.0
  config.dense_optimizer.learning_rate = 0.02
  return config

def source(config):
  def features(raw):
    return {
      "user": tfps.feasign(config.data.user_hashed_as, raw["user"]),
      "tags": tfps.feasign("tags", tf.RaggedTensor.from_tensor(raw["tags"], padding="")),
      "history": tfps.feasign("history", raw["history"], padding=""),
      "price": raw["price"][:, tf.newaxis],
    }

  raw = tfps.data.RawInputs(SPECS, features)
  samples = tfps.data.source(
    config.data.samples, tfps.data.parse_samples(raw), format="tfrecord", batch_size=40
  )
  samples.raw_inputs = raw
  return samples
"""


def raw_requests():
  """The raw inputs of each request, arrays by name."""
  rng = np.random.default_rng(5)
  for number in range(REQUESTS):
    words = lambda k, rows: WORDS[rng.integers(0, 30, (rows, k))]
    tags = words(3, CANDIDATES)
    tags[np.arange(3) >= rng.integers(1, 4, (CANDIDATES, 1))] = ""
    history = np.repeat(words(4, 1), CANDIDATES, axis=0)
    yield {
      "request_id": np.full(CANDIDATES, f"r{number}"),
      "item_id": np.array([f"i{rng.integers(1000)}-{i}" for i in range(CANDIDATES)]),
      "user": np.full(CANDIDATES, rng.integers(0, 20)),
      "tags": tags,
      "history": history,
      "price": rng.uniform(1, 9, CANDIDATES).astype(np.float32),
    }


def example(raw, row, **further):
  """A tf.Example of a row of raw inputs, and of further features, floats."""
  feature = {}
  for name, values in raw.items():
    values = [value for value in np.ravel(values[row]).tolist() if value != ""]
    if isinstance(values[0], str) if values else True:
      encoded = [value.encode() for value in values]
      feature[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))
    elif isinstance(values[0], int):
      feature[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    else:
      feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
  for name, value in further.items():
    feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
  return tf.train.Example(features=tf.train.Features(feature=feature))


def write(path, messages, compressed=False):
  """A TFRecord file."""
  options = tf.io.TFRecordOptions("GZIP") if compressed else None
  with tf.io.TFRecordWriter(str(path), options) as writer:
    for message in messages:
      writer.write(message.SerializeToString())
  return path


def log_of(request, response):
  """The PredictionLog of a call."""
  return prediction_log_pb2.PredictionLog(
    predict_log=prediction_log_pb2.PredictLog(request=request, response=response)
  )


class World:
  """Samples, a model trained on them, its exports and checkpoint, a server of it, and its log.

  Attributes:
    folder: where everything is.
    requests: the raw inputs of each.
    server: the `ModelServer`, which has got all deltas.
    logs: the PredictionLogs.
    clean: the files of the log.
    config: the options of the config.
    model, source: the trainer's.
  """

  def __init__(self, folder: pathlib.Path) -> None:
    self.folder = folder
    self.requests = list(raw_requests())
    rng = np.random.default_rng(6)
    samples = []
    for raw in self.requests:
      for row in range(CANDIDATES):
        click = float(rng.integers(0, 2))
        labels = {"show": 1.0, "click": click, "weight": 1.0}
        labels |= {"label/click": click, "weight/click": 1.0}
        samples.append(example(raw, row, **labels))
    self.samples = write(folder / "samples.tfrecord", samples)
    file = folder / "config.py"
    file.write_text(CONFIG)
    self.config = [f"--config={file}", f"--config.data.samples={self.samples}"]
    module, config = config_lib.load(str(file), self.config[1:])
    self.source = module.source(config)
    table, self.model = training.build(config, module.Net, tf.distribute.get_strategy())
    fit = lambda: self.model.fit(self.source, verbose=0, epochs=2)
    fit()
    exporter = tfps.export.Exporter(self.model, folder / "export", self.source.raw_inputs)
    exporter.base(step=1)
    for step in (2, 3):
      fit()
      exporter.delta(step=step)
    exporter.close()
    position = Position(0, 0, "all", ended=True)
    manager = CheckpointManager(str(folder / "checkpoints"), self.model, [table])
    manager.save(position.as_dict())
    self.server = ModelServer(folder / "export")
    try:
      self.server.wait()
      deltas = ExportFolder(folder / "export")
      self.logs = []
      for state, numbers in STATES.items():
        if state:
          for chunk in deltas.next_delta(1, state - 1).chunks(0, 1 << 20):
            self.server.call(chunk.inputs(), "apply_delta")
        self.logs += [log_of(*self.server.exchange(self.requests[i])) for i in numbers]
    except BaseException:
      self.server.close()
      raise
    self.clean = [
      write(folder / "log-0.tfrecord", self.logs[:10]),
      write(folder / "log-1.tfrecord.gz", self.logs[10:], compressed=True),
    ]

  def serve(self, name, change, signature="serving_default"):
    """The file of a log of all requests, each changed by its client before it was sent."""
    logs = [log_of(*self.server.exchange(change(dict(raw)), signature)) for raw in self.requests]
    return write(self.folder / f"{name}.tfrecord", logs)
