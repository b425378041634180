"""The worker-side ops in TensorFlow: errors, shapes, the gradient. ops/tests has their values."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tfps import native
from tfps.layers.pooling import pool

InvalidArgument = (tf.errors.InvalidArgumentError, ValueError)  # Eager, and a shape function's.


def int64s(*values):
  return tf.constant(values, tf.int64, shape=[len(values)])


def floats(*values):
  return tf.constant(values, tf.float32, shape=[len(values)])


def column(data, offsets, codes):
  data = tf.constant(list(data), tf.uint8, shape=[len(data)])
  return dict(data=data, offsets=int64s(*offsets), codes=tf.constant(codes, tf.int32))


def test_strings_of_a_column():
  strings = lambda *of: native.ops.tfps_strings(**column(*of)).numpy().tolist()
  long = b"x" * 100
  assert strings(b"ab" + long, (0, 0, 1, 2, 102), [3, 1, 0, 1]) == [long, b"a", b"", b"a"]
  assert strings(b"abc", (1, 2), [[0], [0]]) == [[b"b"], [b"b"]]
  assert strings(b"", (0,), []) == []
  feasigns = functools.partial(native.ops.tfps_feasigns, prefix="a")
  for op in (native.ops.tfps_strings, feasigns):
    for offsets, codes in (
      ((0, 4), [0]), ((2, 1), [0]), ((-1, 2), [0]), ((), []), ((0, 1), [1]), ((0, 1), [-1])
    ):  # fmt: skip
      with pytest.raises(InvalidArgument):
        op(**column(b"abc", offsets, codes))
    with pytest.raises(InvalidArgument):
      op(data=tf.zeros([1, 1], tf.uint8), offsets=int64s(0), codes=[0])


@pytest.mark.parametrize(
  ("prefix", "codes"), (("", range(300)), ("user\x1f", [*range(299, -1, -1)] * 2))
)
def test_feasigns_of_a_column_are_farmhashs_of_its_texts(prefix, codes):
  """Texts of each length up to where the hash takes its longest way some times."""
  random = np.random.default_rng(1)
  data = random.integers(0, 256, 300 * 299 // 2).tolist()
  of = column(data, np.cumsum([0, *range(300)]), [*codes])
  made = native.ops.tfps_feasigns(**of, prefix=prefix, has_padding=True, padding=b"")
  texts = native.ops.tfps_strings(**of)
  expected = tf.bitcast(tf.fingerprint(prefix + texts), tf.int64)
  expected = tf.where(texts == "", tf.zeros_like(expected), expected)
  np.testing.assert_array_equal(made, expected)


def route(**changed):
  arguments = dict(
    ids=int64s(5, 0, 7, 5),
    slot_ends=int64s(3, 4),
    slot_ids=[1, 2],
    assignment=[0, 0],
    num_servers=1,
  )
  return native.ops.tfps_route(**(arguments | changed))


def pool_op(**changed):
  arguments = dict(
    rows=tf.ones([2, 3]),
    positions=[0, 1, -1, 1],
    row_splits=int64s(0, 2, 4),
    weights=floats(),
    combiners=["sum"],
  )
  return native.ops.tfps_pool(**(arguments | changed))


def pool_grad(**changed):
  arguments = dict(
    lr_grad=tf.ones([2, 1]),
    mf_grad=tf.ones([2, 1, 2]),
    positions=[0, 1, -1, 1],
    row_splits=int64s(0, 2, 4),
    weights=floats(),
    num_rows=2,
    combiners=["sum"],
  )
  return native.ops.tfps_pool_grad(**(arguments | changed))


BAD_BAGS = [
  (dict(positions=[0, 2, -1, 1]), "positions must be -1 or in .0, 2."),
  (dict(positions=[0, -2, -1, 1]), "positions must be -1 or in"),
  (dict(positions=[[0, 1, -1, 1]]), "positions must have rank 1|must be rank 1"),
  (dict(row_splits=int64s(0, 5, 4)), "row_splits must not decrease"),
  (dict(row_splits=int64s(1, 2, 4)), "row_splits must run from 0 to"),
  (dict(row_splits=int64s(0, 2, 5)), "row_splits must run from 0 to"),
  (dict(row_splits=int64s(0, 2, -1)), "row_splits must run from 0 to"),
  (dict(row_splits=int64s()), "row_splits must have slots"),
]


@pytest.mark.parametrize(
  "changed, message",
  [
    (dict(ids=int64s(5, 0, 7, 5)[tf.newaxis]), "ids must have rank 1"),
    (dict(slot_ends=int64s(3, 3)), "slot_ends must end at the number of ids, 4, not at 3"),
    (dict(slot_ends=int64s(5, 4)), r"slot_ends\[1\] is 4, less than"),
    (dict(slot_ids=[1]), "slot_ids must have one element per slot_ends, 2, not 1"),
    (dict(assignment=[0, 1]), r"assignment\[1\] is 1; it must be in \[0, 1\)"),
    (dict(assignment=[0, -1]), r"assignment\[1\] is -1"),
    (dict(assignment=tf.zeros([0], tf.int32)), "assignment must hold"),
    (dict(num_servers=0), "num_servers"),
  ],
)
def test_route_names_what_is_wrong(changed, message):
  with pytest.raises(InvalidArgument, match=message):
    route(**changed)


@pytest.mark.parametrize("changed, message", BAD_BAGS)
def test_bad_bags_are_named_by_every_op(changed, message):
  for op in (pool_op, pool_grad):
    with pytest.raises(InvalidArgument, match=message):
      op(**changed)


@pytest.mark.parametrize(
  "op, changed, message",
  [
    (pool_op, dict(rows=tf.ones([2])), "rows must have rank 2"),
    (pool_op, dict(rows=tf.ones([2, 0])), "rows must have 1 . mf_dim columns"),
    (pool_op, dict(weights=floats(1, 2)), "weights must be empty or have one .* per position, 4"),
    (pool_op, dict(combiners=["max"]), "max"),
    (pool_op, dict(combiners=[]), "combiners"),
    (pool_op, dict(combiners=["sum"] * 3), "row_splits must have slots"),
    (pool_grad, dict(weights=floats(1)), "weights must be empty"),
    (pool_grad, dict(lr_grad=tf.ones([2, 2])), "lr_grad and mf_grad must have the shapes"),
    (pool_grad, dict(mf_grad=tf.ones([3, 1, 2])), "lr_grad and mf_grad must have the shapes"),
    (pool_grad, dict(num_rows=-1), "num_rows must not be negative"),
    (pool_grad, dict(num_rows=[2]), "num_rows must have rank 0"),
  ],
)
def test_other_mistakes_are_named(op, changed, message):
  with pytest.raises(InvalidArgument, match=message):
    op(**changed)


def test_route_in_a_graph():
  @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
  def run(ids):
    routed = route(ids=ids, slot_ends=[2, 4], assignment=[0, 1, 2, 0, 1, 2, 0, 1], num_servers=3)
    assert [keys.shape.as_list() for keys in routed.keys] == [[None]] * 3
    assert routed.positions.shape.as_list() == [None]
    return tf.concat(routed.keys, axis=0), tf.concat(routed.slots, axis=0), routed.positions

  keys, slots, positions = run(int64s(8, 3, 8, 9))
  assert {int(k): int(s) for k, s in zip(keys, slots)} == {8: 1, 3: 1, 9: 2}
  assert tf.gather(keys, positions).numpy().tolist() == [8, 3, 8, 9]


def test_static_shapes():
  @tf.function(
    input_signature=[
      tf.TensorSpec([None, 9]),
      tf.TensorSpec([None], tf.int32),
      tf.TensorSpec([13], tf.int64),
      tf.TensorSpec([None]),
    ]
  )
  def run(rows, positions, row_splits, weights):
    lr, mf = pool(rows, positions, row_splits, weights, ["sum"] * 3)
    assert lr.shape.as_list() == [4, 3] and mf.shape.as_list() == [4, 3, 8]
    (gradient,) = tf.gradients([lr, mf], [rows])
    assert gradient.shape.as_list() == [None, 9]
    return gradient

  run.get_concrete_function()


@pytest.mark.parametrize("batch_size, num_rows", [(0, 0), (0, 2), (3, 0)])
def test_nothing_to_pool(batch_size, num_rows):
  rows = tf.ones([num_rows, 3])
  row_splits = tf.zeros([2 * batch_size + 1], tf.int64)
  with tf.GradientTape() as tape:
    tape.watch(rows)
    lr, mf = pool(rows, tf.zeros([0], tf.int32), row_splits, floats(), ["sum", "mean"])
    loss = tf.reduce_sum(lr) + tf.reduce_sum(mf)
  assert lr.shape == [batch_size, 2] and mf.shape == [batch_size, 2, 2]
  assert not np.any(lr) and not np.any(mf)
  np.testing.assert_array_equal(tape.gradient(loss, rows), np.zeros([num_rows, 3]))


@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_matches_differences(weighted):
  random = np.random.default_rng(1)
  splits = np.sort(random.integers(0, 30, 11))
  row_splits = tf.constant([0, *splits, 30], tf.int64)
  positions = tf.constant(random.integers(-1, 6, 30), tf.int32)
  weights = tf.constant(random.uniform(0.5, 2, 30 if weighted else 0), tf.float32)
  rows = tf.constant(random.normal(size=[6, 4]), tf.float32)

  def pooled(rows):
    lr, mf = pool(rows, positions, row_splits, weights, ["sum", "mean", "sqrtn"])
    return tf.reduce_sum(tf.sin(lr)) + tf.reduce_sum(tf.sin(mf))

  theoretical, numeric = tf.test.compute_gradient(pooled, [rows], delta=1e-2)
  np.testing.assert_allclose(theoretical[0], numeric[0], atol=2e-3)
  assert np.abs(theoretical[0]).max() > 0.1
