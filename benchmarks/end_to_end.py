"""Training in one process: tfps beside TFRA's Keras layer, Keras's Embedding, and no embedding.

26 slots, 9 floats a row (a weight of its own and 8 of an embedding), towers of 400-400-400,
TFRecord files; all four train with Adam on the tower and Adagrad on the rows, in turn, by the same
loop over the same input:

tfps: a `tfps.Embedding` and `tfps.Model.fit`.
tfra: one `dynamic_embedding.keras.layers.Embedding` for all slots and a DynamicEmbeddingOptimizer.
keras: one `keras.layers.Embedding` of --buckets rows for all slots; an id's row is its remainder.
ceiling: the tower alone with the gradient with respect to its input, which embeddings need.
"""

import os
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cluster_job
import harness
import tensorflow as tf
import tf_keras as keras
import tfra
from tqdm import tqdm

import tfps

CEILING = "ceiling"
OURS = "tfps"
LEARNING_RATE = 0.05  # of the rows


def main():
  flags = parser().parse_args()
  if len(flags.shares) != len(flags.batches):
    parser().error("--batches and --shares need as many numbers each.")
  with tempfile.TemporaryDirectory(prefix="end_to_end-") as folder:
    data = os.path.join(folder, "examples.tfrecord")
    cluster_job.write(data, flags.examples, flags.seed)
    speeds = measure(flags, data)
  rows, goals = compare(flags, speeds)
  title = f"26 slots, towers of 400-400-400, one process, seed {flags.seed}"
  return harness.report(flags, title, rows, goals)


def parser():
  flags = harness.parser(__doc__)
  flags.add_argument("--batches", type=int, nargs="+", default=[2048, 512], help="batch sizes")
  flags.add_argument(
    "--shares", type=float, nargs="+", default=[0.9, 0.0],
    help="goals: tfps's share of the ceiling's examples/s, at least, for each batch size",
  )  # fmt: skip
  flags.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
  flags.add_argument("--batches_per_ticket", type=int, default=16)
  flags.add_argument("--examples", type=int, default=200_000, help="in the file")
  flags.add_argument("--repeats", type=int, default=5, help="passes over the file that count")
  flags.add_argument("--buckets", type=int, default=1 << 20, help="rows of keras's Embedding")
  flags.add_argument("--seed", type=int, default=0, help="of the data")
  return flags


def measure(flags, data):
  """{(batch size, model): examples/s of each pass}; a first pass of each warms up."""
  models = {name: make_model(name, flags) for name in flags.models}
  sources = {
    batch: tfps.data.source(
      [data], cluster_job.parse, format="tfrecord", batch_size=batch,
      batches_per_ticket=flags.batches_per_ticket,
    )
    for batch in flags.batches
  }  # fmt: skip
  speeds = {(batch, name): [] for batch in sources for name in models}
  with tqdm(total=(1 + flags.repeats) * len(speeds), unit=" passes") as progress:
    for round_ in range(1 + flags.repeats):
      for (batch, name), values in speeds.items():
        progress.set_postfix_str(f"{name}, batch {batch}")
        speed = Speed()
        models[name].fit(sources[batch], callbacks=[speed], verbose=0)
        if round_:
          values.append(speed.examples_per_second)
        progress.update()
  return speeds


def compare(flags, speeds):
  """The report's rows and goals."""
  rows, goals = [], []
  for (batch, name), values in speeds.items():
    row = {"model": name, "batch": batch, "examples_per_s": harness.spread(values)}
    # Each by the ceiling of its own round: a slow moment of the machine hits both.
    shares = [mine / ceiling for mine, ceiling in zip(values, speeds.get((batch, CEILING), ()))]
    row["of_ceiling"] = harness.spread(shares) if shares and name != CEILING else None
    rows.append(row)
    if name == OURS and shares:
      limit = flags.shares[flags.batches.index(batch)]
      what = f"tfps at batch {batch:,}, of the ceiling"
      goals.append(harness.Goal(what, row["of_ceiling"].median, limit, at_least=True))
    if name not in (OURS, CEILING) and (batch, OURS) in speeds:
      ratios = [mine / theirs for mine, theirs in zip(speeds[batch, OURS], values)]
      what = f"tfps at batch {batch:,}, of {name}"
      goals.append(harness.Goal(what, harness.spread(ratios).median, 1.0, at_least=True))
  return rows, goals


def make_model(name, flags):
  keras.utils.set_random_seed(flags.seed)
  model = MODELS[name](flags)
  model.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy")
  return model


def make_tfps(flags):
  del flags
  accessor = tfps.CtrAccessor(create_threshold=1.0)
  optimizer = tfps.Adagrad(LEARNING_RATE)
  table = tfps.FeasignTable(
    "end_to_end", mf_dim=cluster_job.MF_DIM, accessor=accessor, optimizer=optimizer
  )
  return cluster_job.MODELS["click"](table)


class PeerModel(tfps.Model):
  """A layer whose rows hold a weight and an embedding, the tower, and an optimizer for each."""

  def __init__(self, layer, row_optimizer):
    super().__init__()
    self.embedding = layer
    self.row_optimizer = row_optimizer
    self.tower = cluster_job.make_tower()

  def call(self, features, training=None):
    rows = self.embedding(self.row_ids(features))
    mf = tf.reshape(rows[:, :, 1:], [-1, cluster_job.WIDTH])
    return tf.sigmoid(tf.reduce_sum(rows[:, :, 0], axis=1, keepdims=True) + self.tower(mf))

  def row_ids(self, features):
    """int64 [B, slots]."""
    return tf.stack([features[slot] for slot in cluster_job.SLOTS], axis=1)

  def train_step(self, data):
    features, labels = data
    with tf.GradientTape() as tape:
      predictions = self(features, training=True)
      loss = self.compute_loss(features, labels, predictions)
    parts = [self.tower.trainable_variables, self.embedding.trainable_variables]
    of_tower, of_rows = tape.gradient(loss, parts)
    self.optimizer.apply_gradients(zip(of_tower, parts[0]))
    self.row_optimizer.apply_gradients(zip(of_rows, parts[1]))
    return self.compute_metrics(features, labels, predictions, None)


class HashedModel(PeerModel):
  """Keras's own Embedding; ids share its rows."""

  def __init__(self, flags):
    layer = keras.layers.Embedding(flags.buckets, 1 + cluster_job.MF_DIM)
    super().__init__(layer, keras.optimizers.Adagrad(LEARNING_RATE))
    self._buckets = flags.buckets

  def row_ids(self, features):
    return super().row_ids(features) % self._buckets


class TfraModel(PeerModel):
  """TFRA's layer, which owns a row for each id."""

  def __init__(self, flags):
    del flags
    de = tfra.dynamic_embedding()
    layer = de.keras.layers.Embedding(1 + cluster_job.MF_DIM, name="rows")
    optimizer = keras.optimizers.legacy.Adagrad(LEARNING_RATE)
    super().__init__(layer, de.DynamicEmbeddingOptimizer(optimizer))


class CeilingModel(cluster_job.MODELS["ceiling"]):
  def __init__(self, flags):
    del flags
    super().__init__(None)


MODELS = {OURS: make_tfps, "tfra": TfraModel, "keras": HashedModel, CEILING: CeilingModel}


class Speed(keras.callbacks.Callback):
  """Examples per second of a day.

  Attributes:
    examples_per_second: of the last one.
  """

  def on_day_begin(self, day):
    del day
    self._began = time.perf_counter()

  def on_day_end(self, day, logs=None):
    del logs
    self.examples_per_second = day.records / (time.perf_counter() - self._began)


if __name__ == "__main__":
  sys.exit(main())
