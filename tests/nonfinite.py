"""What tests of steps that are not finite share: a model, lines that spoil it, and its files."""

import pathlib

import numpy as np
import tensorflow as tf
import tf_keras as keras

import tfps
from tests.checkpoints import checkpoints_in
from tfps.checkpoint import CheckpointManager, reader

BATCH, BATCHES = 8, 6  # Tickets have 3 batches.

# The field of a line that is spoilt, and how: {way: (field, value)}.
OF_DATA = {
  "NaN feature": ("feature", "nan"),
  "infinite feature": ("feature", "inf"),
  "-inf feature": ("feature", "-inf"),
  "feature that overflows": ("feature", "3e38"),
  "NaN label": ("label", "nan"),
  "infinite label": ("label", "inf"),
  "NaN weight": ("weight", "nan"),
  "-inf weight": ("weight", "-inf"),
  "NaN id weight": ("id_weight", "nan"),
  "infinite id weight": ("id_weight", "inf"),
  "-inf label": ("label", "-inf"),
  "-inf id weight": ("id_weight", "-inf"),
  "id weight that overflows": ("id_weight", "3e38"),
  "weight that overflows": ("weight", "3e38"),
  "label that overflows": ("label", "3e38"),
}
FIELDS = ("user", "feature", "id_weight", "label", "weight")
# The first and the last batch of a ticket, the first and last line of one.
PLACES = [0, 3 * BATCH - 1, 2 * BATCH + 3, 3 * BATCH]


class Tower(tfps.Model):
  """Id weights, averages that the forward pass moves, metrics that check their predictions."""

  def __init__(self, table):
    super().__init__()
    self.embedding = tfps.Embedding(table, ["user"])
    self.norm = keras.layers.BatchNormalization(momentum=0.5)
    self.dense = keras.layers.Dense(1)

  def call(self, x, training=None):
    embedded = self.embedding(x, {"user": x["id_weight"]})
    inputs = tf.concat([embedded.mf[:, 0], x["feature"][:, tf.newaxis]], axis=1)
    return tf.sigmoid(embedded.lr_logit + self.dense(self.norm(inputs, training=training)))


def compiled(model=Tower, **settings):
  keras.utils.set_random_seed(1)
  accessor = tfps.CtrAccessor(create_threshold=0.1, decay_rate=1, delete_threshold=-1)
  made = model(tfps.FeasignTable("ctr", mf_dim=2, accessor=accessor, optimizer=tfps.Adam()))
  settings = (
    dict(optimizer="adam", loss="binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")])
    | settings
  )
  made.compile(**settings)
  return made


def lines(seed=0, spoilt=()):
  """Lines of FIELDS; `spoilt` has {number: (field, value)}."""
  rng = np.random.default_rng(seed)
  found = []
  for number in range(BATCH * BATCHES):
    values = dict(
      user=f"u{number % 12}", feature=f"{rng.normal():.3f}", label=rng.integers(0, 2),
      id_weight=f"{rng.uniform(0.5, 2):.3f}", weight=rng.integers(1, 3),
    )  # fmt: skip
    values |= dict([dict(spoilt)[number]]) if number in dict(spoilt) else {}
    found.append(" ".join(str(values[field]) for field in FIELDS))
  return found


def parse(records):
  columns = tf.strings.split(records, " ").to_tensor(shape=[None, len(FIELDS)])
  user, *numbers = tf.unstack(columns, axis=1)
  feature, id_weight, label, weight = map(tf.strings.to_number, numbers)
  x = {"user": tfps.feasign("user", user), "feature": feature, "id_weight": id_weight}
  return x, label[:, tf.newaxis], weight


def source_of(days, **settings):
  settings = dict(batch_size=BATCH, batches_per_ticket=3, check_labels=False) | settings
  return tfps.data.source(days, parse, **settings)


def state(model):
  """Everything that a step may change but counts."""
  rows = model.embedding.table.lookup(tfps.feasign("user", [f"u{i}" for i in range(12)]))
  rows = [rows[name] for name in ("lr_w", "lr_state", "mf_w", "mf_state", "admitted")]
  return [*model.get_weights(), *(one.numpy() for one in model.optimizer.variables), *rows]


def counts(model):
  rows = model.embedding.table.lookup(tfps.feasign("user", [f"u{i}" for i in range(12)]))
  return rows["statistics"][:, :2]


def saved_in(folder):
  return [name for name in checkpoints_in(folder) if name.startswith("checkpoint-")]


def check_checkpoints(folder):
  """Every checkpoint there is holds finite numbers only; there is one."""
  paths = [f"{folder}/{name}" for name in saved_in(folder)]
  assert paths
  for path in paths:
    dense = tf.train.load_checkpoint(f"{path}/dense/model")
    for name, dtype in dense.get_variable_to_dtype_map().items():
      assert not dtype.is_floating or np.isfinite(dense.get_tensor(name)).all(), name
    (table,) = reader.open_checkpoint(path).tables.values()
    for shard in table.shards():
      assert np.isfinite(shard.rows.floats).all() and np.isfinite(shard.rows.statistics).all()


RAW = tfps.data.RawInputs(
  {
    "user": tf.TensorSpec([None], tf.string),
    "feature": tf.TensorSpec([None], tf.float32),
    "id_weight": tf.TensorSpec([None], tf.float32),
  },
  lambda raw: {**raw, "user": tfps.feasign("user", raw["user"])},
)


class Files:
  """The checkpoints, bases and deltas of a model, as it goes on.

  Args:
    folder: where they go.
    model: the model.
    raw: what serving it takes.
  """

  def __init__(self, folder, model, raw=RAW):
    self._folder = folder
    self._exporter = tfps.export.Exporter(model, folder / "exports", raw=raw)
    self._manager = CheckpointManager(folder / "saved", model, [model.embedding.table])
    self.write()

  def write(self):
    """Writes one of each; all have finite numbers only."""
    if self._exporter.bases:
      check_export(self._exporter.delta())
    check_export(self._exporter.base())
    self._manager.save({})
    check_checkpoints(self._folder / "saved")

  def close(self):
    self._manager.close()


def check_export(path):
  """A base or a delta holds finite numbers only, and some."""
  numbers = 0
  for index in pathlib.Path(path).rglob("*.index"):
    bundle = tf.train.load_checkpoint(str(index.with_suffix("")))
    for name, dtype in bundle.get_variable_to_dtype_map().items():
      if dtype.is_floating:
        found = bundle.get_tensor(name)
        assert np.isfinite(found).all(), (path, name)
        numbers += found.size
  assert numbers
