"""Messages between worker and server: what is in them, and what a push of one does."""

import uuid

import numpy as np
import pytest
import tensorflow as tf

from tests.messages import NONE, make_pulled, read_pulled, read_push
from tfps import native

InvalidArgument = (tf.errors.InvalidArgumentError, ValueError)  # eager, and a shape function's
DTYPES = [tf.float32, tf.bfloat16, tf.float16]
SHARDS = 8
BATCH = 40


def table(options="mf_dim=8;accessor.create_threshold=2"):
  return native.ops.tfps_table(
    shared_name=uuid.uuid4().hex, options=f"num_shards={SHARDS};{options}"
  )


def int64s(*values):
  return tf.constant(values, tf.int64, shape=[len(values)])


def pull_message(handle, keys, row_width=9, references=True, wire_dtype=tf.float32):
  return native.ops.tfps_pull_message(
    table=handle, keys=keys, row_width=row_width, references=references, wire_dtype=wire_dtype
  )


def statistics(handle):
  names, values = native.ops.tfps_statistics(table=handle)
  return dict(zip((name.decode() for name in names.numpy()), values.numpy().tolist()))


class Lookup:
  """A random pull of a few slots from several servers, ready to be pushed."""

  def __init__(self, rng, servers, width=9, references=True, largest=300):
    slots, most = 3, 4
    ids = []
    row_splits = [0]
    for slot in range(slots):
      for _ in range(BATCH):
        bag = rng.integers(0, largest, rng.integers(0, most)) * (1 + slot % 2)  # 0 is padding
        ids.extend(bag)
        row_splits.append(len(ids))
    self.row_splits = np.array(row_splits)
    routed = native.ops.tfps_route(
      ids=int64s(*ids),
      slot_ends=self.row_splits[BATCH::BATCH],
      slot_ids=[5, 2, 7],
      assignment=np.arange(SHARDS, dtype=np.int32) % len(servers),
      num_servers=len(servers),
    )
    self.keys, self.slots, self.positions = routed
    self.pulled = [
      pull_message(server, keys, width, references) for server, keys in zip(servers, self.keys)
    ]
    rows = sum(len(keys) for keys in self.keys)
    self.gradients = rng.normal(size=[rows, width]).astype(np.float32)

  def counts(self, show, click):
    return native.ops.tfps_count(
      positions=self.positions,
      row_splits=self.row_splits,
      show=show,
      click=click,
      num_rows=len(self.gradients),
    )

  def by_server(self, columns):
    """For each server its parts of columns [U, ...]."""
    ends = np.cumsum([len(keys) for keys in self.keys])[:-1]
    return zip(*(np.split(column, ends) for column in columns))


def make_push(lookups, show, click, scale=1.0, step=(-1, 0, 0), wire_dtype=tf.float32):
  columns = [
    [part for lookup in lookups for part in getattr(lookup, name)]
    for name in ("keys", "slots", "pulled")
  ]
  return native.ops.tfps_make_push(
    *columns,
    positions=[lookup.positions for lookup in lookups],
    row_splits=[lookup.row_splits for lookup in lookups],
    gradients=[lookup.gradients for lookup in lookups],
    show=np.float32(show),
    click=np.float32(click),
    scale=scale,
    step=int64s(*step),
    num_servers=len(lookups[0].keys),
    wire_dtype=wire_dtype,
  )


def push_messages(servers, messages, accumulate=False):
  for server, message in zip(servers, messages):
    native.ops.tfps_push_message(table=server, message=message, accumulate=accumulate)


def fill(servers, rng):
  """Rows for about two of three keys, some of them admitted."""
  lookup = Lookup(rng, servers, largest=200)
  for _ in range(3):
    push_messages(servers, make_push([lookup], np.ones(BATCH), np.ones(BATCH)))


def whole(rng):
  return rng.integers(0, 3, BATCH).astype(np.float32), rng.integers(0, 2, BATCH).astype(np.float32)


@pytest.mark.parametrize("num_servers", [1, 3])
@pytest.mark.parametrize("references", [True, False])
def test_one_lookup_is_packed_as_count_and_numpy_say(num_servers, references):
  rng = np.random.default_rng(num_servers)
  servers = [table() for _ in range(num_servers)]
  fill(servers, rng)
  lookup = Lookup(rng, servers, references=references)
  show, click = whole(rng)
  messages = make_push([lookup], show, click, scale=0.7, step=(5, 6, 3))
  expected = lookup.by_server([*lookup.counts(show, click), lookup.gradients])
  for server, (row_show, row_click, gradients) in enumerate(expected):
    push = read_push(messages[server].numpy())
    pulled = read_pulled(lookup.pulled[server].numpy())
    assert push.step == (5, 6, 3) and push.version == pulled.version == 3
    np.testing.assert_array_equal(push.keys, lookup.keys[server])
    np.testing.assert_array_equal(push.slots, lookup.slots[server])
    if references:
      np.testing.assert_array_equal(push.references, pulled.references)
      assert 0 < np.sum(push.references == NONE) < len(push.references)
    else:
      assert push.references is None
    assert push.counts.dtype == np.uint16
    np.testing.assert_array_equal(push.counts, np.stack([row_show, row_click], axis=1))
    np.testing.assert_array_equal(push.gradients, gradients * np.float32(0.7))


@pytest.mark.parametrize(
  "show, dtype",
  [(1.0, np.uint16), (65_535.0, np.float32), (0.5, np.float32), (-1.0, np.float32)]
  + [(np.nan, np.float32), (np.inf, np.float32), (1e10, np.float32), (4e9, np.float32)],
)
def test_counts_are_short_where_they_are_small_and_whole(show, dtype):
  servers = [table()]
  lookup = Lookup(np.random.default_rng(0), servers, largest=20)  # so that keys repeat
  shows, clicks = np.full(BATCH, show, np.float32), np.zeros(BATCH, np.float32)
  clicks[3] = 1
  push = read_push(make_push([lookup], shows, clicks)[0].numpy())
  assert push.counts.dtype == dtype
  np.testing.assert_array_equal(push.counts.T, lookup.counts(shows, clicks))


def test_lookups_of_a_table_are_merged_by_key():
  rng = np.random.default_rng(4)
  servers = [table(), table()]
  fill(servers, rng)
  lookups = [Lookup(rng, servers, 5), Lookup(rng, servers, 9)]
  push_messages(servers, make_push(lookups[:1], *whole(rng)))
  lookups.append(Lookup(rng, servers, 3, references=False))
  for show, click in [whole(rng), rng.random([2, BATCH]).astype(np.float32)]:
    messages = make_push(lookups, show, click, scale=0.5)
    expected = [{}, {}]
    for lookup in lookups:
      columns = [*lookup.counts(show, click), lookup.gradients]
      for server, parts in enumerate(lookup.by_server(columns)):
        references = read_pulled(lookup.pulled[server].numpy()).references
        for i, key in enumerate(lookup.keys[server].numpy()):
          row = expected[server].setdefault(
            key,
            dict(
              slot=lookup.slots[server].numpy()[i],
              reference=NONE if references is None else references[i],
              counts=np.zeros(2),
              gradient=np.zeros(9, np.float32),
            ),
          )
          row["counts"] += [parts[0][i], parts[1][i]]
          row["gradient"][: lookup.gradients.shape[1]] += parts[2][i]
    for server, rows in enumerate(expected):
      push = read_push(messages[server].numpy())
      assert push.version == 3  # that of the oldest pull
      assert push.keys.tolist() == list(rows)
      assert push.slots.tolist() == [row["slot"] for row in rows.values()]
      assert push.references.tolist() == [row["reference"] for row in rows.values()]
      counts = np.array([row["counts"] for row in rows.values()])
      np.testing.assert_allclose(push.counts, counts, rtol=1e-6)
      gradients = np.array([row["gradient"] for row in rows.values()]) * np.float32(0.5)
      np.testing.assert_array_equal(push.gradients, gradients)


@pytest.mark.parametrize("wire_dtype", DTYPES[1:])
def test_gradients_are_rounded_at_random_by_the_step_and_their_place(wire_dtype):
  lookup = Lookup(np.random.default_rng(1), [table()])

  def gradients(*step):
    (message,) = make_push([lookup], np.ones(BATCH), np.ones(BATCH), 3.0, step, wire_dtype)
    return read_push(message.numpy()).gradients.astype(np.float32)

  expected = lookup.gradients * np.float32(3)
  np.testing.assert_array_equal(gradients(1, 2, 0), gradients(1, 2, 1))
  rounded = [gradients(ticket, batch, 0) for ticket in range(20) for batch in range(20)]
  steps = np.abs(np.diff(np.sort(rounded, axis=0), axis=0)).max(
    axis=0
  )  # from one neighbour to the other
  assert (np.abs(rounded - expected) <= np.abs(expected) / 2**7).all()
  assert np.mean(steps > 0) > 0.9
  errors = (np.mean(rounded, axis=0) - expected) / np.maximum(steps, 1e-30)
  assert np.abs(errors[steps > 0]).max() < 5 * 0.5 / np.sqrt(400)
  assert abs(np.mean(errors[steps > 0])) < 0.002


@pytest.mark.parametrize("references", [True, False])
@pytest.mark.parametrize("wire_dtype", DTYPES)
def test_pulled_rows_are_those_of_a_pull(wire_dtype, references):
  rng = np.random.default_rng(2)
  servers = [table("mf_dim=8;accessor.create_threshold=2;mf_init_range=1"), table()]
  fill(servers, rng)
  keys = [rng.integers(-5, 200, n) for n in (301, 50)]
  messages = [
    pull_message(server, k, 9, references, wire_dtype) for server, k in zip(servers, keys)
  ]
  rows = native.ops.tfps_read_pulled(messages=messages, row_width=9)
  pulled = [native.ops.tfps_pull(table=s, keys=k, row_width=9) for s, k in zip(servers, keys)]
  expected = tf.cast(tf.cast(tf.concat(pulled, axis=0), wire_dtype), tf.float32)
  np.testing.assert_array_equal(rows, expected)
  assert np.mean(expected != 0) > 0.2
  for message, part in zip(messages, pulled):
    assert (read_pulled(message.numpy()).references is not None) == references
    assert len(message) <= 24 + len(part) * (4 * references + 9 * wire_dtype.size) + 12


def test_each_batch_of_a_ticket_is_applied_once():
  servers = [table()]
  lookup = Lookup(np.random.default_rng(3), servers)
  (message,) = make_push([lookup], np.ones(BATCH), np.zeros(BATCH), step=(4, 1, 0))
  for _ in range(3):
    push_messages(servers, [message])
  found = statistics(servers[0])
  assert (found["pushes"], found["repeated_pushes"]) == (1, 2)
  assert found["pushed_keys"] == len(lookup.keys[0])
  push_messages(servers, make_push([lookup], np.ones(BATCH), np.zeros(BATCH), step=(6, 0, 5)))
  push_messages(servers, [message])  # of a ticket that is finished
  for _ in range(2):  # of no ticket: always applied
    push_messages(servers, make_push([lookup], np.ones(BATCH), np.zeros(BATCH)))
  found = statistics(servers[0])
  assert (found["pushes"], found["repeated_pushes"]) == (4, 3)
  assert found["pushed_keys"] == 4 * len(lookup.keys[0])


def test_staleness_is_what_was_applied_between_pull_and_push():
  servers = [table()]
  rng = np.random.default_rng(3)
  old = Lookup(rng, servers)
  ones = np.ones(BATCH)

  def push(lookup, ticket):
    push_messages(servers, make_push([lookup], ones, ones, step=(ticket, 0, 0)))
    found = statistics(servers[0])
    return tuple(found[name] for name in ("staleness_sum", "staleness_max", "tickets_ahead_max"))

  assert push(Lookup(rng, servers), 1) == (0, 0, 0)
  assert push(Lookup(rng, servers), 2) == (0, 0, 0)
  assert push(old, 5) == (2, 2, 0)
  assert push(old, 3) == (5, 3, 2)
  assert push(Lookup(rng, servers), 4) == (5, 3, 2)
  for version in (-(2**63), 2**63 - 1):  # of no table that there is
    old.pulled = [make_pulled([0] * len(old.keys[0]), 9, version)]
    stale = push(old, 6 + (version > 0))
  assert stale == (5 + 5, 5, 2)


def test_accumulated_messages_count_once_they_are_applied():
  servers = [table()]
  lookup = Lookup(np.random.default_rng(3), servers)
  ones = np.ones(BATCH)
  for ticket in (0, 1, 1):
    messages = make_push([lookup], ones, ones, step=(ticket, 0, 0))
    push_messages(servers, messages, accumulate=True)
  found = statistics(servers[0])
  assert (found["pushes"], found["repeated_pushes"], found["pushed_keys"]) == (0, 1, 0)
  rows = native.ops.tfps_apply_accumulated(table=servers[0])
  found = statistics(servers[0])
  assert int(rows) == found["pushed_keys"] == len(lookup.keys[0])
  assert (found["pushes"], found["staleness_max"], found["show"]) == (2, 0, 2 * found["show"] / 2)
  assert found["show"] == 2 * np.sum(lookup.counts(np.float32(ones), np.float32(ones))[0])


def good_push(**changed):
  handle = table()
  arguments = dict(
    keys=[int64s(1, 2)],
    slots=[[1, 1]],
    pulled=[pull_message(handle, int64s(1, 2))],
    positions=[[0, 1]],
    row_splits=[int64s(0, 1, 2)],
    gradients=[tf.zeros([2, 9])],
    show=[1.0, 1.0],
    click=[0.0, 0.0],
    scale=1.0,
    step=int64s(0, 0, 0),
    num_servers=1,
  )
  return handle, native.ops.tfps_make_push(**(arguments | changed))


@pytest.mark.parametrize(
  "changed, message",
  [
    (dict(keys=[int64s(1)]), "slots and pulled must have one row per key, 1, not 2 and 2"),
    (dict(slots=[[1]]), "slots and pulled must have one row per key, 2, not 1 and 2"),
    (
      dict(pulled=[make_pulled([0], 9)]),
      "slots and pulled must have one row per key, 2, not 2 and 1",
    ),
    (dict(pulled=[np.zeros(3, np.uint8)]), "has 3 bytes, fewer than its header"),
    (dict(positions=[[0, 2]]), "positions must be -1 or in .0, 2."),
    (dict(row_splits=[int64s(0, 2, 1)]), "row_splits must"),
    (
      dict(gradients=[tf.zeros([3, 9])]),
      "gradients must have one row of 2 to 65535 floats per key, 2",
    ),
    (dict(gradients=[tf.zeros([2, 1])]), "gradients must have one row of 2 to 65535 floats"),
    (dict(click=[0.0]), "show and click must have one element per example"),
    (dict(step=int64s(0, 0)), "step must be|must be 3"),
    (dict(scale=[1.0]), "scale must have rank 0|must be rank 0"),
    (dict(num_servers=2), "one tensor for each lookup and server, 1 . 2, not 1"),
  ],
)
def test_make_push_names_what_is_wrong(changed, message):
  with pytest.raises(InvalidArgument, match=message):
    good_push(**changed)


def test_a_push_that_is_not_right_changes_nothing():
  handle, (message,) = good_push()
  damaged = message.numpy()
  damaged[6] = 9
  wrong_step = good_push(step=int64s(0, -1, 0))[1][0]
  narrow = good_push(gradients=[tf.zeros([2, 12])])[1][0]
  for bad, words in [
    (message[:-1], "bytes, but its header says .*cut off"),
    (damaged, "is damaged"),
    (pull_message(handle, int64s(1)), "does not begin as one does|fewer than its header"),
    (narrow, "The width of gradients must be from 2 to 9"),
    (wrong_step, "batch"),
  ]:
    with pytest.raises(InvalidArgument, match=words):
      native.ops.tfps_push_message(table=handle, message=bad)
  assert statistics(handle)["rows"] == statistics(handle)["repeated_pushes"] == 0
  native.ops.tfps_push_message(table=handle, message=message)
  assert statistics(handle)["rows"] == 2


def test_pulled_messages_are_checked():
  handle = table()
  message = pull_message(handle, int64s(1, 2))
  for bad, words in [
    (message[:-1], "cut off"),
    (good_push()[1][0], "does not begin as one does"),
    (pull_message(handle, int64s(1), row_width=5), "row_width must be that of the pull, 5, not 9"),
  ]:
    with pytest.raises(InvalidArgument, match=words):
      native.ops.tfps_read_pulled(messages=[message, bad], row_width=9)
  with pytest.raises(InvalidArgument, match="row_width must be from 2 to 9"):
    pull_message(handle, int64s(1), row_width=10)
