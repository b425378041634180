"""Sampled negatives: what is added to batches, and that it adds nothing to loss and counts."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.data.ticket import Ticket

ITEMS = {"item": np.arange(101, 108), "tags": np.array([[9, 9, 8]] * 7)}


def parse(lines):
  fields = tf.strings.to_number(tf.strings.split(lines, ",").to_tensor(), tf.int64)
  user, item, click = tf.unstack(fields, num=3, axis=1)
  x = {"user": user, "item": item, "tags": tf.stack([item, user], axis=1)}
  return x, tf.cast(click, tf.float32)[:, tf.newaxis]


@pytest.fixture(name="path", scope="module")
def _path(tmp_path_factory):
  path = tmp_path_factory.mktemp("negatives") / "day.csv"
  rng = np.random.default_rng(0)
  rows = zip(rng.integers(1, 5, 50), rng.integers(101, 108, 50), rng.integers(0, 2, 50))
  path.write_text("".join(f"{user},{item},{click}\n" for user, item, click in rows))
  return path


def source_of(path, **settings):
  return tfps.data.source(str(path), parse, batch_size=8, batches_per_ticket=2, **settings)


def batches_of(source):
  return [
    tf.nest.map_structure(np.asarray, batch) for ticket in source.tickets()
    for batch in source.open(ticket)
  ]  # fmt: skip


def test_each_batch_ends_with_items_that_count_nothing(path):
  plain = source_of(path)
  source = plain.with_negatives(ITEMS, 5)
  found, expected = batches_of(source), batches_of(plain)
  assert len(found) == len(expected) == 7  # The last one is smaller.
  drawn = []
  for (x, y, weight), (plain_x, plain_y) in zip(found, expected):
    rows = len(plain_y)
    np.testing.assert_array_equal(y[:rows], plain_y)
    np.testing.assert_array_equal(weight, [1.0] * rows + [0.0] * 5)
    assert not y[rows:].any() and not x["user"][rows:].any()
    np.testing.assert_array_equal(x["user"][:rows], plain_x["user"])
    np.testing.assert_array_equal(x["item"][:rows], plain_x["item"])
    # Tags are as wide as the items'.
    np.testing.assert_array_equal(x["tags"][:rows], np.pad(plain_x["tags"], [(0, 0), (0, 1)]))
    np.testing.assert_array_equal(x["tags"][rows:], [[9, 9, 8]] * 5)
    drawn.append(x["item"][rows:].tolist())
  assert set(np.concatenate(drawn)) == set(range(101, 108))
  assert len(set(map(tuple, drawn))) == 7
  # A ticket that runs again is the same data; another seed is other data.
  assert [x["item"].tolist() for x, *_ in batches_of(source)] == [
    x["item"].tolist() for x, *_ in found
  ]
  other = batches_of(plain.with_negatives(ITEMS, 5, seed=1))
  assert [x["item"].tolist() for x, *_ in other] != [x["item"].tolist() for x, *_ in found]
  assert len(plain.element_spec) == 2 and len(source.element_spec) == 3


def test_bad_records_are_counted_and_found(path, tmp_path):
  lines = path.read_text().splitlines(keepends=True)
  lines[20] = "no number,101,1\n"
  (tmp_path / "bad.csv").write_text("".join(lines))
  source = source_of(tmp_path / "bad.csv", on_bad_record="skip").with_negatives(ITEMS, 5)
  found = []
  for ticket in source.tickets():
    reading = source.reading(ticket)
    examples = sum(len(y) for _, y, _ in reading.batches)
    found.append(
      (examples, int(tf.reduce_sum(reading.skipped(tf.constant(examples, tf.int64)).counts)))
    )
  assert found == [(26, 0), (25, 1), (26, 0), (7, 0)]
  ticket = Ticket(0, 0, 0, str(path), 0, 100, 16)
  good = source_of(path).with_negatives(ITEMS, 5)
  places = [good.place_of_example(ticket, example) for example in (7, 13, 8)]
  expected = [source_of(path).place_of(ticket, number) for number in (7, 8, -1)]
  assert places == expected


def test_two_towers_train_on_them(path):
  accessor = tfps.CtrAccessor(create_threshold=0)
  table = tfps.FeasignTable("negatives", mf_dim=4, accessor=accessor, mf_init_range=0.1)
  model = tfps.models.TwoTower(table, ["user"], ["item", "tags"], item_id="item", dim=4)
  model.compile(keras.optimizers.Adam(0.01))
  source = source_of(path).with_negatives({**ITEMS, "item": ITEMS["item"] + 100}, 5)
  model.fit(source, verbose=0)
  # A user, an item and two tags in each of 50 examples.
  assert table.statistics()["show"] == 4 * 50
  # Items that are negatives only have rows that learn, and no shows.
  rows = table.lookup(ITEMS["item"] + 100)
  assert rows["found"].all() and not rows["statistics"][:, 0].any()


@pytest.mark.parametrize(
  "items, count, words",
  [
    ({"item": [1, 2], "tags": [[1]]}, 5, "give each feature one for every item"),
    ({"item": []}, 5, "give each feature one for every item"),
    ({"item": [1]}, 0, "count is 0; it must be a whole number, at least 1"),
    ({"items": [1]}, 5, "items has 'items', which is none of x's features user, item, tags"),
    ({"item": [[1]]}, 5, "items' 'item' has 2 dimensions"),
  ],
)
def test_what_does_not_fit_is_refused(path, items, count, words):
  with pytest.raises(ValueError, match=words):
    source_of(path).with_negatives(items, count).element_spec
