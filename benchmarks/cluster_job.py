"""The training that benchmarks/cluster_throughput.py measures: 26 slots and towers of 400-400-400.

Runs in one process or, as `tfps launch` and TF_CONFIG say, on a cluster. The first of its days
warms up. When a day is finished, a line of JSON says how many examples and steps it had, its
seconds, the bytes and packets that the loopback interface carried, and the table's statistics so
far.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tqdm import tqdm

import tfps

# How many values a slot has, about as in Criteo's data.
CARDINALITIES = (
  1_460, 583, 1_000_000, 400_000, 305, 24, 12_517, 633, 3, 93_145, 5_683, 1_000_000, 3_194,
  27, 14_992, 500_000, 10, 5_652, 2_173, 4, 700_000, 18, 15, 286_181, 105, 142_572,
)  # fmt: skip
SLOTS = [f"C{number + 1}" for number in range(len(CARDINALITIES))]
MF_DIM = 8
WIDTH = len(SLOTS) * MF_DIM  # of the tower's input


def main():
  flags = argparse.ArgumentParser(description=__doc__)
  flags.add_argument("--data", required=True, help="the file that write() made")
  flags.add_argument("--model", choices=sorted(MODELS), default="click")
  flags.add_argument("--batch_size", type=int, default=2048)
  flags.add_argument("--batches_per_ticket", type=int, default=16)
  flags.add_argument("--days", type=int, default=2, help="days after the one that warms up")
  flags.add_argument("--passes", type=int, default=4, help="how often a day reads the file")
  flags.add_argument("--communication", default="{}", help="fields of tfps.Communication, as JSON")
  args = flags.parse_args()
  strategy = tfps.strategy()
  with strategy.scope():
    table = None
    if args.model == "click":
      accessor = tfps.CtrAccessor(create_threshold=1.0)
      table = tfps.FeasignTable("ctr", mf_dim=MF_DIM, accessor=accessor)
    model = MODELS[args.model](table)
    model.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy")
  calendar = {"warm-up": args.data}
  calendar |= {f"day-{day}": [args.data] * args.passes for day in range(args.days)}
  source = tfps.data.source(
    calendar,
    parse,
    format="tfrecord",
    batch_size=args.batch_size,
    batches_per_ticket=args.batches_per_ticket,
  )
  communication = tfps.Communication(**json.loads(args.communication))
  model.fit(source, callbacks=[Report(source, table)], verbose=0, communication=communication)


def write(path, examples, seed):
  """Writes a TFRecord file of tf.Examples: a value for each slot, about Zipf(1), and a label."""
  rng = np.random.default_rng(seed)
  ranks = np.exp(rng.random([examples, len(SLOTS)]) * np.log(np.add(CARDINALITIES, 1)))
  feasigns = ranks.astype(np.int64) * 64 + np.arange(1, len(SLOTS) + 1)
  labels = (rng.random(examples) < 0.25).astype(np.float32)
  with tf.io.TFRecordWriter(path) as records:
    rows = zip(feasigns.tolist(), labels.tolist())
    for values, label in tqdm(rows, "writing the data", examples, leave=False):
      example = tf.train.Example()
      for slot, value in zip(SLOTS, values):
        example.features.feature[slot].int64_list.value.append(value)
      example.features.feature["label"].float_list.value.append(label)
      records.write(example.SerializeToString())


def parse(records):
  """(x, y) of serialized tf.Examples."""
  features = {slot: tf.io.FixedLenFeature([], tf.int64) for slot in SLOTS}
  features["label"] = tf.io.FixedLenFeature([1], tf.float32)
  x = tf.io.parse_example(records, features)
  return x, x.pop("label")


class ClickModel(tfps.Model):
  """Embeddings of all slots, and a tower on them."""

  def __init__(self, table):
    super().__init__()
    self.embedding = tfps.Embedding(table, SLOTS)
    self.tower = make_tower()

  def call(self, features, training=None):
    embedded = self.embedding(features, training=training)
    return tf.sigmoid(embedded.lr_logit + self.tower(tf.reshape(embedded.mf, [-1, WIDTH])))


class TowerModel(tfps.Model):
  """The same tower without embeddings: of the traffic between processes, the dense weights'."""

  def __init__(self, table):
    super().__init__()
    self.tower = make_tower()

  def call(self, features, training=None):
    return tf.sigmoid(self.tower(in_place_of_embeddings(features)))


class CeilingModel(TowerModel):
  """The tower with the gradient with respect to its input, which embeddings would need."""

  def __init__(self, table):
    super().__init__(table)
    self._input_gradient = tf.Variable(0.0, trainable=False)

  def train_step(self, data):
    features, labels = data
    embedded = in_place_of_embeddings(features)
    with tf.GradientTape() as tape:
      tape.watch(embedded)
      predictions = tf.sigmoid(self.tower(embedded))
      loss = self.compute_loss(features, labels, predictions)
    variables = self.trainable_variables
    gradients, input_gradient = tape.gradient(loss, [variables, embedded])
    self.optimizer.apply_gradients(zip(gradients, variables))
    # TensorFlow computes what is used, even if a single number of it is.
    self._input_gradient.assign(input_gradient[0, 0])
    return self.compute_metrics(features, labels, predictions, None)


MODELS = {"click": ClickModel, "tower": TowerModel, "ceiling": CeilingModel}


def make_tower():
  hidden = [keras.layers.Dense(400, "relu") for _ in range(3)]
  return keras.Sequential([*hidden, keras.layers.Dense(1)])


def in_place_of_embeddings(features):
  """float32 [B, WIDTH], some small numbers."""
  return tf.cast(features[SLOTS[0]][:, tf.newaxis], tf.float32) * 1e-9 + tf.zeros([1, WIDTH])


class Report(keras.callbacks.Callback):
  """Prints a line of JSON for each day."""

  def __init__(self, source, table):
    super().__init__()
    self._source = source
    self._table = table

  def on_day_begin(self, day):
    del day
    self._traffic = loopback()
    self._began = time.perf_counter()

  def on_day_end(self, day, logs=None):
    del logs
    seconds = time.perf_counter() - self._began
    sent, packets = np.subtract(loopback(), self._traffic).tolist()
    batch_size = self._source.batch_size
    steps = sum(-(-ticket.records // batch_size) for ticket in self._source.tickets(day))
    line = {
      "day": day.name,
      "examples": day.records,
      "steps": steps,
      "seconds": seconds,
      "bytes": sent,
      "packets": packets,
      "statistics": self._table.statistics() if self._table else {},
    }
    print(json.dumps(line), flush=True)


def loopback():
  """(bytes, packets) that the loopback interface has carried so far."""
  with open("/proc/net/dev") as interfaces:
    for interface in interfaces:
      name, _, counters = interface.partition(":")
      if name.strip() == "lo":
        sent, packets = counters.split()[:2]
        return int(sent), int(packets)
  raise OSError("/proc/net/dev has no loopback interface 'lo'.")


if __name__ == "__main__":
  main()
