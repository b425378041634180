"""Requests to a table: what pushes of one do, and what it pulls."""

import numpy as np
import pytest
import tensorflow as tf

from tests.exchanges import (
  BATCH,
  Lookup,
  exchange,
  good_push,
  int64s,
  make_push,
  pull,
  push,
  push_all,
  statistics,
  table,
)
from tests.messages import NONE, make_pulled, read_pulled
from tfps import native

InvalidArgument = (tf.errors.InvalidArgumentError, ValueError)  # eager, and a shape function's


def test_each_batch_of_a_ticket_is_applied_once():
  servers = [table()]
  lookup = Lookup(np.random.default_rng(3), servers)
  (message,) = make_push([lookup], np.ones(BATCH), np.zeros(BATCH), step=(4, 1, 0))
  for _ in range(3):
    push_all(servers, [message])
  found = statistics(servers[0])
  assert (found["pushes"], found["repeated_pushes"]) == (1, 2)
  assert found["pushed_keys"] == len(lookup.keys[0])
  push_all(servers, make_push([lookup], np.ones(BATCH), np.zeros(BATCH), step=(6, 0, 5)))
  push_all(servers, [message])  # of a ticket that is finished
  for _ in range(2):  # of no ticket: always applied
    push_all(servers, make_push([lookup], np.ones(BATCH), np.zeros(BATCH)))
  found = statistics(servers[0])
  assert (found["pushes"], found["repeated_pushes"]) == (4, 3)
  assert found["pushed_keys"] == 4 * len(lookup.keys[0])


def test_staleness_is_what_was_applied_between_pull_and_push():
  servers = [table()]
  rng = np.random.default_rng(3)
  old = Lookup(rng, servers)
  ones = np.ones(BATCH)

  def staleness(lookup, ticket):
    push_all(servers, make_push([lookup], ones, ones, step=(ticket, 0, 0)))
    found = statistics(servers[0])
    return tuple(found[name] for name in ("staleness_sum", "staleness_max", "tickets_ahead_max"))

  assert staleness(Lookup(rng, servers), 1) == (0, 0, 0)
  assert staleness(Lookup(rng, servers), 2) == (0, 0, 0)
  assert staleness(old, 5) == (2, 2, 0)
  assert staleness(old, 3) == (5, 3, 2)
  assert staleness(Lookup(rng, servers), 4) == (5, 3, 2)
  for version in (-(2**63), 2**63 - 1):  # of no table that there is
    old.pulled = [make_pulled([0] * len(old.keys[0]), 9, version)]
    stale = staleness(old, 6 + (version > 0))
  assert stale == (5 + 5, 5, 2)


def test_accumulated_messages_count_once_they_are_applied():
  servers = [table()]
  lookup = Lookup(np.random.default_rng(3), servers)
  ones = np.ones(BATCH)
  for ticket in (0, 1, 1):
    messages = make_push([lookup], ones, ones, step=(ticket, 0, 0))
    push_all(servers, messages, accumulate=True)
  found = statistics(servers[0])
  assert (found["pushes"], found["repeated_pushes"], found["pushed_keys"]) == (0, 1, 0)
  rows = native.ops.tfps_apply_accumulated(table=servers[0])
  found = statistics(servers[0])
  assert int(rows) == found["pushed_keys"] == len(lookup.keys[0])
  assert (found["pushes"], found["staleness_max"]) == (2, 0)
  assert found["show"] == 2 * np.sum(lookup.counts(np.float32(ones), np.float32(ones))[0])


def test_a_push_that_is_not_right_changes_nothing():
  handle, (message,) = good_push()
  damaged = message.numpy()
  damaged[6] = 9
  wrong_step = good_push(step=int64s(0, -1, 0))[1][0]
  narrow = good_push(gradients=[tf.zeros([2, 12])])[1][0]
  for bad, words in [
    (message[:-1], "bytes, but its header says .*cut off"),
    (damaged, "is damaged"),
    (pull(handle, int64s(1)), "does not begin as one does|fewer than its header"),
    (narrow, "The width of gradients must be from 2 to 9"),
    (wrong_step, "batch"),
  ]:
    with pytest.raises(InvalidArgument, match=words):
      push(handle, bad)
  assert statistics(handle)["rows"] == statistics(handle)["repeated_pushes"] == 0
  push(handle, message)
  assert statistics(handle)["rows"] == 2


def pushes_of(lookups, steps, wire_dtype=tf.float32):
  """A message for each look-up and step."""
  ones = np.ones(BATCH)
  return [
    make_push([lookup], ones, ones, step=step, wire_dtype=wire_dtype)[0]
    for lookup, step in zip(lookups, steps, strict=True)
  ]


def rows(handle):
  keys = tf.range(-1, 600, dtype=tf.int64)
  return native.ops.tfps_pull(table=handle, keys=keys, row_width=9).numpy()


@pytest.mark.parametrize("accumulate", [False, True])
def test_pushes_of_one_request_are_applied_as_if_each_had_one(accumulate):
  rng = np.random.default_rng(5)
  at_once, one_by_one, pulled_from = table(), table(), table()
  lookups = [Lookup(rng, [pulled_from], width) for width in (9, 5, 9, 9, 2)]
  steps = [(0, 0, 0), (0, 1, 0), (0, 1, 0), (2, 0, 0), (1, 7, 0)]  # The third repeats the second.
  messages = pushes_of(lookups[:3], steps[:3]) + pushes_of(lookups[3:], steps[3:], tf.float16)
  assert len({len(message) for message in messages}) > 2
  push(at_once, *messages, accumulate=accumulate)
  for message in messages:
    push(one_by_one, message, accumulate=accumulate)
  if accumulate:
    assert statistics(at_once)["rows"] == 0
    for handle in (at_once, one_by_one):
      native.ops.tfps_apply_accumulated(table=handle)
  found = statistics(at_once)
  assert found == statistics(one_by_one)
  assert (found["pushes"], found["repeated_pushes"], found["tickets_ahead_max"]) == (4, 1, 1)
  assert found["admitted"] > 0
  np.testing.assert_array_equal(rows(at_once), rows(one_by_one))


def test_a_pull_sees_the_pushes_of_its_request():
  handle = table()
  lookup = Lookup(np.random.default_rng(6), [handle])
  (keys,) = lookup.keys
  assert (read_pulled(lookup.pulled[0].numpy()).references == NONE).all()
  before = rows(handle)
  messages = pushes_of([lookup] * 2, [(0, 0, 0), (0, 1, 0)])
  reply = exchange(handle, messages, keys)
  found = read_pulled(reply.numpy())
  assert found.version == 2
  assert (found.references != NONE).all()
  expected = native.ops.tfps_pull(table=handle, keys=keys, row_width=9)
  np.testing.assert_array_equal(found.rows, expected)
  assert np.mean(found.rows != 0) > 0.5 and not before.any()
  # Its references find the rows again, and its version is what staleness counts from.
  lookup.pulled = [reply]
  push(handle, *pushes_of([lookup], [(1, 0, 0)]))
  assert statistics(handle)["staleness_sum"] == 0 + 1
  assert statistics(handle)["rows"] == len(keys)


def test_a_request_without_pushes_changes_nothing():
  handle, (message,) = good_push()
  push(handle, message)
  before = statistics(handle)
  assert read_pulled(pull(handle, int64s(1, 2, 3)).numpy()).version == 1
  assert len(read_pulled(exchange(handle).numpy()).rows) == 0
  assert statistics(handle) == {**before, "pulled_keys": before["pulled_keys"] + 3}


def changed(message, at, value):
  result = message.numpy()
  result[at] = value
  return result


def test_a_damaged_push_leaves_those_before_it_applied():
  _, (good,) = good_push()
  for bad, words in [
    (np.zeros(64, np.uint8), "does not begin as one does"),
    (changed(good, 6, 9), "is damaged: its header names a dtype"),
    (changed(good, 8, 200), "but its header says .*cut off"),
    (changed(good, 68, 7), "is damaged: its slots have 7 keys, but it holds 2"),
    (good_push(gradients=[tf.zeros([2, 12])])[1][0], "The width of gradients must be from 2 to 9"),
    (good_push(step=int64s(0, -1, 0))[1][0], "batch"),
  ]:
    _, (first,) = good_push(step=int64s(4, 0, 0))
    handle = table()
    (last,) = good_push(step=int64s(5, 0, 0), keys=[int64s(8, 9)])[1]
    with pytest.raises(InvalidArgument, match=words):
      exchange(handle, [first, bad, last], int64s(1))
    found = statistics(handle)
    assert (found["rows"], found["pushes"], found["repeated_pushes"]) == (2, 1, 0)
    assert found["pulled_keys"] == 0
    # Sent again as it should be, nothing is applied twice.
    push(handle, first, good_push(step=int64s(4, 1, 0), keys=[int64s(5, 6)])[1][0], last)
    found = statistics(handle)
    assert (found["rows"], found["pushes"], found["repeated_pushes"]) == (6, 3, 1)


def test_a_request_that_is_cut_off_changes_nothing():
  handle, (message,) = good_push()
  whole = native.ops.tfps_make_request(
    keys=int64s(1, 2), pushes=tf.concat([message, message], axis=0)
  )
  assert len(whole) == 16 + 2 * 8 + 2 * len(message)
  for bytes_left in (0, 8, 15, 16, 31, 32, 32 + len(message), len(whole) - 1):
    with pytest.raises(InvalidArgument, match="keys and pushes that it names; it was cut off"):
      native.ops.tfps_exchange(table=handle, request=whole[:bytes_left], row_width=9)
  assert statistics(handle)["pushes"] == statistics(handle)["rows"] == 0


def test_shapes_of_requests_are_checked():
  handle, (message,) = good_push()
  keys = int64s(1, 2)
  for arguments in (dict(keys=[keys], pushes=message), dict(keys=keys, pushes=[message])):
    with pytest.raises(InvalidArgument, match="must have"):
      native.ops.tfps_make_request(**arguments)
  request = native.ops.tfps_make_request(keys=keys, pushes=message)
  with pytest.raises(InvalidArgument, match="row_width must be from 2 to 9"):
    native.ops.tfps_exchange(table=handle, request=request, row_width=10)
  assert statistics(handle)["pushes"] == 0
