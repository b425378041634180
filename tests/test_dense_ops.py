"""The ops of dense weights, clocks and accumulated pushes, in one process with real variables."""

import itertools
import threading
import uuid
from concurrent import futures

import numpy as np
import pytest
import tensorflow as tf

from tfps import native

InvalidArgument = (tf.errors.InvalidArgumentError, ValueError)  # Eager, and a shape function's.
# What TensorFlow names variables that nobody finds by name.
_ANONYMOUS = "cd2c89b7-88b7-44c8-ad83-06c2a9158347"
NO_TICKET = [-1, 0, 0]


def dense_of(*variables, name=None):
  handles = [variable.handle for variable in variables]
  return native.ops.tfps_dense(variables=handles, shared_name=name or uuid.uuid4().hex)


def merge(dense, step=NO_TICKET, floats=(), integers=(), decays=(1,)):
  native.ops.tfps_merge_dense(
    dense=dense,
    step=tf.constant(step, tf.int64),
    floats=tf.constant(floats, tf.float32, shape=[len(floats)]),
    integers=tf.constant(integers, tf.int64, shape=[len(integers)]),
    decays=tf.constant(decays, tf.float32, shape=[len(decays)]),
  )


def clock_of(resource):
  finished_below, running = native.ops.tfps_clock(table=resource)
  return finished_below.numpy(), running.numpy().tolist()


def set_clock(resource, finished_below):
  native.ops.tfps_set_clock(table=resource, finished_below=finished_below)


@pytest.fixture(params=["dense", "table"])
def clocked(request):
  """A handle of each kind of resource that has a clock."""
  if request.param == "table":
    yield native.ops.tfps_table(shared_name=uuid.uuid4().hex, options="num_shards=1")
  else:
    variable = tf.Variable([1.0])
    yield dense_of(variable)


def test_all_values_are_read_in_the_order_of_the_variables():
  variables = [
    tf.Variable([[1.0, 2.0], [3.0, 4.0]]),
    tf.Variable(7, dtype=tf.int64),
    tf.Variable([5.0]),
    tf.Variable([-1, 2**31 - 1], dtype=tf.int32),
    tf.Variable(np.zeros([0, 3], np.float32)),
  ]
  floats, integers = native.ops.tfps_read_dense(dense=dense_of(*variables))
  assert floats.dtype == tf.float32 and floats.numpy().tolist() == [1, 2, 3, 4, 5]
  assert integers.dtype == tf.int64 and integers.numpy().tolist() == [7, -1, 2**31 - 1]


def test_a_merge_decays_floats_and_adds_integers():
  matrix = tf.Variable([[1.0, 2.0], [3.0, 4.0]])
  steps = tf.Variable(7, dtype=tf.int64)
  bias = tf.Variable([5.0])
  counts = tf.Variable([1, 2], dtype=tf.int32)
  dense = dense_of(matrix, steps, bias, counts)
  merge(dense, floats=[1, 1, 1, 2, 8], integers=[2**40, -1, 3], decays=[0.5, 9, 1, 9])
  assert matrix.numpy().tolist() == [[1.5, 2], [2.5, 4]]
  assert steps.numpy() == 7 + 2**40
  assert bias.numpy().tolist() == [13]
  assert counts.numpy().tolist() == [0, 5]


def test_decays_of_zero_and_one_are_exact_also_for_large_variables():
  random = np.random.default_rng(1)
  old, part = random.normal(size=[2, 300_001]).astype(np.float32)
  old[:3] = np.nan, np.inf, -np.inf
  added, replaced, mixed = tf.Variable(old), tf.Variable(old), tf.Variable(old)
  decay = np.float32(0.3)
  dense = dense_of(added, replaced, mixed)
  merge(dense, floats=np.concatenate([part] * 3), decays=[1, 0, decay])
  np.testing.assert_array_equal(added.numpy(), old + part)
  np.testing.assert_array_equal(replaced.numpy(), part)
  np.testing.assert_array_equal(mixed.numpy(), decay * old + part)
  floats, _ = native.ops.tfps_read_dense(dense=dense)
  np.testing.assert_array_equal(floats, np.concatenate([old + part, part, decay * old + part]))


def test_integers_wrap():
  small, large = tf.Variable([2**31 - 1], dtype=tf.int32), tf.Variable([2**63 - 1], dtype=tf.int64)
  merge(dense_of(small, large), integers=[1, 1], decays=[1, 1])
  assert small.numpy() == [-(2**31)] and large.numpy() == [-(2**63)]


def test_what_was_read_before_a_merge_stays():
  variable = tf.Variable([1.0, 2.0])
  read = variable.read_value()  # Shares the variable's buffer.
  merge(dense_of(variable), floats=[10, 10])
  assert read.numpy().tolist() == [1, 2]
  assert variable.numpy().tolist() == [11, 12]


def test_a_variable_that_is_gathered_from_merges_too():
  variable = tf.Variable([[1.0], [2.0]])
  dense = dense_of(variable)
  tf.gather(variable, [1])
  variable.scatter_add(tf.IndexedSlices([[5.0]], [0]))  # From now on it is copied when it is read.
  merge(dense, floats=[10, 10])
  assert variable.numpy().tolist() == [[16], [12]]


def test_a_batch_that_comes_again_changes_nothing():
  variable = tf.Variable([0.0])
  dense = dense_of(variable)
  for step in [[4, 1, 0], [4, 0, 0], [4, 1, 0], [5, 1, 0], [4, 0, 0]]:
    merge(dense, step, floats=[1])
  assert variable.numpy() == [3]
  assert clock_of(dense) == (0, [[4, 2], [5, 1]])
  merge(dense, [6, 0, 6], floats=[1])
  assert clock_of(dense) == (6, [[6, 1]])
  for step in [[4, 9, 0], [5, 9, 6]]:  # Of finished tickets.
    merge(dense, step, floats=[1])
  assert variable.numpy() == [4]
  for _ in range(2):
    merge(dense, floats=[1])
  assert variable.numpy() == [6]


def test_a_merge_that_fails_leaves_its_batch_new():
  variable = tf.Variable([0.0])
  dense = dense_of(variable)
  with pytest.raises(InvalidArgument):
    merge(dense, [0, 0, 0], floats=[1, 1])
  merge(dense, [0, 0, 0], floats=[1])
  assert variable.numpy() == [1]


def test_a_clock_is_set_to_that_of_a_restored_state(clocked):
  assert clock_of(clocked) == (0, [])
  set_clock(clocked, 9)
  assert clock_of(clocked) == (9, [])
  set_clock(clocked, 3)
  assert clock_of(clocked) == (3, [])
  with pytest.raises(InvalidArgument, match="finished_below must be 0 or more, not -1"):
    set_clock(clocked, -1)


def test_a_restored_clock_lets_tickets_run_again():
  variable = tf.Variable([0.0])
  dense = dense_of(variable)
  merge(dense, [7, 0, 7], floats=[1])
  set_clock(dense, 7)
  merge(dense, [7, 0, 7], floats=[1])
  merge(dense, [6, 0, 0], floats=[1])
  assert variable.numpy() == [2]


def test_a_clock_of_something_else_is_refused():
  stock = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, 0)
  with pytest.raises(InvalidArgument, match="must be a handle of TfpsTable or TfpsDense, not of"):
    clock_of(stock.resource_handle)


def test_with_nothing_accumulated_nothing_is_applied():
  table = native.ops.tfps_table(shared_name=uuid.uuid4().hex, options="num_shards=1")
  assert native.ops.tfps_apply_accumulated(table=table).numpy() == 0


def test_one_name_is_one_resource():
  a, b = tf.Variable([0.0]), tf.Variable([0.0])
  name = uuid.uuid4().hex
  merge(dense_of(a, b, name=name), [0, 0, 0], floats=[1, 2], decays=[1, 1])
  merge(dense_of(a, b, name=name), [0, 0, 0], floats=[1, 2], decays=[1, 1])
  assert a.numpy() == [1] and b.numpy() == [2]
  with pytest.raises(InvalidArgument, match="exist with 2 variables, so .* had with 1"):
    dense_of(a, name=name)
  with pytest.raises(InvalidArgument, match="exist with other variables"):
    dense_of(b, a, name=name)


def test_the_resource_keeps_its_variables():
  variable = tf.Variable([1.0])
  dense = dense_of(variable)
  del variable
  merge(dense, floats=[1])
  assert native.ops.tfps_read_dense(dense=dense)[0].numpy() == [2]


@pytest.mark.parametrize(
  "value, dtype",
  [
    (tf.constant([1.0], tf.float64), "double"),
    (tf.constant([1.0], tf.bfloat16), "bfloat16"),
    (tf.constant([True]), "bool"),
    (tf.constant(["x"]), "string"),
  ],
)
def test_another_dtype_is_named(value, dtype):
  with pytest.raises(InvalidArgument, match=rf"variables\[1\] is of dtype {dtype}, but"):
    dense_of(tf.Variable([1.0]), tf.Variable(value))


@pytest.mark.parametrize("name", ["never_initialized", _ANONYMOUS])
def test_a_variable_that_is_not_initialized_is_named(name):
  handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[1], shared_name=name)
  with pytest.raises(tf.errors.FailedPreconditionError, match=r"variables\[0\] is not initialized"):
    native.ops.tfps_dense(variables=[handle])


def test_a_variable_that_is_given_twice_is_refused():
  variable = tf.Variable([1.0])
  with pytest.raises(InvalidArgument, match="one of them is given twice"):
    dense_of(variable, variable)


def test_a_variable_that_became_another_size_is_named():
  first, second = tf.Variable([1.0]), tf.Variable([1.0], shape=tf.TensorShape(None))
  dense = dense_of(first, second)
  second.assign([1.0, 2.0])
  message = r"variables\[1\] held 1 elements of float when"
  with pytest.raises(tf.errors.FailedPreconditionError, match=message):
    native.ops.tfps_read_dense(dense=dense)
  with pytest.raises(tf.errors.FailedPreconditionError, match=message):
    merge(dense, floats=[1, 1], decays=[1, 1])
  assert first.numpy() == [1]


@pytest.mark.parametrize(
  "changed, message",
  [
    (dict(floats=[1]), r"floats must have the shape \[2\], the elements of all float32"),
    (dict(integers=[1, 1]), r"integers must have the shape \[1\]"),
    (dict(decays=[1]), r"decays must have the shape \[2\], one for each variable, not \[1\]"),
    (dict(step=[0, 0]), "step must have the shape|Dimension 0|Dimensions must be equal"),
    (dict(step=[-2, 0, 0]), r"step\[0\], the ticket's number"),
    (dict(step=[0, -1, 0]), r"step\[1\], the batch's number"),
    (dict(step=[0, 2**40, 0]), r"step\[1\], .* cut smaller tickets"),
    (dict(step=[0, 0, -1]), r"step\[2\]"),
  ],
)
def test_a_merge_names_what_is_wrong(changed, message):
  floats, integers = tf.Variable([1.0, 2.0]), tf.Variable([1], dtype=tf.int64)
  dense = dense_of(floats, integers)
  with pytest.raises(InvalidArgument, match=message):
    merge(dense, **(dict(floats=[1, 1], integers=[1], decays=[1, 1]) | changed))
  assert floats.numpy().tolist() == [1, 2] and integers.numpy() == [1]


def test_nobody_sees_half_a_merge():
  """Three threads send the same batches while two others read, until those saw enough."""
  size = 50_000
  variables = [tf.Variable(tf.zeros([size])) for _ in range(4)]
  count = tf.Variable(0, dtype=tf.int64)
  dense = dense_of(*variables, count)
  seen, torn = set(), []

  def send(_):
    try:
      for batch in itertools.count():
        if done.is_set() or torn or len(seen) > 50:
          return batch
        merge(dense, [0, batch, 0], np.ones(4 * size), [1], [1] * 5)
    finally:
      done.set()

  def read(_):
    try:
      while not done.is_set():
        floats, integers = native.ops.tfps_read_dense(dense=dense)
        values = set(np.unique(floats)) | set(np.unique(integers))
        seen.update(values)
        if len(values) != 1:
          torn.append(values)
    finally:
      done.set()

  done = threading.Event()
  with futures.ThreadPoolExecutor(5) as pool:
    reads = pool.map(read, range(2))
    sent = list(pool.map(send, range(3)))
  assert list(reads) == [None, None] and not torn
  assert len(seen) > 50  # They read while it changed.
  assert count.numpy() == max(sent)
  for variable in variables:
    np.testing.assert_array_equal(variable, np.full([size], max(sent)))


def test_the_ops_work_in_a_function():
  variable = tf.Variable([1.0])
  dense = dense_of(variable)

  @tf.function
  def run(step):
    native.ops.tfps_merge_dense(
      dense=dense, step=step, floats=[2.0], integers=tf.zeros([0], tf.int64), decays=[1.0]
    )
    floats, integers = native.ops.tfps_read_dense(dense=dense)
    assert floats.shape.rank == integers.shape.rank == 1
    return floats

  assert run(tf.constant([0, 0, 0], tf.int64)).numpy() == [3]
  assert run(tf.constant([0, 0, 0], tf.int64)).numpy() == [3]
  assert run(tf.constant([0, 1, 0], tf.int64)).numpy() == [5]
