"""Messages between worker and server: what is in them."""

import numpy as np
import pytest
import tensorflow as tf

from tests.exchanges import (
  BATCH,
  Lookup,
  good_push,
  int64s,
  make_push,
  pull,
  push_all,
  statistics,
  table,
)
from tests.messages import NONE, make_pulled, read_pulled, read_push
from tfps import native

InvalidArgument = (tf.errors.InvalidArgumentError, ValueError)  # eager, and a shape function's
DTYPES = [tf.float32, tf.bfloat16, tf.float16]


def fill(servers, rng):
  """Rows for about two of three keys, some of them admitted."""
  lookup = Lookup(rng, servers, largest=200)
  for _ in range(3):
    push_all(servers, make_push([lookup], np.ones(BATCH), np.ones(BATCH)))


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
    pushed = read_push(messages[server].numpy())
    pulled = read_pulled(lookup.pulled[server].numpy())
    assert pushed.step == (5, 6, 3) and pushed.version == pulled.version == 3
    np.testing.assert_array_equal(pushed.keys, lookup.keys[server])
    np.testing.assert_array_equal(pushed.slots, lookup.slots[server])
    if references:
      np.testing.assert_array_equal(pushed.references, pulled.references)
      assert 0 < np.sum(pushed.references == NONE) < len(pushed.references)
    else:
      assert pushed.references is None
    assert pushed.counts.dtype == np.uint16
    np.testing.assert_array_equal(pushed.counts, np.stack([row_show, row_click], axis=1))
    np.testing.assert_array_equal(pushed.gradients, gradients * np.float32(0.7))


@pytest.mark.parametrize(
  "show, dtype",
  [(1.0, np.uint16), (65_535.0, np.float32), (0.5, np.float32), (-1.0, np.float32)]
  + [(1e10, np.float32), (4e9, np.float32)],
)
def test_counts_are_short_where_they_are_small_and_whole(show, dtype):
  servers = [table()]
  lookup = Lookup(np.random.default_rng(0), servers, largest=20)  # so that keys repeat
  shows, clicks = np.full(BATCH, show, np.float32), np.zeros(BATCH, np.float32)
  clicks[3] = 1
  pushed = read_push(make_push([lookup], shows, clicks)[0].numpy())
  assert pushed.counts.dtype == dtype
  np.testing.assert_array_equal(pushed.counts.T, lookup.counts(shows, clicks))


def test_counts_that_are_not_finite_add_nothing_and_their_examples_are_counted():
  servers = [table(), table()]
  lookup = Lookup(np.random.default_rng(3), servers, largest=20)
  shows, clicks = np.ones(BATCH, np.float32), np.ones(BATCH, np.float32)
  shows[[1, 4]] = np.nan, -np.inf
  clicks[[4, 9]] = np.inf, np.nan
  messages = [read_push(message.numpy()) for message in make_push([lookup], shows, clicks)]
  assert [message.nonfinite_counts for message in messages] == [3, 0]
  good_shows, good_clicks = shows.copy(), clicks.copy()
  good_shows[[1, 4]] = good_clicks[[1, 4, 9]] = 0
  expected = lookup.by_server([*lookup.counts(good_shows, good_clicks), lookup.gradients])
  for message, (show, click, _) in zip(messages, expected):
    np.testing.assert_array_equal(message.counts.T, [show, click])
  push_all(servers, make_push([lookup], shows, clicks))
  assert [statistics(server)["nonfinite_counts"] for server in servers] == [3, 0]


@pytest.mark.parametrize("frozen", [[False, False, False], [False, True, False], [True] * 3])
def test_lookups_of_a_table_are_merged_by_key(frozen):
  rng = np.random.default_rng(4)
  servers = [table(), table()]
  fill(servers, rng)
  lookups = [Lookup(rng, servers, 5), Lookup(rng, servers, 9)]
  push_all(servers, make_push(lookups[:1], *whole(rng)))
  lookups.append(Lookup(rng, servers, 3, references=False))
  for show, click in [whole(rng), rng.random([2, BATCH]).astype(np.float32)]:
    messages = make_push(lookups, show, click, scale=0.5, frozen=frozen)
    expected = [{}, {}]
    for lookup, is_frozen in zip(lookups, frozen):
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
              step_show=np.nan,
              gradient=np.zeros(9, np.float32),
            ),
          )
          row["counts"] += [parts[0][i], parts[1][i]]
          if not is_frozen:
            row["step_show"] = np.nansum([row["step_show"], parts[0][i]])
            row["gradient"][: lookup.gradients.shape[1]] += parts[2][i]
    for server, rows in enumerate(expected):
      pushed = read_push(messages[server].numpy())
      assert pushed.version == 3  # that of the oldest pull
      assert pushed.keys.tolist() == list(rows)
      assert pushed.slots.tolist() == [row["slot"] for row in rows.values()]
      assert pushed.references.tolist() == [row["reference"] for row in rows.values()]
      counts = np.array([row["counts"] for row in rows.values()])
      np.testing.assert_allclose(pushed.counts, counts, rtol=1e-6)
      if any(frozen):
        step_shows = [row["step_show"] for row in rows.values()]
        np.testing.assert_allclose(pushed.step_show, step_shows, rtol=1e-6)
        assert np.isnan(step_shows).any() and np.isnan(step_shows).all() == all(frozen)
      else:
        assert pushed.step_show is None
      gradients = np.array([row["gradient"] for row in rows.values()]) * np.float32(0.5)
      np.testing.assert_array_equal(pushed.gradients, gradients)


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
  messages = [pull(server, k, 9, references, wire_dtype) for server, k in zip(servers, keys)]
  rows = native.ops.tfps_read_pulled(messages=messages, row_width=9)
  pulled = [native.ops.tfps_pull(table=s, keys=k, row_width=9) for s, k in zip(servers, keys)]
  expected = tf.cast(tf.cast(tf.concat(pulled, axis=0), wire_dtype), tf.float32)
  np.testing.assert_array_equal(rows, expected)
  assert np.mean(expected != 0) > 0.2
  for message, part in zip(messages, pulled):
    assert (read_pulled(message.numpy()).references is not None) == references
    assert len(message) <= 24 + len(part) * (4 * references + 9 * wire_dtype.size) + 12


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
    (dict(frozen=[False, True]), "frozen must have one element per lookup, 1"),
    (dict(click=[0.0]), "show and click must have one element per example"),
    (dict(step=int64s(0, 0)), "step must be|must be 3"),
    (dict(scale=[1.0]), "scale must have rank 0|must be rank 0"),
    (dict(num_servers=2), "one tensor for each lookup and server, 1 . 2, not 1"),
  ],
)
def test_make_push_names_what_is_wrong(changed, message):
  with pytest.raises(InvalidArgument, match=message):
    good_push(**changed)


def test_pulled_messages_are_checked():
  handle = table()
  message = pull(handle, int64s(1, 2))
  for bad, words in [
    (message[:-1], "cut off"),
    (good_push()[1][0], "does not begin as one does"),
    (pull(handle, int64s(1), row_width=5), "row_width must be that of the pull, 5, not 9"),
  ]:
    with pytest.raises(InvalidArgument, match=words):
      native.ops.tfps_read_pulled(messages=[message, bad], row_width=9)
  with pytest.raises(InvalidArgument, match="row_width must be from 2 to 9"):
    pull(handle, int64s(1), row_width=10)
