"""The simulated click stream: pure in (seed, day, example), long tails, births and deaths."""

import hashlib
import itertools

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

import tfps.data

EXAMPLES = 1_000


def read(source, begin, end, day=0):
  """(x, y) of a range of a day, as NumPy; multi-valued slots too."""
  ticket = tfps.data.Ticket(day, 0, 0, f"day-{day}", begin, end, end - begin)
  batches = list(source.open(ticket))
  assert [len(y) for _, y in batches[:-1]] == [source.batch_size] * (len(batches) - 1)
  return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches)


@pytest.fixture(scope="module")
def week():
  """Per day: ({slot: raw values}, probabilities, clicks)."""
  source = tfps.data.ClickStream(seed=3)
  days = []
  for day in range(7):
    values, probability, draw = source._simulate(
      tf.constant(day, tf.int64), tf.range(40_000, dtype=tf.int64)
    )
    values = {slot: value.numpy() for slot, value in values.items()}
    days.append((values, probability.numpy(), (draw < probability).numpy()))
  return days


def test_calendar_and_spec():
  source = tfps.data.ClickStream(
    days=3, examples_per_day=EXAMPLES, batch_size=64, batches_per_ticket=4
  )
  assert source.days() == [tfps.data.Day(day, f"day-{day}", EXAMPLES) for day in range(3)]
  tickets = list(source.tickets())
  assert [ticket.records for ticket in tickets] == [256, 256, 256, 232] * 3
  assert [ticket.sequence for ticket in tickets] == list(range(12))
  x, y = source.element_spec
  assert tuple(x) == source.slots
  assert x["tags"].shape.as_list() == [None, 5] and x["user_id"].shape.as_list() == [None]
  assert y == tf.TensorSpec([None, 1], tf.float32)
  assert {spec.dtype for spec in x.values()} == {tf.int64}


@hypothesis.settings(deadline=None, max_examples=15)
@hypothesis.given(
  cuts=st.sets(st.integers(1, EXAMPLES - 1), max_size=4), batch_size=st.integers(20, 400)
)
def test_a_range_is_the_same_however_it_is_cut(cuts, batch_size):
  whole = read(
    tfps.data.ClickStream(examples_per_day=EXAMPLES, batch_size=EXAMPLES, seed=5),
    0,
    EXAMPLES,
    day=2,
  )
  source = tfps.data.ClickStream(examples_per_day=EXAMPLES, batch_size=batch_size, seed=5)
  bounds = [0, *sorted(cuts), EXAMPLES]
  parts = [read(source, begin, end, day=2) for begin, end in itertools.pairwise(bounds)]
  joined = tf.nest.map_structure(lambda *part: np.concatenate(part), *parts)
  tf.nest.map_structure(np.testing.assert_array_equal, joined, whole)


def test_seed_and_day_change_everything():
  def users(seed, day):
    return read(tfps.data.ClickStream(examples_per_day=EXAMPLES, seed=seed), 0, EXAMPLES, day)[0][
      "user_id"
    ]

  assert (users(1, 0) == users(1, 0)).all()
  assert (users(1, 0) != users(2, 0)).mean() > 0.9
  assert (users(1, 0) != users(1, 1)).mean() > 0.9


def test_known_values():
  """The stream is part of the published figures: it may not change unnoticed."""
  values, probability, _ = tfps.data.ClickStream(seed=1)._simulate(
    tf.constant(2, tf.int64), tf.constant([0, 1, 39_999], tf.int64)
  )
  assert {slot: value.numpy().tolist() for slot, value in values.items()} == KNOWN_VALUES
  np.testing.assert_allclose(probability, KNOWN_PROBABILITIES, rtol=1e-4)


def digest(source):
  """Of every batch of the source, in order."""
  sha256 = hashlib.sha256()
  for ticket in source.tickets():
    for x, y in source.open(ticket):
      for values in (*x.values(), y):
        sha256.update(values.numpy().tobytes())
  return sha256.hexdigest()[:16]


@pytest.mark.parametrize(
  "shuffle, known", [(False, "da51c5fe2b2fab61"), (True, "b79327b68ed2ebb3")]
)
def test_the_same_examples_on_every_version(shuffle, known):
  """Of TensorFlow, NumPy and Python; seed 0 is quickstart's."""
  source = tfps.data.ClickStream(days=2, examples_per_day=40_000, shuffle=shuffle)
  assert digest(source) == known


def test_shuffle():
  def labels(**kwargs):
    source = tfps.data.ClickStream(
      days=1, examples_per_day=EXAMPLES, batch_size=50, batches_per_ticket=4, **kwargs
    )
    return lambda epoch: [
      tuple(x["user_id"].numpy())
      for ticket in source.with_epoch(epoch).tickets()
      for x, _ in source.open(ticket)
    ]

  plain, shuffled = labels(), labels(shuffle=True)
  assert shuffled(0) == shuffled(0) != plain(0) == plain(1)
  assert shuffled(0) != shuffled(1)
  assert sorted(sum(shuffled(1), ())) == sorted(sum(plain(0), ()))


def test_long_tails(week):
  values = [values for values, _, _ in week]
  for slot, top_1_percent in (("user_id", 0.08), ("item_id", 0.25)):
    counts = np.sort(np.unique(np.concatenate([v[slot] for v in values]), return_counts=True)[1])[
      ::-1
    ]
    assert counts[: len(counts) // 100].sum() / counts.sum() > top_1_percent
    assert counts[0] / counts.sum() < 0.05
    assert np.median(counts) < 0.7 * counts.mean()


def test_ids_appear_and_die(week):
  values = [values for values, _, _ in week]
  for slot, share in (("user_id", 0.1), ("item_id", 0.05)):
    seen = set(values[0][slot])
    for today in values[1:]:
      new = set(today[slot]) - seen
      assert len(new) > share * len(set(today[slot]))
      seen |= new
    assert len(set(values[0][slot]) - set(values[6][slot])) > 0.2 * len(set(values[0][slot]))
  # Popularity fades: those born on day 1 are fewer views on day 6 than on day 1.
  born = set(values[1]["item_id"]) - set(values[0]["item_id"])
  views = [np.isin(v["item_id"], list(born)).sum() for v in values]
  assert views[0] == 0 and views[1] > 2 * views[6] > 0


def test_slots_hold_what_they_say(week):
  for values, _, _ in week:
    tags = values["tags"]
    held = tags > 0
    assert (held.sum(1) >= 1).all() and (held.sum(1).max(), tags.max()) == (5, 31)
    assert (np.sort(held, 1)[:, ::-1] == held).all(), "padding comes last"
    assert all(len(set(row[row > 0])) == (row > 0).sum() for row in tags[:2_000])
    assert (np.diff(values["hour"]) >= 0).all() and set(values["hour"]) == set(range(24))
    assert set(values["device"]) == {1, 2, 3, 4}
    # Attributes belong to their ids.
    for key, attribute in (("item_id", "category"), ("user_id", "city")):
      pairs = set(zip(values[key].tolist(), values[attribute].tolist()))
      assert len(pairs) == len({key for key, _ in pairs})


def auc(scores, clicks):
  order = np.argsort(scores, kind="stable")
  ranks = np.empty(len(scores))
  ranks[order] = np.arange(len(scores))
  count = clicks.sum()
  return (ranks[clicks].sum() - count * (count - 1) / 2) / count / (len(scores) - count)


def test_clicks(week):
  probability = np.concatenate([p for _, p, _ in week])
  clicks = np.concatenate([c for _, _, c in week])
  assert 0.10 < clicks.mean() < 0.25
  assert abs(clicks.mean() - probability.mean()) < 0.003
  assert 0.79 < auc(probability, clicks) < 0.84
  for _, p, _ in week:
    assert 0.10 < p.mean() < 0.25


def test_rates_of_six_days_predict_the_seventh(week):
  """What an id's clicks were tells what they will be, so an embedding has something to learn."""
  past, (today, _, clicks) = week[:6], week[6]
  score = 0
  for slot in ("user_id", "item_id", "category"):
    ids = np.concatenate([values[slot] for values, _, _ in past])
    past_clicks = np.concatenate([c for _, _, c in past])
    found, inverse = np.unique(np.concatenate([ids, today[slot]]), return_inverse=True)
    shown, clicked = (
      np.bincount(inverse[: len(ids)], w, len(found)) for w in (np.ones(len(ids)), past_clicks)
    )
    rate = (clicked + 5 * past_clicks.mean()) / (shown + 5)
    score = score + np.log(rate / (1 - rate))[inverse[len(ids) :]]
  assert auc(score, clicks) > 0.65


@pytest.mark.parametrize("name", ["days", "examples_per_day"])
def test_bad_arguments(name):
  with pytest.raises(ValueError, match=f"{name} is 0; it must be a whole number, at least 1"):
    tfps.data.ClickStream(**{name: 0})


KNOWN_VALUES = {
  "user_id": [27000, 295000, 2560002],
  "item_id": [5402, 6605, 6007],
  "category": [1, 24, 18],
  "tags": [[1, 21, 0, 0, 0], [1, 0, 0, 0, 0], [8, 17, 26, 0, 0]],
  "hour": [0, 0, 23],
  "device": [3, 3, 1],
  "city": [2, 1, 14],
}
KNOWN_PROBABILITIES = [0.089786, 0.066147, 0.563338]
