"""A function traced once, called with other variables than those it was traced with."""

import numpy as np
import pytest
import tensorflow as tf

from tfps.graph.traced import Traced, identity, local_variable

FLOAT = tf.TensorSpec([], tf.float32)


def variables(*values):
  return [tf.Variable(float(value)) for value in values]


def handles(replaced, others):
  """What `Traced` takes: `others` in the place of `replaced`."""
  return {identity(old): new.handle for old, new in zip(replaced, others, strict=True)}


def values(some):
  return [float(variable) for variable in some]


@tf.function
def scaled(variable, x):
  """A nested function that reads."""
  return variable * x


def adds(total, factor, count):
  """A function that reads `factor` and writes `total` and `count`."""

  def function(x):
    count.assign_add(1.0)
    return total.assign_add(scaled(factor, x)) * 10.0

  return function


def test_variables_are_those_of_the_call():
  traced_with, first, second = (variables(0, 2, 0) for _ in range(3))
  second[1].assign(5.0)
  traced = Traced(adds(*traced_with), FLOAT)
  assert {identity(v) for v in traced.variables} == {identity(v) for v in traced_with}
  call = tf.function(lambda x, handles: traced(x, handles=handles), autograph=False)
  for x, expected in [(3.0, 60.0), (4.0, 140.0)]:
    assert float(call(tf.constant(x), handles(traced_with, first))) == expected
  assert float(call(tf.constant(1.0), handles(traced_with, second))) == 50.0
  assert values(first) == [14, 2, 2] and values(second) == [5, 5, 1]
  assert values(traced_with) == [0, 2, 0]


@pytest.mark.parametrize("limit, expected", [(100.0, [2 + 4 + 6, 2, 3]), (5.0, [2 + 4 - 1, 2, 3])])
def test_in_the_body_of_a_loop_with_variables_of_its_own(limit, expected):
  """Also with functions in the function: tf.cond, whose branches read and write variables."""
  traced_with, start = variables(0, 0, 0), variables(0, 2, 0)
  total, factor, count = traced_with

  def function(x):
    count.assign_add(1.0)
    add = lambda: total.assign_add(scaled(factor, x)) + 0.0
    subtract = lambda: total.assign_sub(1.0) + 0.0
    return tf.cond(scaled(factor, x) < limit, add, subtract)

  traced = Traced(function, FLOAT)

  @tf.function
  def loop(n):
    copies = {identity(v): local_variable(v, s.read_value()) for v, s in zip(traced_with, start)}

    def body(i, totals):
      return i + 1, totals.write(i, traced(tf.cast(i, tf.float32) + 1.0, handles=copies))

    totals = tf.TensorArray(tf.float32, size=n)
    _, totals = tf.while_loop(lambda i, _: i < n, body, [0, totals])
    results = totals.stack()
    with tf.control_dependencies([results]):
      left = [
        tf.raw_ops.ReadVariableOp(resource=copies[identity(v)], dtype=tf.float32)
        for v in traced_with
      ]
    return results, left

  for _ in range(2):  # Each call has variables of its own.
    results, left = loop(tf.constant(3))
    assert [float(value) for value in left] == expected
    np.testing.assert_array_equal(results[:2], [2, 6])
    assert float(results[2]) == expected[0]
  assert values(start) == [0, 2, 0] and values(traced_with) == [0, 0, 0]


def test_what_may_change_is_told_from_what_is_only_read():
  read, gathered, assigned, scattered = (tf.Variable(tf.ones([3])) for _ in range(4))
  in_branch, unused = variables(1, 1)

  def function(x):
    assigned.assign_sub(read * x)
    scattered.scatter_nd_update([[1]], [x])
    tf.cond(x > 0.0, lambda: in_branch.assign(x) + 0.0, lambda: x)
    return tf.gather(gathered, [2]) + tf.cast(tf.shape(read)[0], tf.float32)

  traced = Traced(function, FLOAT)
  identities = lambda some: {identity(variable) for variable in some}
  assert identities(traced.changed) == identities([assigned, scattered, in_branch])
  assert identities(traced.variables) == identities(
    [read, gathered, assigned, scattered, in_branch]
  )
  assert identity(unused) not in identities(traced.variables)


@pytest.mark.parametrize("side_effects", [True, False])
def test_side_effects_are_left_out_where_only_results_are_wanted(side_effects):
  factor, counter, last = variables(3, 0, 0)

  def function(x, y):
    counter.assign_add(1.0)
    with tf.control_dependencies([last.assign(y)]):
      return factor * x

  traced = Traced(function, FLOAT, FLOAT, side_effects=side_effects)
  assert len(traced.variables) == (3 if side_effects else 1)
  assert len(traced.changed) == (2 if side_effects else 0)
  others = variables(4, 0, 0)
  replaced = handles([factor, counter, last], others)
  call = tf.function(lambda x, y: traced(x, y, handles=replaced), autograph=False)
  for x in (1.0, 2.0):
    assert float(call(tf.constant(x), tf.constant(7.0))) == 4 * x
  assert values(others) == ([4, 2, 7] if side_effects else [4, 0, 0])
  assert values([factor, counter, last]) == [3, 0, 0]


def test_constants_and_structures_are_kept():
  offset = tf.constant([10.0, 20.0])  # A tensor of eager mode: the function captures it.
  (factor,) = variables(1)

  def function(features):
    rows = features["ids"] * tf.cast(factor, tf.int64)
    return {"rows": rows, "pair": (offset * factor, offset[0])}

  spec = {"ids": tf.RaggedTensorSpec([None, None], tf.int64, ragged_rank=1), "unused": FLOAT}
  traced = Traced(function, spec)
  (two,) = variables(2)
  call = tf.function(lambda x: traced(x, handles=handles([factor], [two])), autograph=False)
  result = call({"ids": tf.ragged.constant([[1, 2], [], [3]], tf.int64), "unused": tf.zeros([])})
  assert result["rows"].to_list() == [[2, 4], [], [6]]
  np.testing.assert_array_equal(result["pair"][0], [20, 40])
  assert float(result["pair"][1]) == 10


def test_a_function_that_returns_nothing_still_acts():
  (counter,) = variables(0)

  def function():
    counter.assign_add(1.0)

  traced = Traced(function)
  (other,) = variables(5)
  call = tf.function(lambda: traced(handles=handles([counter], [other])), autograph=False)
  assert call() is None
  call()
  assert values([counter, other]) == [0, 7]
