"""What `test_worker.py` trains, in one process and on a cluster, whose chief runs this program."""

import collections
import pathlib
import pickle
import sys
import time
import traceback
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

import tfps
from tests import cluster_cases, dense_optimizers, keras_loops, parquet_files
from tfps.layers.embedding import tables_of
from tfps.layers.step import Step

BATCH = 32

# Each pair of values of two of these fields is in one of the rows.
ASYNC = [
  dict(),
  dict(prefetch=False, push_window=3, wire_dtype="bfloat16", dense_sync_every=1),
  dict(prefetch=False, row_references=False, dense_sync_every=3, dense_local_steps=False),
  dict(push_window=3, wire_dtype="float16", row_references=False, dense_local_steps=False),
  dict(wire_dtype="bfloat16", row_references=False, dense_sync_every=3),
  dict(push_window=3, dense_sync_every=1, dense_local_steps=False),
  dict(prefetch=False, wire_dtype="float16", dense_sync_every=3),
]


class Result(NamedTuple):
  """What is left of a training."""

  initial: list  # the dense weights before
  weights: list  # and after
  optimizer: list
  keys: Any  # int64 [n], all feasigns that were trained
  rows: dict  # {table name: what its `lookup` gives for `keys`}
  statistics: dict  # {table name: its `statistics`}
  logs: dict  # of the last day
  counted: float  # how many examples these are of
  tickets: int  # how many were handed on to callbacks
  iterations: int


class Case(NamedTuple):
  make_model: Any
  make_source: Any  # of a folder
  communication: dict
  joined: int = 1  # how many of its batches are one of the process that it is compared with


class Handed(keras.callbacks.Callback):
  """Counts the tickets that are handed on."""

  tickets = 0

  def on_train_batch_end(self, batch, logs=None):
    self.tickets += 1


class DeepAndWide(tfps.Model):
  """Every form of feature, two layers on one table, layers that are random or keep averages."""

  def __init__(self, table):
    super().__init__()
    self.bags = tfps.Embedding(table, ["ragged", "sparse", "user"], combiner="mean")
    self.sequence = tfps.Embedding(table, ["last", "words"], combiner=None)
    self.norm = keras.layers.BatchNormalization()
    self.dropout = keras.layers.Dropout(0.2)
    self.dense = keras.layers.Dense(1)

  def call(self, x, training=None):
    bags, sequence = self.bags(x), self.sequence(x)
    last = tf.reduce_sum(sequence.sequences["last"], axis=1)
    words = tf.reduce_sum(sequence.sequences["words"], axis=1)
    deep = tf.concat([tf.reshape(bags.mf, [-1, 3 * bags.mf.shape[-1]]), last, words], axis=1)
    deep = self.dropout(self.norm(deep, training=training), training=training)
    return tf.sigmoid(bags.lr_logit + sequence.lr_logit + self.dense(deep))


class StepsItself(tfps.Model):
  """A train_step as one would write it for Keras."""

  def __init__(self, table):
    super().__init__()
    self.embedding = tfps.Embedding(table, ["user"])
    self.dense = keras.layers.Dense(1)

  def call(self, x):
    return tf.sigmoid(self.dense(self.embedding(x).mf[:, 0]))

  def train_step(self, data):
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    with tf.GradientTape() as tape, Step(tape) as step:
      y_pred = self(x, training=True)
      loss = self.compute_loss(x, y, y_pred, weight)
    dense, rows = tape.gradient(loss, [self.trainable_variables, step.rows])
    self.optimizer.apply_gradients(zip(dense, self.trainable_variables))
    step.push(rows, *self.counts(x, y, weight), tf.cast(tf.shape(y)[0], tf.float32))
    return self.compute_metrics(x, y, y_pred, weight)


def make_table(name="ctr", **settings):
  # Counts are not to fade, so that they can be told to the last one.
  accessor = tfps.CtrAccessor(create_threshold=0.5, delete_threshold=0, decay_rate=1)
  return tfps.FeasignTable(name, mf_dim=4, accessor=accessor, **settings)


def compiled(model, optimizer="adam", loss="binary_crossentropy", **settings):
  model.compile(optimizer, loss, metrics=[keras.metrics.AUC(name="auc")], **settings)
  return model


def _tower(table, **settings):
  from models.deepfm import DeepFM

  return compiled(DeepFM(table, list(tfps.data.ClickStream.slots), hidden=[8]), **settings)


def tower(**settings):
  return lambda: _tower(make_table(), **settings)


def tower_of_sums():
  loss = keras.losses.BinaryCrossentropy(reduction=keras.losses.Reduction.SUM)
  return _tower(make_table(gradient_scale="sum"), loss=loss, optimizer=keras.optimizers.SGD(0.01))


def tower_of_both():
  """A loss that is a sum, beside a penalty on rows and one on weights that are means."""
  from models.deepfm import DeepFM

  class Penalized(DeepFM):
    def call(self, features, training=None):
      self.add_loss(0.1 * tf.reduce_mean(self.embedding(features).mf[:, 0] + 1.0))
      return super().call(features, training)

  model = Penalized(make_table(), list(tfps.data.ClickStream.slots), hidden=[8])
  model.output_layer.kernel_regularizer = keras.regularizers.L2(0.5)
  loss = keras.losses.BinaryCrossentropy(reduction=keras.losses.Reduction.SUM)
  return compiled(model, keras.optimizers.SGD(0.01), loss)


def tower_of(policy):
  """A tower that computes by a policy of mixed precision."""

  def make():
    keras.mixed_precision.set_global_policy(policy)
    try:
      return _tower(make_table(), optimizer=keras.optimizers.SGD(0.1))
    finally:
      keras.mixed_precision.set_global_policy("float32")

  return make


def tower_of_schedules():
  """Of the table and of the dense weights."""
  schedules = keras.optimizers.schedules
  table = make_table(
    optimizer=tfps.Adagrad(schedules.PiecewiseConstantDecay([5, 9], [0.2, 0.1, 0.5]))
  )
  return _tower(table, optimizer=keras.optimizers.SGD(schedules.ExponentialDecay(0.1, 3, 0.5)))


def without_dense_weights():
  inputs = {
    slot: keras.Input([], dtype=tf.int64, name=slot) for slot in ("user_id", "item_id", "city")
  }
  embedded = tfps.Embedding(make_table(), list(inputs))(inputs)
  users, items, cities = tf.unstack(embedded.mf, axis=1)
  product = tf.reduce_sum(users * items + items * cities, axis=1, keepdims=True)
  return compiled(tfps.Model(inputs, tf.sigmoid(embedded.lr_logit + product)))


def partly_frozen():
  inputs = {slot: keras.Input([], dtype=tf.int64, name=slot) for slot in ("user_id", "item_id")}
  table = make_table()
  left, right = tfps.Embedding(table, ["user_id", "item_id"]), tfps.Embedding(table, ["item_id"])
  right.trainable = False
  left, right = left(inputs), right(inputs)
  vectors = tf.concat([left.mf, right.mf], axis=1)
  logit = keras.layers.Dense(1)(keras.layers.Flatten()(vectors))
  return compiled(tfps.Model(inputs, tf.sigmoid(left.lr_logit + right.lr_logit + logit)))


class Histories(tfps.Model):
  """Two layers whose histories read the items' rows, as often as the user's number says."""

  def __init__(self, table):
    super().__init__()
    share = {"history": "item_id", "seen": "item_id"}
    self.left = tfps.Embedding(
      table,
      ["user_id", "item_id", "history"],
      share={"history": "item_id"},
      sequences=["history"],
    )
    self.right = tfps.Embedding(table, ["history", "seen"], "mean", share=share, counting=["seen"])
    self.dense = keras.layers.Dense(1)

  def call(self, x, training=None):
    user, item = x["user_id"], x["item_id"]
    history = [tf.where(user % n == 0, one, 0) for n, one in ((2, item), (3, x["city"]), (1, item))]
    read = {"user_id": user, "item_id": item, "history": tf.stack(history, axis=1)}
    read["seen"] = tf.where(user % 5 == 0, item, x["category"])
    left, right = self.left(read), self.right(read)
    history = tf.reduce_sum(tf.tanh(left.sequences["history"]), axis=1)
    vectors = [*tf.unstack(left.mf, axis=1), *tf.unstack(right.mf, axis=1), history]
    return tf.sigmoid(left.lr_logit + self.dense(tf.concat(vectors, axis=1)))


def histories():
  return compiled(Histories(make_table(optimizer=tfps.Adam(0.05))))


def all_features():
  # Random layers whose states are variables.
  keras.backend.experimental.enable_tf_random_generator()
  return compiled(DeepAndWide(make_table()))


def two_tables():
  inputs = {name: keras.Input([], dtype=tf.int64, name=name) for name in ("user", "last")}
  users = tfps.Embedding(make_table("users"), ["user"])(inputs)
  lasts = tfps.Embedding(make_table("lasts"), ["last"])(inputs)
  deep = keras.layers.Dense(1)(tf.concat([users.mf[:, 0], lasts.mf[:, 0]], axis=1))
  return compiled(tfps.Model(inputs, tf.sigmoid(users.lr_logit + deep)), optimizer="rmsprop")


def steps_itself():
  return compiled(StepsItself(make_table()))


def without_a_table():
  inputs = {"user": keras.Input([], dtype=tf.int64, name="user")}
  buckets = keras.layers.Lambda(lambda x: tf.one_hot(x["user"] % 5, 5))(inputs)
  return compiled(tfps.Model(inputs, keras.layers.Dense(1, "sigmoid")(buckets)), optimizer="ftrl")


def ids_of_what_was_pulled():
  class Chained(tfps.Model):
    def __init__(self, table):
      super().__init__()
      self.first = tfps.Embedding(table, ["user"])
      self.second = tfps.Embedding(table, ["last"])

    def call(self, x):
      first = self.first(x)
      chosen = tf.where(first.lr[:, 0] > 0, x["last"], x["user"])
      return tf.sigmoid(first.lr_logit + self.second({"last": chosen}).lr_logit)

  return compiled(Chained(make_table()))


def clicks(batch_size=BATCH, batches_per_ticket=1):
  """12 batches of 32 a day; as many tickets if each has one."""
  return lambda folder: tfps.data.ClickStream(
    days=2,
    examples_per_day=12 * BATCH,
    batch_size=batch_size,
    batches_per_ticket=batches_per_ticket,
  )


def parquet_clicks(folder):
  """`clicks(batches_per_ticket=4)`, whose feasigns are in Parquet files."""
  stream = clicks(batches_per_ticket=4)(folder)
  return parquet_files.as_parquet(stream, folder, batch_size=BATCH, batches_per_ticket=4)


def features(folder):
  """Lines of `user words click weight`: tickets of 3 batches, of 2 (one smaller), of 7 examples."""
  random = np.random.default_rng(3)
  paths = []
  for number, lines in enumerate((2 * 3 * 16 + 16 + 5, 7)):
    paths.append(folder / f"features-{number}.txt")
    written = []
    for _ in range(lines):
      words = ",".join(f"w{word}" for word in random.integers(0, 30, random.integers(0, 5)))
      written.append(
        f"u{random.integers(0, 20)} {words} {random.integers(0, 2)} {random.integers(1, 4)}"
      )
    paths[-1].write_text("\n".join(written) + "\n")
  return tfps.data.source(list(map(str, paths)), _parse, batch_size=16, batches_per_ticket=3)


def _parse(lines):
  columns = tf.strings.split(lines, " ").to_tensor(shape=[None, 4])
  user, words, click, weight = tf.unstack(columns, axis=1)
  words = tfps.feasign("ragged", tf.strings.split(words, ","), padding="")
  x = {
    "user": tfps.feasign("user", user),
    "ragged": words,
    "sparse": tfps.feasign("sparse", tf.strings.split(user, "1")).to_sparse(),
    "words": words,
    "last": words[:, -1:].to_tensor(shape=[None, 1])[:, 0],
  }
  number = lambda column: tf.strings.to_number(column)[:, tf.newaxis]
  return x, number(click), number(weight)


CASES = {
  "sync adam": Case(tower(), clicks(), dict(consistency="sync"), 2),
  "sync adagrad": Case(tower(optimizer="adagrad"), clicks(), dict(consistency="sync"), 2),
  "sync sum": Case(tower_of_sums, clicks(), dict(consistency="sync", tickets_per_step=3), 3),
  "sync frozen": Case(partly_frozen, clicks(), dict(consistency="sync"), 2),
  "sync histories": Case(histories, clicks(), dict(consistency="sync"), 2),
  "sync both": Case(tower_of_both, clicks(), dict(consistency="sync", tickets_per_step=3), 3),
  "bfloat16": Case(tower_of("mixed_bfloat16"), clicks(), dict(consistency="sync"), 2),
  "float16": Case(tower_of("mixed_float16"), clicks(), {}),
  "sync schedules": Case(tower_of_schedules, clicks(), dict(consistency="sync"), 2),
  "bounded schedules": Case(tower_of_schedules, clicks(), dict(consistency="bounded")),
  "bounded": Case(tower(), clicks(batches_per_ticket=4), dict(consistency="bounded")),
  "bounded each": Case(
    tower(), clicks(batches_per_ticket=4), dict(consistency="bounded", dense_sync_every=1)
  ),
  "bounded bare": Case(
    without_dense_weights, clicks(batches_per_ticket=4), dict(consistency="bounded")
  ),
  "bounded parquet": Case(without_dense_weights, parquet_clicks, dict(consistency="bounded")),
  "sync bare": Case(without_dense_weights, clicks(), dict(consistency="sync"), 2),
  "features": Case(all_features, features, {}),
  "features sync": Case(all_features, features, dict(consistency="sync")),
  "two tables": Case(two_tables, features, dict(dense_sync_every=1)),
  "steps itself": Case(steps_itself, features, {}),
  "steps itself, merged": Case(steps_itself, features, dict(dense_local_steps=False)),
  "steps itself, sync": Case(steps_itself, features, dict(consistency="sync")),
  "no table": Case(without_a_table, features, {}),
  "pulled ids": Case(ids_of_what_was_pulled, features, {}),
}


def counts_of(source, slots=None):
  """{feasign: [show, click]} of all examples of a source, added up in NumPy."""
  counts = collections.defaultdict(lambda: np.zeros(2))
  for ticket in source.tickets():
    for x, y, *weight in source.open(ticket):
      y = y.numpy()[:, 0]
      weight = weight[0].numpy()[:, 0] if weight else np.ones_like(y)
      for feature in (x[slot] for slot in slots or x):
        for example, ids in enumerate(rows_of(feature)):
          for key in ids[ids != 0]:
            counts[key] += [weight[example], weight[example] * y[example]]
  return counts


def rows_of(feature):
  if isinstance(feature, tf.RaggedTensor):
    return [row.numpy() for row in feature]
  if isinstance(feature, tf.SparseTensor):
    feature = tf.sparse.to_dense(feature)
  return feature.numpy().reshape(len(feature), -1)


def train(make_model, source, communication, initial=None):
  """Trains a model as made under the strategy in whose scope this is called."""
  keras.utils.set_random_seed(1)
  model = make_model()
  model.build_for(source)
  if initial is not None:
    model.set_weights(initial)
  initial = model.get_weights()
  handed = Handed()
  history = model.fit(source, communication=communication, callbacks=[handed], verbose=0)
  return result(model, source, history, initial, handed.tickets)


def result(model, source, history, initial, tickets):
  keys = np.array(sorted(counts_of(source)), np.int64)
  tables = tables_of(model)
  return Result(
    initial=initial,
    weights=model.get_weights(),
    optimizer=[variable.numpy() for variable in model.optimizer.variables],
    keys=keys,
    rows={table.name: table.lookup(keys) for table in tables},
    statistics={table.name: table.statistics() for table in tables},
    logs={name: float(values[-1]) for name, values in history.history.items()},
    counted=float(model.metrics[0].count.numpy()),
    tickets=tickets,
    iterations=int(model.optimizer.iterations),
  )


def train_asynchronously(folder):
  """A `Result` after each of `ASYNC`, all of one model: what is counted adds up."""
  model, source = tower()(), clicks(batches_per_ticket=5)(folder)
  model.build_for(source)
  (table,) = tables_of(model)
  results = []
  for number, settings in enumerate(ASYNC):
    handed = Handed()
    callbacks = [tfps.callbacks.EndOfDay(table), handed]
    if number < 2:
      saver = tfps.callbacks.Checkpoint(str(folder / f"checkpoints-{number}"), every_tickets=2)
      callbacks.append(saver)
    communication = tfps.Communication(**settings)
    # Days end once each, in their order.
    source._names = [f"day-{number}-{i}" for i in range(2)]
    history = model.fit(source, communication=communication, callbacks=callbacks, verbose=0)
    results.append(result(model, source, history, [], handed.tickets))
  return results


def go_on(folder):
  """Trains the first day, and in another model both, from its checkpoint.

  The clocks and results of both.
  """
  found = []
  source = clicks(batches_per_ticket=4)(folder)
  for view in (source.day(0), source):
    keras.utils.set_random_seed(1)
    model = tower()()
    (table,) = tables_of(model)
    clocks = []
    seen = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: clocks.append(table.clocks()))
    saver = tfps.callbacks.Checkpoint(str(folder / "going-on"))
    history = model.fit(view, callbacks=[saver, seen], verbose=0)
    found.append((clocks[0], table.clocks(), result(model, view, history, [], 0)))
  return found


def loops(folder):
  """What Keras's loops return for each model, or a sentence where it is refused."""
  found = {}
  communication = tfps.Communication(consistency="sync", tickets_per_step=1)
  trained, evaluated = (
    keras_loops.ArraySource(*keras_loops.data(), batches_per_ticket=n) for n in (1, 2)
  )
  fits = {"validation_data": evaluated, "validation_freq": 2, "epochs": 2, "verbose": 0}
  for name, make_model in {**keras_loops.LOGS, **keras_loops.EVALUATED}.items():
    keras.utils.set_random_seed(1)
    keras.backend.reset_uids()
    model = make_model()
    try:
      history = model.fit(trained, communication=communication, **fits).history
      evaluation = model.evaluate(evaluated, verbose=0, return_dict=True)
      found[name] = [history, evaluation, model.predict(evaluated, verbose=0)]
    except ValueError as error:
      found[name] = str(error)
  keras.backend.reset_uids()
  model = keras_loops.compiled(keras_loops.Structures)()
  found["structures"] = keras_loops.numpy_of(model.predict(evaluated, verbose=0))
  return found


def main():
  folder = pathlib.Path(sys.argv[1])
  strategy = tfps.strategy()
  whole = {
    "async": train_asynchronously,
    "going on": go_on,
    "loops": loops,
    "optimizers": lambda _: dense_optimizers.on_cluster(),
    "spoilt": cluster_cases.spoilt,
    "labels": cluster_cases.labels,
    "best": cluster_cases.best,
    "slot added": cluster_cases.slot_added,
    "rates": cluster_cases.rates,
  }
  only = sys.argv[2:] or [*CASES, *whole]
  with strategy.scope():
    for name in only:
      begin = time.monotonic()
      try:
        if name in CASES:
          case = CASES[name]
          communication = tfps.Communication(**case.communication)
          found = train(case.make_model, case.make_source(folder), communication)
        else:
          found = whole[name](folder)
      except Exception as error:  # The test of this case says which it should be.
        found = error.__class__.__name__ + ": " + str(error)
        traceback.print_exc()
      (folder / f"{name}.pickle").write_bytes(pickle.dumps(found))
      print(f"{time.monotonic() - begin:.1f} s: {name}", flush=True)


if __name__ == "__main__":
  from tests import worker_cases

  # Under the module's own name, so that what it pickles is found there.
  worker_cases.main()
