"""Slots that read the rows of others, and sequences: what they count, make and step."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tests.exports import SPECS
from tests.reference import Accessor, Optimizer, ReferenceTable
from tfps.export.served.inputs import ModelInputs
from tfps.layers.embedding import slots_of

MF_DIM = 3
BATCH = 12
VALUES = 9
SHARE = {"history": "item"}
# Layers of one table, by name: the arguments of each.
LAYERS = {
  "sequence": [dict(slots=["user", "item", "history"], share=SHARE, sequences=["history"])],
  "pooled": [dict(slots=["history", "user", "item"], share=SHARE, combiner={"history": "mean"})],
  "counting": [
    dict(slots=["user", "item", "history"], share=SHARE, counting=["history"]),
  ],
  "in the logit": [
    dict(
      slots=["item", "seen", "history", "user"],
      share=SHARE | {"seen": "item"},
      sequences=["seen", "user"],
      lr_slots=["history", "seen", "user"],
    )
  ],
  "two readers": [
    dict(slots=["history", "item", "seen", "user"], share=SHARE | {"seen": "item"}, combiner="mean")
  ],
  "two layers": [
    dict(slots=["user", "item", "history"], share=SHARE, sequences=["history"]),
    dict(slots=["seen", "history"], share={"seen": "user", "history": "item"}, counting=["seen"]),
  ],
  "another frozen": [
    dict(slots=["user", "item"]),
    dict(slots=["history", "item"], share=SHARE, trainable=False),
    dict(slots=["history"], share=SHARE, sequences=["history"]),
  ],
  "own slots frozen": [
    dict(slots=["user", "item"], trainable=False),
    dict(slots=["history"], share=SHARE),
  ],
}


class Clicks(tfps.Model):
  """A sigmoid of sums of what layers return, with fixed factors; `weights` are of history."""

  def __init__(self, table, layers, weights=None):
    super().__init__()
    self.embeddings = []
    for arguments in layers:
      arguments = dict(arguments)
      trainable = arguments.pop("trainable", True)
      self.embeddings.append(tfps.Embedding(table, **arguments))
      self.embeddings[-1].trainable = trainable
    self.weighted = weights is not None

  def call(self, x, training=None):
    logit = 0.0
    for number, layer in enumerate(self.embeddings):
      weights = {"history": x["weights"]} if self.weighted and "history" in layer.slots else None
      output = layer(x, weights, training=training)
      logit += output.lr_logit
      for i, slot in enumerate(layer.pooled_slots):
        logit += tf.reduce_sum(output.mf[:, i] * factors(number, slot), axis=1, keepdims=True)
      for slot, vectors in output.sequences.items():
        if isinstance(vectors, tf.RaggedTensor):
          vectors = vectors.to_tensor()
        total = tf.reduce_sum(tf.tanh(vectors), axis=1)
        logit += tf.reduce_sum(total * factors(number, slot), axis=1, keepdims=True)
    return tf.sigmoid(logit)


class DeepClicks(Clicks):
  """The same with a dense layer."""

  def __init__(self, *arguments):
    super().__init__(*arguments)
    self.dense = keras.layers.Dense(1, "sigmoid")

  def call(self, x, training=None):
    return self.dense(super().call(x, training))


def factors(number, slot):
  seed = [number, sum(slot.encode())]
  return tf.constant(np.random.default_rng(seed).normal(size=MF_DIM), tf.float32)


def make_table(gradient_scale="per_show", create_threshold=0.6, engine="native"):
  return tfps.FeasignTable(
    "shared",
    mf_dim=MF_DIM,
    optimizer=tfps.Adam(0.1),
    lr_optimizer=tfps.FTRL(0.2),
    gradient_scale=gradient_scale,
    mf_init_range=0.5,
    num_shards=8,
    accessor=tfps.CtrAccessor(create_threshold=create_threshold, delete_threshold=0),
    engine=engine,
  )


def make_reference(gradient_scale="per_show"):
  return ReferenceTable(
    mf_dim=MF_DIM,
    mf=Optimizer("adam", learning_rate=0.1),
    lr=Optimizer("ftrl", alpha=0.2),
    gradient_scale=gradient_scale,
    mf_init_range=0.5,
    num_shards=8,
    accessor=Accessor(create_threshold=0.6, delete_threshold=0),
  )


def example_ids(rng, most=5):
  """{slot: ids [BATCH, k]}, 0 is padding; the items of histories are read, and others."""
  ids = {"user": rng.integers(1, VALUES, [BATCH, 1]), "item": rng.integers(1, VALUES, [BATCH, 1])}
  for slot in ("history", "seen"):
    ids[slot] = rng.integers(0, 2 * VALUES, [BATCH, most])
  return ids


def keys_of(owner, ids):
  return tfps.feasign(owner, ids, padding=0).numpy()


def features_of(layers, ids, form="dense", weights=None):
  owners = {
    slot: layer.get("share", {}).get(slot, slot) for layer in layers for slot in layer["slots"]
  }
  x = {slot: tf.constant(keys_of(owner, ids[slot])) for slot, owner in owners.items()}
  if weights is not None:
    x["weights"] = tf.constant(weights, tf.float32)
  for slot in {"history", "seen"} & set(x):
    if form == "ragged":
      x[slot] = tf.RaggedTensor.from_tensor(x[slot])
    if form == "sparse":
      x[slot] = tf.sparse.from_dense(x[slot])
  return x


def step_of_reference(reference, table, layers, ids, labels, show, weights=None):
  """One step of the reference, by gradients of each slot of each layer that TensorFlow finds."""
  slots = {"user": table.slots.get("user"), "item": table.slots.get("item")}
  names = sorted({slot for layer in layers for slot in layer.get("share", {})})
  owner_keys = {owner: keys_of(owner, np.arange(1, 2 * VALUES)) for owner in ("user", "item")}
  rows = {owner: reference.pull(keys) for owner, keys in owner_keys.items()}
  parts = []  # (layer, slot, owner, rows as read)
  with tf.GradientTape() as tape:
    logit = tf.zeros([BATCH, 1])
    for number, layer in enumerate(layers):
      share, sequences = layer.get("share", {}), layer.get("sequences", ())
      combiner = layer.get("combiner", "sum")
      for slot in layer["slots"]:
        owner = share.get(slot, slot)
        read = tf.constant(np.concatenate([np.zeros([1, 1 + MF_DIM]), rows[owner]]), tf.float32)
        tape.watch(read)
        parts.append((number, slot, owner, read))
        weight = np.ones(ids[slot].shape) if weights is None or slot != "history" else weights
        weight = tf.constant(weight * (ids[slot] > 0), tf.float32)[:, :, None]
        values = tf.gather(read, ids[slot]) * weight
        vectors, lr = values[:, :, 1:], tf.reduce_sum(values[:, :, 0], axis=1, keepdims=True)
        how = combiner if isinstance(combiner, str) else combiner.get(slot, "sum")
        if slot in sequences:
          mf = tf.reduce_sum(tf.tanh(vectors), axis=1)
        else:
          divisor = tf.reduce_sum(weight, axis=1) if how == "mean" else 1.0
          mf = tf.math.divide_no_nan(tf.reduce_sum(vectors, axis=1), divisor)
          lr = tf.math.divide_no_nan(lr, divisor)
        if (slot not in share and slot not in sequences) or slot in layer.get("lr_slots", ()):
          logit += lr
        logit += tf.reduce_sum(mf * factors(number, slot), axis=1, keepdims=True)
    losses = keras.losses.binary_crossentropy(labels, tf.sigmoid(logit))
    loss = tf.reduce_sum(losses * show)
  gradients = tape.gradient(loss, [read for *_, read in parts])
  gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
  columns = []
  for (number, slot, owner, _), gradient in zip(parts, gradients):
    layer = layers[number]
    reader = 0 if slot not in layer.get("share", {}) else 1 + names.index(slot)
    counts = reader == 0 or slot in layer.get("counting", ())
    for value in np.unique(ids[slot][ids[slot] > 0]):
      times = (ids[slot] == value).sum(axis=1)
      shows, clicks = (times * show).sum(), (times * show * labels[:, 0]).sum()
      is_frozen = not layer.get("trainable", True)
      columns.append((
        owner_keys[owner][value - 1], slots[owner], shows, clicks, gradient[value].numpy(),
        reader if counts else -reader, np.nan if is_frozen else shows,
      ))  # fmt: skip
  reference.push_read(*zip(*columns))


def check(table, reference):
  keys = np.concatenate([keys_of(slot, np.arange(1, 2 * VALUES)) for slot in ("user", "item")])
  found = table.lookup(keys)
  for i, key in enumerate(keys):
    row = reference.row(key)
    assert found["found"][i] == (row is not None)
    if row is None:
      continue
    assert found["slot"][i] == row.slot and found["admitted"][i] == (row.mf is not None)
    np.testing.assert_allclose(
      found["statistics"][i], [row.show, row.click, row.delta_score], rtol=1e-9
    )
    np.testing.assert_allclose(found["lr_w"][i], row.lr[0][0], rtol=2e-4, atol=1e-5)
    mf = row.mf[0] if row.mf else np.zeros(MF_DIM)
    np.testing.assert_allclose(found["mf_w"][i], mf, rtol=2e-4, atol=1e-5)
  assert table.statistics()["slot_conflicts"] == table.statistics()["odd_clicks"] == 0
  return found


def compiled(model):
  model.compile("sgd", "binary_crossentropy")
  return model


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
  "gradient_scale, form, engine",
  [("per_show", "dense", "native"), ("sum", "ragged", "native"), ("per_show", "sparse", "tfra")],
)
def test_rows_are_those_of_the_reference(name, gradient_scale, form, engine):
  layers = LAYERS[name]
  table, reference = make_table(gradient_scale, engine=engine), make_reference(gradient_scale)
  model = compiled(Clicks(table, layers))
  rng = np.random.default_rng(len(name))
  read_only = 0
  for step in range(6):
    ids = example_ids(rng)
    labels = rng.integers(0, 2, [BATCH, 1]).astype(np.float32)
    show = rng.integers(1, 3, BATCH).astype(np.float32) if step % 2 else np.ones(BATCH, np.float32)
    model.train_on_batch(features_of(layers, ids, form), labels, sample_weight=show)
    step_of_reference(reference, table, layers, ids, labels, show)
    found = check(table, reference)
    read_only += (~found["found"]).sum()
  assert read_only > 0 and found["admitted"].any() and np.abs(found["mf_w"]).max() > 0.5


def test_a_history_with_weights():
  layers = LAYERS["pooled"]
  table, reference = make_table(), make_reference()
  model = compiled(Clicks(table, layers, weights=True))
  rng = np.random.default_rng(1)
  for _ in range(4):
    ids, labels = example_ids(rng), rng.integers(0, 2, [BATCH, 1]).astype(np.float32)
    weights = rng.uniform(0.5, 2, ids["history"].shape)
    model.train_on_batch(features_of(layers, ids, weights=weights), labels)
    step_of_reference(reference, table, layers, ids, labels, np.ones(BATCH, np.float32), weights)
    check(table, reference)


def test_the_owner_of_a_row_does_not_depend_on_who_comes_first():
  """Neither on the order of slots, nor on a step that only reads."""
  found = []
  for slots, reads_first in itertools.product(itertools.permutations(["item", "history"]), (0, 1)):
    layers = [dict(slots=list(slots), share=SHARE)]
    table = make_table()
    table.slot_id("user")
    model = compiled(Clicks(table, layers))
    rng = np.random.default_rng(2)
    batches = [example_ids(rng) for _ in range(3)]
    if reads_first:
      nothing = batches[0] | {"item": np.zeros([BATCH, 1], int)}
      model.train_on_batch(features_of(layers, nothing), np.ones([BATCH, 1]))
      assert table.statistics()["rows"] == 0
    for ids in batches:
      model.train_on_batch(features_of(layers, ids), np.ones([BATCH, 1]))
    found.append(table.lookup(keys_of("item", np.arange(1, 2 * VALUES))))
    assert set(found[-1]["slot"][found[-1]["found"]]) == {table.slots["item"]}
    assert "history" not in table.slots and table.statistics()["slot_conflicts"] == 0
  for other in found[1:]:
    for name, column in found[0].items():
      np.testing.assert_array_equal(other[name], column, err_msg=name)


def test_what_is_read_is_seen_and_steps_and_does_not_count():
  table = make_table(create_threshold=0.05)
  keys = keys_of("item", np.arange(1, 4))
  ones = np.ones(2, np.float32)
  number = table.slot_id("item")
  table.push([(keys[:2], np.full(2, number, np.int32), ones, ones, np.zeros([2, 4], np.float32))])
  for day in range(2):
    table.end_of_day(day)
  before = table.lookup(keys)
  model = compiled(Clicks(table, [dict(slots=["history"], share=SHARE)]))
  model.train_on_batch({"history": np.tile(keys[[0, 2, 2]], [4, 1])}, np.ones([4, 1]))
  after = table.lookup(keys)
  assert after["found"].tolist() == [True, True, False] and after["unseen_days"][:2].tolist() == [
    0,
    2,
  ]
  np.testing.assert_array_equal(after["statistics"], before["statistics"])
  assert (after["mf_w"] != before["mf_w"]).any(axis=1).tolist() == [True, False, False]


def test_it_admits_none():
  """Though the score would, since the threshold was lowered."""
  table = make_table(create_threshold=0.3)
  key = keys_of("item", np.array([1]))
  one = np.ones(1, np.float32)
  number = np.array([table.slot_id("item")], np.int32)
  table.push([(key, number, one, one, np.full([1, 4], np.nan, np.float32))])
  assert table.lookup(key)["admitted"][0]
  strict = make_table(create_threshold=2)
  strict.push([(key, number, one, one, np.zeros([1, 4], np.float32))])
  model = compiled(Clicks(strict, [dict(slots=["history"], share=SHARE)]))
  for _ in range(5):
    model.train_on_batch({"history": np.tile(key, [4, 3])}, np.ones([4, 1]))
  assert strict.lookup(key)["statistics"][0, 0] == 1 and not strict.lookup(key)["admitted"][0]


def test_a_targets_step_does_not_depend_on_the_histories_it_stands_in():
  """Where what flows back to histories is nothing."""
  rows = []
  for width in (1, 50):
    table = make_table(create_threshold=0.05)
    inputs = {
      "item": keras.Input([], dtype=tf.int64, name="item"),
      "history": keras.Input([width], dtype=tf.int64, name="history"),
    }
    output = tfps.Embedding(table, ["item", "history"], share=SHARE)(inputs)
    logit = output.lr_logit + tf.reduce_sum(
      output.mf[:, 0] + tf.stop_gradient(output.mf[:, 1]) * 0.0, axis=1, keepdims=True
    )
    model = compiled(tfps.Model(inputs, tf.sigmoid(logit)))
    key = keys_of("item", np.array([1, 1]))
    for _ in range(3):
      x = {"item": key, "history": np.tile(key[0], [2, width])}
      model.train_on_batch(x, np.array([[1.0], [0.0]]))
    rows.append(table.lookup(key[:1]))
  assert rows[0]["statistics"][0, :2].tolist() == [6, 3]
  for name in rows[0]:
    np.testing.assert_array_equal(rows[0][name], rows[1][name], err_msg=name)


def test_a_long_history_costs_what_its_distinct_ids_cost():
  pulled = []
  for width in (10, 500):
    table = make_table()
    model = compiled(Clicks(table, LAYERS["sequence"]))
    ids = {slot: np.full([BATCH, 1], 1) for slot in ("user", "item")}
    ids["history"] = np.tile(np.arange(1, 11), [BATCH, width // 10])
    for _ in range(2):
      model.train_on_batch(features_of(LAYERS["sequence"], ids), np.ones([BATCH, 1]))
    statistics = table.statistics()
    pulled.append((statistics["pulled_keys"], statistics["pushed_keys"], statistics["rows"]))
  assert pulled[0] == pulled[1] == (2 * 11, 2 * 2, 2)


def test_outputs_of_shared_slots_and_sequences():
  table = make_table(create_threshold=0.05)
  model = compiled(Clicks(table, [dict(slots=["user", "item"])]))
  ids = {slot: np.arange(1, VALUES)[:, None] for slot in ("user", "item")}
  for _ in range(3):
    model.train_on_batch({slot: keys_of(slot, ids[slot]) for slot in ids}, np.ones([VALUES - 1, 1]))
  rows = {
    slot: np.concatenate(
      [np.zeros([1, 1 + MF_DIM]), table.pull([tf.constant(keys_of(slot, np.arange(1, VALUES)))])]
    )
    for slot in ids
  }
  read = np.array([[1, 3, 0], [2, 2, 8]])
  x = {
    "user": tf.constant(keys_of("user", [1, 2])),
    "words": tf.constant([["", ""], ["a", "b"]]),
    "history": tf.constant(keys_of("item", read)),
    "seen": tf.RaggedTensor.from_tensor(tf.constant(keys_of("item", read[:, ::-1])), padding=0),
    "item": tf.constant(keys_of("item", [3, 4])),
  }
  share = {"history": "item", "seen": "item"}
  layer = tfps.Embedding(table, list(x), share=share, sequences=["seen", "user"], lr_slots=["seen"])
  output = layer(x)
  assert layer.pooled_slots == ("words", "history", "item")
  assert layer.sequence_slots == ("user", "seen")
  assert (layer.owner_of("history"), layer.owner_of("item")) == ("item", "item")
  expected = np.stack([np.zeros([2, 4]), rows["item"][read].sum(axis=1), rows["item"][[3, 4]]], 1)
  np.testing.assert_allclose(output.lr, expected[:, :, 0], rtol=1e-5)
  np.testing.assert_allclose(output.mf, expected[:, :, 1:], rtol=1e-5)
  np.testing.assert_allclose(output.sequences["user"][:, 0], rows["user"][[1, 2], 1:])
  seen = tf.RaggedTensor.from_tensor(read[:, ::-1], padding=0).to_tensor()
  np.testing.assert_allclose(output.sequences["seen"].to_tensor(), rows["item"][seen, 1:])
  logit = expected[:, 2, 0] + rows["item"][read, 0].sum(axis=1)
  np.testing.assert_allclose(output.lr_logit[:, 0], logit, rtol=1e-5)


def test_statistics_of_a_shared_slot_are_those_of_the_rows_it_reads():
  table = make_table()
  model = compiled(Clicks(table, [dict(slots=["item"])]))
  keys = keys_of("item", np.array([1, 2, 2, 3]))
  model.train_on_batch({"item": keys}, np.array([[1.0], [0.0], [1.0], [0.0]]))
  layer = tfps.Embedding(table, ["history", "item"], share=SHARE, statistics=True)
  read = {"history": tf.constant(keys_of("item", [[2, 9], [0, 3]])), "item": tf.constant(keys[:2])}
  found = layer(read).statistics
  np.testing.assert_array_equal(found["history"], [[[2, 1], [0, 0]], [[0, 0], [1, 0]]])
  np.testing.assert_array_equal(found["item"], [[[1, 1]], [[2, 1]]])


def test_an_export_of_what_reads_histories_only_has_the_items():
  table = make_table()
  model = Clicks(table, [dict(slots=["history"], share=SHARE)])
  assert slots_of(model) == {table: {"item"}}


def test_strings_are_feasigns_of_the_slot_whose_rows_they_read():
  table = make_table(create_threshold=0.05)
  x = {"item": tf.constant(["m1", "m2"]), "history": tf.constant([["m2", ""], ["m3", "m1"]])}
  layers = [dict(slots=["item", "history"], share=SHARE, sequences=["history"])]
  model = compiled(Clicks(table, layers))
  for _ in range(2):
    model.train_on_batch(x, np.ones([2, 1]))
  keys = tfps.feasign("item", ["m1", "m2", "m3"])
  found = table.lookup(keys)
  assert found["found"].tolist() == [True, True, False]
  sequence = model.embeddings[0](x).sequences["history"]
  np.testing.assert_array_equal(sequence[:, 0], [found["mf_w"][1], np.zeros(MF_DIM)])
  np.testing.assert_array_equal(sequence[:, 1], [np.zeros(MF_DIM), found["mf_w"][0]])


@pytest.mark.parametrize("hashed", [True, False])
def test_a_served_model_reads_the_same_rows(tmp_path, hashed):
  keras.utils.set_random_seed(1)
  table = make_table(create_threshold=0.05)
  layers = [
    dict(slots=["history", "city", "seen"], share={"history": "city", "seen": "city"},
         sequences=["history"], combiner={"seen": "mean"}),
  ]  # fmt: skip
  model = compiled(DeepClicks(table, layers))
  specs = {"city": SPECS["city"], "history": SPECS["history"], "seen": SPECS["history"]}

  def features(raw):
    if not hashed:
      return dict(raw)
    history = tf.sparse.from_dense(raw["history"])
    return {
      "city": tfps.feasign("city", raw["city"]),
      "history": tfps.feasign("city", history),
      "seen": tfps.feasign("city", tf.RaggedTensor.from_tensor(raw["seen"], padding="")),
    }

  raw_inputs = tfps.data.RawInputs(specs, features)
  rng = np.random.default_rng(3)
  words = np.array(["", *(f"w{i}" for i in range(9))])
  raw = {
    "city": words[rng.integers(1, 10, 30)],
    "history": words[rng.integers(0, 10, [30, 4])],
    "seen": words[np.sort(rng.integers(0, 10, [30, 3]))[:, ::-1]],
  }
  x = ModelInputs(model, raw_inputs).from_raw({name: tf.constant(raw[name]) for name in raw})
  for _ in range(10):
    model.train_on_batch(x, rng.integers(0, 2, [30, 1]).astype(np.float32))
  path = tfps.export.Exporter(model, tmp_path, raw_inputs).base()
  expected = model.predict_on_batch(x)
  session = tfps.export.SavedModelSession(path)
  served = session.run(raw)["predictions"]
  session.close()
  assert np.ptp(expected) > 0.02
  np.testing.assert_allclose(served, expected, atol=1e-6, rtol=0)


def test_a_slot_of_two_owners_is_not_exported(tmp_path):
  table = make_table()
  layers = [
    dict(slots=["city", "history"], share={"history": "city"}),
    dict(slots=["history"], share={"history": "item"}),
  ]
  raw = tfps.data.RawInputs({"city": SPECS["city"], "history": SPECS["history"]}, dict)
  with pytest.raises(
    tfps.export.ExportError, match="reads the rows of slot 'city' in one layer and"
  ):
    ModelInputs(compiled(Clicks(table, layers)), raw)


def test_a_checkpoint_goes_on(tmp_path):
  layers = LAYERS["two layers"]
  rng = np.random.default_rng(4)
  batches = [example_ids(rng) for _ in range(4)]
  labels = np.ones([BATCH, 1], np.float32)
  tables = []
  for begin in (0, 2):
    tables.append(make_table())
    model = compiled(Clicks(tables[-1], layers))
    manager = tfps.checkpoint.CheckpointManager(tmp_path, model, tables[-1:])
    if begin:
      manager.restore()
    for i, ids in enumerate(batches[begin:], begin):
      model.train_on_batch(features_of(layers, ids), labels)
      if not begin and i == 1:
        manager.save({})
  keys = np.concatenate([keys_of(slot, np.arange(1, 2 * VALUES)) for slot in ("user", "item")])
  whole, restored = (table.lookup(keys) for table in tables)
  assert whole["admitted"].any()
  for name, column in whole.items():
    np.testing.assert_array_equal(restored[name], column, err_msg=name)


@pytest.mark.parametrize(
  "arguments, message",
  [
    (dict(share={"history": "history"}), "slot 'history' shares its own rows"),
    (dict(share={"clicked": "item"}), "share names slot 'clicked', which is not one of"),
    (
      dict(share={"history": "seen", "seen": "item"}),
      "slot 'history' shares the rows of 'seen', which shares those of 'item': share the rows of",
    ),
    (dict(share={"history": 3}), "share..history.. must be the name of a slot, not 3"),
    (dict(share="item"), "share must be a dict"),
    (dict(share={"sized": "item"}), "slot 'sized' reads the rows of slot 'item' and has a SlotPol"),
    (dict(sequences="item"), "sequences must be a list of slot names, not 'item'"),
    (dict(sequences=["x"]), "sequences names slot 'x', which is not one of"),
    (dict(sequences=["item"], combiner={"item": "mean"}), "slot 'item' is in sequences, which are"),
    (dict(counting=["item"]), "counting names slot 'item', which reads its own rows and counts"),
    (dict(counting=["x"]), "counting names slot 'x', which is not one of"),
    (dict(lr_slots=["x"]), "lr_slots names slot 'x', which is not one of"),
  ],
)
def test_bad_settings_are_named(arguments, message):
  table = tfps.FeasignTable("t", slot_policies={"sized": tfps.SlotPolicy(mf_dim=4)})
  with pytest.raises(ValueError, match=message):
    tfps.Embedding(table, ["item", "history", "seen", "sized"], **arguments)


def test_a_shared_slot_has_the_mf_dim_of_its_owner():
  policies = {"item": tfps.SlotPolicy(mf_dim=5), "user": tfps.SlotPolicy(mf_dim=2)}
  table = tfps.FeasignTable("t", mf_dim=9, slot_policies=policies)
  layer = tfps.Embedding(table, ["user", "history"], share=SHARE, sequences=["history"])
  output = layer({"user": tf.constant([1]), "history": tf.constant([[2, 3]])})
  assert layer.mf_dim == 5 and output.sequences["history"].shape == [1, 2, 5]
