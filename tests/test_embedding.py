"""The embedding layer over a real table: forms of input, combiners, weights, training, errors."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.layers.bags import make_bags, read_feature
from tfps.layers.step import Step

MF_DIM = 4
KEYS = np.arange(1, 21)
COMBINERS = ("sum", "mean", "sqrtn")
IDS = [[3, 5, 3], [], [7], [20, 1]]
DENSE = np.array([[3, 5, 3], [0, 0, 0], [0, 7, 0], [20, 1, 0]])
WEIGHTS = [[0.5, 2.0, 1.0], [], [3.0], [1.5, 0.25]]
DENSE_WEIGHTS = np.array([[0.5, 2, 1], [9, 9, 9], [9, 3, 9], [1.5, 0.25, 9]], np.float32)


@pytest.fixture(scope="module")
def table():
  """A table in which keys 1 to 20 are admitted and have lr weights."""
  table = tfps.FeasignTable(
    "ctr", mf_dim=MF_DIM, mf_init_range=1.0, accessor=tfps.CtrAccessor(create_threshold=1)
  )
  n = len(KEYS)
  random = np.random.default_rng(0)
  gradients = random.normal(size=[n, 1 + MF_DIM]).astype(np.float32)
  counts = np.ones(n, np.float32)
  table.push([(KEYS, np.full(n, table.slot_id("a"), np.int32), counts, counts, gradients)])
  assert table.lookup(KEYS)["admitted"].all() and np.any(table.lookup(KEYS)["lr_w"])
  return table


@pytest.fixture(scope="module")
def rows(table):
  """[21, 1 + MF_DIM]: the row of each key, zeros for 0."""
  found = table.lookup(KEYS)
  pulled = np.concatenate([found["lr_w"][:, np.newaxis], found["mf_w"]], axis=1)
  return np.concatenate([np.zeros([1, 1 + MF_DIM], np.float32), pulled])


def ragged(values, dtype=np.int64):
  return tf.ragged.constant(values, dtype, ragged_rank=1)


def sparse(values, dtype=np.int64):
  return ragged(values, dtype).to_sparse()


def embedded(rows, values, combiner, weights=None):
  """What pooling must give, by stock TensorFlow, [B, 1 + MF_DIM]."""
  pooled = tf.nn.embedding_lookup_sparse(
    rows, sparse(values), weights and sparse(weights, np.float32), combiner=combiner
  )
  # It gives no row for empty examples at the end.
  return np.concatenate([pooled, np.zeros([len(values) - len(pooled), 1 + MF_DIM])])


FORMS = {
  "dense": (tf.constant(DENSE, tf.int64), DENSE_WEIGHTS),
  "int32": (tf.constant(DENSE, tf.int32), DENSE_WEIGHTS),
  "uint64": (tf.constant(DENSE, tf.uint64), DENSE_WEIGHTS),
  "numpy": (DENSE, DENSE_WEIGHTS),
  "ragged": (ragged(IDS), ragged(WEIGHTS, np.float32)),
  "sparse": (sparse(IDS), sparse(WEIGHTS, np.float32)),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("combiner", COMBINERS)
@pytest.mark.parametrize("form", FORMS)
def test_pools_like_tensorflow(table, rows, form, combiner, weighted):
  ids, weights = FORMS[form]
  output = tfps.Embedding(table, ["a"], combiner)({"a": ids}, {"a": weights} if weighted else None)
  expected = embedded(rows, IDS, combiner, WEIGHTS if weighted else None)
  np.testing.assert_allclose(output.lr, expected[:, :1], rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(output.lr_logit, expected[:, :1], rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(output.mf[:, 0], expected[:, 1:], rtol=1e-5, atol=1e-6)
  assert output.sequences == {}


def test_slots_of_every_form_at_once(table, rows):
  features = {
    "unused": tf.constant(["x"] * 4),
    "a": tf.constant([1, 0, 3, 999], tf.int64),  # 999 is absent: zeros.
    "b": tf.constant([[4], [4], [0], [2]], tf.int64),
    "c": tf.constant(DENSE, tf.int64),
    "d": ragged(IDS),
    "e": sparse(IDS),
  }
  layer = tfps.Embedding(table, ["d", "a", "c", "e", "b"], {"c": "mean", "e": "sqrtn"})
  output = layer(features)
  rows = np.concatenate([rows, np.zeros([1000 - len(rows), 1 + MF_DIM], np.float32)])
  expected = np.stack(
    [
      embedded(rows, IDS, "sum"),
      rows[[1, 0, 3, 999]],
      embedded(rows, IDS, "mean"),
      embedded(rows, IDS, "sqrtn"),
      rows[[4, 4, 0, 2]],
    ],
    axis=1,
  )
  np.testing.assert_allclose(output.lr, expected[:, :, 0], rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(output.mf, expected[:, :, 1:], rtol=1e-5, atol=1e-6)
  total = expected[:, :, 0].sum(axis=1, keepdims=True)
  np.testing.assert_allclose(output.lr_logit, total, rtol=1e-5)


def test_unpooled_sequences(table, rows):
  features = {
    "dense": tf.constant(DENSE, tf.int64),
    "pooled": tf.constant([1, 2, 3, 4], tf.int64),
    "ragged": ragged(IDS),
    "sparse": sparse(IDS),
    "single": tf.constant([5, 6, 0, 7], tf.int64),
  }
  unpooled = {slot: None for slot in features if slot != "pooled"}
  for inputs in (features, dict(features, pooled=ragged([[1], [2], [3], [4]]))):
    output = tfps.Embedding(table, list(features), unpooled)(inputs)
    np.testing.assert_allclose(output.lr_logit[:, 0], rows[[1, 2, 3, 4], 0])
    output = tfps.Embedding(
      table, list(features), sequences=list(unpooled), lr_slots=list(unpooled)
    )(inputs)
    np.testing.assert_allclose(output.mf, rows[[[1], [2], [3], [4]], 1:])
    sequences = output.sequences
    assert list(sequences) == list(unpooled)
    np.testing.assert_array_equal(sequences["dense"], rows[DENSE, 1:])
    left_packed = ragged(IDS).to_tensor().numpy()
    assert isinstance(sequences["ragged"], tf.RaggedTensor)
    np.testing.assert_array_equal(sequences["ragged"].to_tensor(), rows[left_packed, 1:])
    np.testing.assert_array_equal(sequences["sparse"], rows[left_packed, 1:])
    np.testing.assert_array_equal(sequences["single"], rows[[[5], [6], [0], [7]], 1:])
    logit = 3 * rows[DENSE, 0].sum(axis=1) + rows[[1, 2, 3, 4], 0] + rows[[5, 6, 0, 7], 0]
    np.testing.assert_allclose(output.lr_logit[:, 0], logit, rtol=1e-5, atol=1e-7)


def test_only_sequences_with_weights(table, rows):
  layer = tfps.Embedding(table, ["a", "b"], combiner=None, lr_slots=["a", "b"])
  features = {"a": tf.constant(DENSE, tf.int64), "b": ragged(IDS)}
  output = layer(features, weights={"a": DENSE_WEIGHTS})
  assert output.lr.shape == [4, 0] and output.mf.shape == [4, 0, MF_DIM]
  expected = rows[DENSE] * DENSE_WEIGHTS[:, :, np.newaxis]
  np.testing.assert_allclose(output.sequences["a"], expected[:, :, 1:], rtol=1e-6)
  logit = expected[:, :, 0].sum(axis=1) + rows[DENSE, 0].sum(axis=1)
  np.testing.assert_allclose(output.lr_logit[:, 0], logit, rtol=1e-5, atol=1e-7)


def test_weights_of_some_slots(table, rows):
  layer = tfps.Embedding(table, ["a", "b"])
  features = {"a": tf.constant(DENSE, tf.int64), "b": ragged(IDS)}
  output = layer(features, weights={"b": ragged(WEIGHTS, np.float32)})
  np.testing.assert_allclose(output.mf[:, 0], embedded(rows, IDS, "sum")[:, 1:], atol=1e-6)
  np.testing.assert_allclose(output.mf[:, 1], embedded(rows, IDS, "sum", WEIGHTS)[:, 1:], atol=1e-6)


def test_strings_are_hashed_with_their_slot():
  words = tf.constant([["x", ""], ["y", "x"]])
  expected = tfps.feasign("a", words, padding="")
  np.testing.assert_array_equal(read_feature("a", words), expected)
  assert expected.numpy()[0, 1] == 0
  flat = read_feature("a", tf.RaggedTensor.from_tensor(words, padding="")).flat_values
  np.testing.assert_array_equal(flat, tf.boolean_mask(expected, expected != 0))
  assert np.all(read_feature("b", words).numpy()[:, 0] != expected.numpy()[:, 0])


@pytest.mark.parametrize(
  "columns, row_splits",
  [
    ([tf.constant([7, 8]), tf.constant([[9], [0]])], [0, 1, 2, 3, 4]),
    ([tf.constant([[7, 8], [9, 0]]), tf.constant([[1, 2], [3, 4]])], [0, 2, 4, 6, 8]),
    ([tf.constant([7, 8]), tf.constant([[1, 2], [3, 4]])], [0, 1, 2, 4, 6]),
    ([tf.constant([[1, 2], [3, 4]]), ragged([[], [7]])], [0, 2, 4, 4, 5]),
    ([tf.zeros([2, 0], tf.int64), tf.constant([1, 2])], [0, 0, 0, 1, 2]),
    ([tf.zeros([0], tf.int64), tf.zeros([0, 3], tf.int64)], [0]),
    ([tf.zeros([0], tf.int64), tf.zeros([0, 1], tf.int64)], [0]),
  ],
)
@pytest.mark.parametrize("known", [True, False])
def test_bags_are_slot_major(columns, row_splits, known):
  columns = {f"s{i}": tf.cast(column, tf.int64) for i, column in enumerate(columns)}

  def specs(column):
    spec = tf.type_spec_from_value(column)
    if isinstance(column, tf.RaggedTensor):
      return tf.RaggedTensorSpec([None, None], tf.int64)
    return spec if known else tf.TensorSpec([None] * column.shape.rank, tf.int64)

  signature = [{slot: specs(column) for slot, column in columns.items()}]
  bags = tf.function(make_bags, input_signature=signature)(columns)
  ids = [getattr(column, "flat_values", column) for column in columns.values()]
  np.testing.assert_array_equal(bags.ids, np.concatenate([np.reshape(part, [-1]) for part in ids]))
  assert bags.row_splits.numpy().tolist() == row_splits
  batch_size = int(bags.batch_size)
  assert batch_size == (len(row_splits) - 1) // 2
  assert bags.slot_ends.numpy().tolist() == [row_splits[batch_size], row_splits[-1]]
  assert bags.weights.shape == [0]
  for tensor in (bags.ids, bags.row_splits, bags.slot_ends):
    assert tensor.dtype == tf.int64


def test_gradients_and_counts_reach_the_step(table, rows):
  layer = tfps.Embedding(table, ["a", "b", "c"], {"b": "mean", "c": None}, lr_slots=["c"])
  features = {
    "a": tf.constant([3, 3, 1, 0], tf.int64),
    "b": ragged(IDS),
    "c": tf.constant(DENSE, tf.int64),
  }

  @tf.function
  def step_of():
    with tf.GradientTape() as tape, Step(tape) as step:
      output = layer(features, training=True)
      loss = (
        tf.reduce_sum(output.lr_logit)
        + tf.reduce_sum(output.mf[:, 0])
        + 2 * tf.reduce_sum(output.mf[:, 1])
        + 3 * tf.reduce_sum(output.sequences["c"])
      )
    (lookup,) = step._lookups
    return tape.gradient(loss, step.rows)[0], lookup._replace(table=())

  gradient, lookup = step_of()
  assert lookup.rows.shape == gradient.shape
  keys = lookup.keys[0].numpy()
  assert keys.tolist() == [3, 1, 5, 7, 20]  # One row for each distinct feasign of all slots.
  np.testing.assert_array_equal(lookup.rows, rows[keys])
  a, b, c = (np.zeros(21) for _ in range(3))
  np.add.at(a, [3, 3, 1, 0], 1)
  for ids in IDS:
    np.add.at(b, ids, 1 / max(len(ids), 1))
  np.add.at(c, DENSE, 1)
  expected = np.stack([a + b + c] + [a + 2 * b + 3 * c] * MF_DIM, axis=1)
  np.testing.assert_allclose(gradient, expected[keys], rtol=1e-6)
  assert lookup.slots[0].numpy().tolist() == [1, 1, *[table.slot_id("b")] * 3]


def inputs_of(*slots):
  return {slot: keras.Input([], dtype="int64", name=slot) for slot in slots}


@pytest.mark.parametrize("training", [None, True])
def test_functional_model(table, rows, training):
  inputs = inputs_of("a", "b") | {
    "c": keras.Input([None], dtype="int64", name="c", ragged=True),
    "d": keras.Input([None], dtype="int64", name="d", sparse=True),
    "e": keras.Input([None], dtype="int64", name="e"),
  }
  weights = {"e": keras.Input([None], name="weights_of_e")}
  layer = tfps.Embedding(table, list(inputs), {"c": None, "e": "mean"})
  output = layer(inputs, weights=weights, training=training)
  assert output.mf.shape.as_list() == [None, 4, MF_DIM]
  assert output.lr.shape.as_list() == [None, 4]
  assert output.lr_logit.shape.as_list() == [None, 1]
  score = output.lr_logit + keras.layers.Dense(1)(keras.layers.Flatten()(output.mf))
  model = keras.Model([inputs, weights], [score, output.mf, output.sequences])
  batch = {
    "a": tf.constant([1, 2, 3, 4], tf.int64),
    "b": tf.constant([4, 3, 2, 1], tf.int64),
    "c": ragged(IDS),
    "d": sparse(IDS),
    "e": tf.constant(DENSE, tf.int64),
  }
  if training:  # It would train outside of a tfps.Model.
    with pytest.raises(ValueError, match="make the model a tfps.Model"):
      model([batch, {"e": DENSE_WEIGHTS}])
    return
  _, mf, sequences = model([batch, {"e": DENSE_WEIGHTS}])
  np.testing.assert_allclose(mf[:, 0], rows[[1, 2, 3, 4], 1:])
  np.testing.assert_allclose(mf[:, 2], embedded(rows, IDS, "sum")[:, 1:], atol=1e-6)
  np.testing.assert_allclose(mf[:, 3], embedded(rows, IDS, "mean", WEIGHTS)[:, 1:], atol=1e-6)
  assert sequences["c"].row_lengths().numpy().tolist() == [3, 0, 1, 2]
  arrays = {"a": KEYS, "b": KEYS}
  small = inputs_of("a", "b")
  predicting = keras.Model(small, tfps.Embedding(table, ["a", "b"])(small).mf)
  predicted = predicting.predict(arrays, batch_size=8, verbose=0)
  np.testing.assert_array_equal(predicted, rows[np.stack([KEYS, KEYS], axis=1), 1:])


def test_a_keras_model_that_would_never_push_is_refused(table):
  inputs = inputs_of("a")
  model = keras.Model(inputs, tf.sigmoid(tfps.Embedding(table, ["a"])(inputs).lr_logit))
  model.compile("sgd", "binary_crossentropy")
  with pytest.raises(ValueError, match="table 'ctr' .* whose train step would never push to it"):
    model.fit({"a": KEYS}, np.ones(20), verbose=0)
  assert np.isfinite(model.evaluate({"a": KEYS}, np.ones(20), verbose=0))


def test_a_tfps_model_trains():
  table = tfps.FeasignTable("small", mf_dim=MF_DIM, accessor=tfps.CtrAccessor(create_threshold=2))
  inputs = inputs_of("a") | {"b": keras.Input([None], dtype="string", name="b", ragged=True)}
  output = tfps.Embedding(table, ["a", "b"])(inputs)
  logit = output.lr_logit + keras.layers.Dense(1)(keras.layers.Flatten()(output.mf))
  model = tfps.Model(inputs, tf.sigmoid(logit))
  model.compile("sgd", "binary_crossentropy")
  x = {"a": np.array([1, 1, 2]), "b": tf.ragged.constant([["x", "y"], [], ["x"]])}
  dataset = tf.data.Dataset.from_tensor_slices((x, np.array([1.0, 0.0, 1.0]))).batch(2)
  model.fit(dataset, epochs=2, verbose=0)
  x_key, y_key = tfps.feasign("b", ["x", "y"]).numpy()
  found = table.lookup([1, 2, x_key, y_key])
  np.testing.assert_array_equal(found["statistics"][:, 0], [4, 2, 4, 2])
  np.testing.assert_array_equal(found["statistics"][:, 1], [2, 2, 4, 2])
  assert np.all(found["lr_w"][1:] > 0)
  statistics = table.statistics()
  assert statistics["rows"] == 4 and statistics["slot_conflicts"] == 0
  before = table.lookup([1, 2, x_key, y_key])
  model.evaluate(dataset, verbose=0)
  model.predict(dataset, verbose=0)
  for name, value in table.lookup([1, 2, x_key, y_key]).items():
    np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
  "features, message",
  [
    ({"a": [1, 2]}, "slot 'b' is missing from the features .a.: add it"),
    ({"a": [1, 2], "b": [1, 2, 3]}, "slot 'b' has a batch of 3 and slot 'a' one of 2"),
    ({"a": [1, 2], "b": ragged([[1], [2], []])}, "slot 'b' has a batch of 3"),
    ({"a": [1.0, 2.0], "b": [1, 2]}, "slot 'a' has dtype float32: give int64 feasigns or strings"),
    ({"a": [1, 2], "b": [[[1]], [[2]]]}, r"slot 'b' has the shape \(2, 1, 1\): give a tensor"),
    ({"a": 1, "b": [1]}, r"slot 'a' has the shape \(\)"),
    ({"a": [True], "b": [1]}, "slot 'a' has dtype bool"),
    ([[1], [2]], r"takes a dict \{slot: ids\}, not ListWrapper|takes a dict .*, not list"),
  ],
)
def test_bad_features_are_named(table, features, message):
  if isinstance(features, dict):
    features = {
      slot: ids if isinstance(ids, tf.RaggedTensor) else tf.constant(ids)
      for slot, ids in features.items()
    }
  with pytest.raises(ValueError, match=message):
    tfps.Embedding(table, ["a", "b"])(features)


def test_batch_sizes_that_only_the_data_shows_to_differ(table):
  layer = tfps.Embedding(table, ["a", "b"])
  spec = {"a": tf.TensorSpec([None], tf.int64), "b": tf.RaggedTensorSpec([None, None], tf.int64)}
  run = tf.function(lambda features: layer(features).lr, input_signature=[spec])
  assert run({"a": tf.constant([1, 2], tf.int64), "b": ragged([[1], []])}).shape == [2, 2]
  message = "(?s)every slot needs the same examples.*a.*b"
  with pytest.raises(tf.errors.InvalidArgumentError, match=message):
    run({"a": tf.constant([1, 2, 3], tf.int64), "b": ragged([[1], []])})


@pytest.mark.parametrize(
  "weights, message",
  [
    ({"c": np.ones([4, 3])}, "there are weights for slot 'c', which is not one of"),
    ({"a": np.ones([4])}, r"the weights of slot 'a' are dense \(4,\) and its ids dense \(4, 3\)"),
    ({"b": np.ones([4, 3])}, r"the weights of slot 'b' are dense \(4, 3\) and its ids ragged"),
    ({"a": np.full([4, 3], "x")}, "the weights of slot 'a' have dtype string"),
    ({"b": ragged([[1.0]] * 4, np.float32)}, "the weights of slot b are not where its ids are"),
  ],
)
def test_bad_weights_are_named(table, weights, message):
  layer = tfps.Embedding(table, ["a", "b"])
  with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=message):
    layer({"a": tf.constant(DENSE, tf.int64), "b": ragged(IDS)}, weights=weights)


def shuffled(tensor, seed):
  """The same tf.SparseTensor, its elements in another order."""
  order = np.random.default_rng(seed).permutation(len(tensor.values))
  return tf.SparseTensor(
    tf.gather(tensor.indices, order), tf.gather(tensor.values, order), tensor.dense_shape
  )


@pytest.mark.parametrize("seeds", [(1, None), (None, 1), (1, 2), (3, 3)])
@pytest.mark.parametrize("combiner", [*COMBINERS, None])
def test_the_order_of_a_sparse_tensors_elements_means_nothing(table, rows, combiner, seeds):
  given = [
    tensor if seed is None else shuffled(tensor, seed)
    for tensor, seed in zip(FORMS["sparse"], seeds)
  ]
  layer = tfps.Embedding(table, ["a"], combiner, lr_slots=["a"])
  output = layer({"a": given[0]}, {"a": given[1]})
  if combiner is None:
    expected = rows[tf.sparse.to_dense(FORMS["sparse"][0])][:, :, 1:]
    expected *= tf.sparse.to_dense(FORMS["sparse"][1])[:, :, tf.newaxis]
    np.testing.assert_allclose(output.sequences["a"], expected, rtol=1e-5, atol=1e-6)
  else:
    expected = embedded(rows, IDS, combiner, WEIGHTS)
    np.testing.assert_allclose(output.mf[:, 0], expected[:, 1:], rtol=1e-5, atol=1e-6)
  logit = embedded(rows, IDS, combiner or "sum", WEIGHTS)[:, :1]
  np.testing.assert_allclose(output.lr_logit, logit, rtol=1e-5, atol=1e-7)


_RAGGED = tf.RaggedTensorSpec([None, None], tf.int64)
_SPARSE = tf.SparseTensorSpec([None, None], tf.int64)
_OTHER_ROWS = ragged([[0.5], [2, 1], [3], [1, 2]], np.float32)
ELSEWHERE = {
  "ragged, other rows": (_RAGGED, ragged(IDS), _OTHER_ROWS),
  "ragged, more rows": (_RAGGED, ragged([[1], [2]]), ragged([[1.0], [], [2]], np.float32)),
  "sparse, other rows": (_SPARSE, sparse(IDS), _OTHER_ROWS.to_sparse()),
  "sparse, other places": (
    _SPARSE,
    tf.SparseTensor([[0, 0], [0, 2]], np.array([1, 2]), [1, 3]),
    tf.SparseTensor([[0, 0], [0, 1]], np.array([1.0, 2]), [1, 3]),
  ),
  "dense, turned": (
    tf.TensorSpec([None, None], tf.int64),
    tf.constant(DENSE, tf.int64),
    DENSE_WEIGHTS.T,
  ),
}


@pytest.mark.parametrize("combiner", ["sum", None])
@pytest.mark.parametrize("kind", ELSEWHERE)
def test_weights_that_are_not_where_the_ids_are_name_their_slot(table, kind, combiner):
  spec, ids, weights = ELSEWHERE[kind]
  weights = tf.cast(weights, tf.float32)
  of_weights = type(spec)(spec.shape, tf.float32)
  layer = tfps.Embedding(table, ["a", "b"], combiner={"b": combiner})

  @tf.function(input_signature=[spec, of_weights])
  def run(ids, weights):
    return layer({"a": tf.ones([tf.shape(ids)[0]], tf.int64), "b": ids}, {"b": weights}).lr_logit

  with pytest.raises(tf.errors.InvalidArgumentError, match="slot b are not where its ids are"):
    run(ids, weights)
  right = tf.cast(ids, tf.float32)
  assert run(ids, right).shape == [len(run(ids, right)), 1]


@pytest.mark.parametrize(
  "slots, combiner, message",
  [
    ("a", "sum", "slots must be a list"),
    ([], "sum", "slots must be a list"),
    (["a", "a"], "sum", "slot 'a' is in slots twice"),
    (["a"], "max", "the combiner of slot 'a' must be one of sum, mean, sqrtn or None, not 'max'"),
    (["a"], {"b": "sum"}, "combiner names slot 'b'"),
  ],
)
def test_bad_settings_are_named(table, slots, combiner, message):
  with pytest.raises(ValueError, match=message):
    tfps.Embedding(table, slots, combiner)


def test_no_config_pretends_to_hold_the_table(table):
  with pytest.raises(NotImplementedError, match="table 'ctr', whose rows are no part of a Keras"):
    tfps.Embedding(table, ["a"]).get_config()
