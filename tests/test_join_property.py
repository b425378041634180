"""The join against its reference on random logs: disorder, late records, copies, gaps, restarts."""

import os
import tempfile

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.join_reference import Reference
from tfps.join import keys
from tfps.join.batches import Features, actions_of
from tfps.join.joiner import Joiner
from tfps.join.settings import Label, Settings
from tfps.join.store import Store

MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where fsync costs nothing
BEGIN = 1_700_000_000_000
CLICK = Label("click", "click", 20_000)
SOON = Label("soon", "click", 5_000)
LIKE = Label("like", "like", 60_000)
COUNTS = (
  "feature_records", "features", "duplicate_features", "late_features", "expired_features",
  "actions", "used_actions",
  "duplicate_actions", "unmatched_actions", "late_actions", "late_actions/click",
  "late_actions/like",
)  # fmt: skip


@st.composite
def settings_of_joins(draw):
  labels = [CLICK, *draw(st.lists(st.sampled_from([SOON, LIKE]), unique=True))]
  policy = draw(st.sampled_from(["wait", "early"]))
  if policy == "wait":
    how = draw(
      st.lists(st.sampled_from(["max", "min", "sum", "first", "last"]), unique=True, max_size=2)
    )
    labels += [Label(f"dwell_{name}", "dwell", 30_000, name) for name in how]
    labels += draw(st.sampled_from([[], [Label("kept", "like", 40_000, undo="unlike")]]))
  return Settings(
    labels=tuple(draw(st.permutations(labels))),
    click_label="click",
    policy=policy,
    disorder_ms=draw(st.sampled_from([0, 3_000, 20_000])),
    skew_ms=draw(st.sampled_from([0, 2_000])),
    remember_ms=draw(st.sampled_from([0, 10_000, 100_000])),
    slice_ms=draw(st.sampled_from([1_000, 7_000])),
  )


@st.composite
def steps(draw, join):
  """Batches of both logs in which times go on with some disorder, and ids repeat."""
  rng = np.random.default_rng(draw(st.integers(0, 2**32)))
  ids = draw(st.integers(1, 40))
  made, now = [], 0
  for _ in range(draw(st.integers(1, 12))):
    now += int(rng.choice([0, 1_000, 8_000, 50_000]))
    batch = [[], []]
    for log, count in enumerate(draw(st.tuples(st.integers(0, 12), st.integers(0, 12)))):
      for _ in range(count):
        time = BEGIN + max(0, now + int(rng.choice([0, -1_000, -10_000, -100_000]) * rng.random()))
        key = (f"r{rng.integers(ids)}", f"i{rng.integers(2)}")
        if log == 0:
          batch[0].append((key, time, f"{time}{rng.choice(['a', 'b'])}"))
        else:
          kind = str(rng.choice(join.actions))
          batch[1].append((key, time, kind, float(rng.integers(3)) if kind == "dwell" else 0.0))
        if rng.random() < 0.1:
          batch[log].append(batch[log][-1])
        if log == 0 and rng.random() < 0.1:  # the same request again, a little earlier or later
          batch[0].append((key, time + int(rng.integers(-2, 3)), f"{time}c"))
    made.append((*batch, draw(st.booleans()), now and draw(st.integers(0, 15)) == 0))
  return made


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_as_the_reference(data):
  join = data.draw(settings_of_joins())
  reference = Reference(join)
  with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
    store = Store(folder)
    joiner = Joiner(join, store)
    for features, actions, restart, close in data.draw(steps(join)):
      if restart:
        interrupted(joiner, store, features, actions)
        store = Store(folder)
        joiner = Joiner(join, store)
      expected = reference.step(features, actions, close)
      assert sorted(run(joiner, store, features, actions, close)) == sorted(expected)
      assert {name: joiner.counts[name] for name in COUNTS} == {
        name: reference.counts[name] for name in COUNTS
      }
      assert joiner.watermark == reference.watermark
    assert accounted_for(joiner.counts, len(reference.unmatched))
    store.close()


def interrupted(joiner, store, features, actions):
  """A step that does not come to its commit."""
  store.begin()
  list(joiner.step(columns(features), action_columns(joiner, actions)))
  joiner.save()
  store.close()


def run(joiner, store, features, actions, close=False):
  store.begin()
  made = [
    sample
    for batch in joiner.step(columns(features), action_columns(joiner, actions), close=close)
    for sample in tuples(batch)
  ]
  joiner.save()
  store.commit()
  joiner.committed()
  return made


def accounted_for(counts, unmatched):
  """Every record became something."""
  features = counts["features"] + counts["duplicate_features"] + counts["expired_features"]
  ended = sum(
    counts[f"{what}_actions"] for what in ("used", "duplicate", "late", "unmatched", "waiting")
  )
  return features == counts["feature_records"] and ended + unmatched == counts["actions"]


def columns(features):
  payload = pa.array(
    [f"{ids[0]} {ids[1]} {payload}".encode() for ids, _, payload in features], pa.binary()
  )
  return Features(
    key_columns([ids for ids, _, _ in features]),
    np.array([time for _, time, _ in features], np.int64),
    payload,
  )


def action_columns(joiner, actions):
  kinds = joiner._settings.actions
  time, value = (np.array([action[i] for action in actions]) for i in (1, 3))
  return actions_of(
    key_columns([ids for ids, *_ in actions]),
    time,
    [kinds.index(action[2]) for action in actions],
    value,
  )


def key_columns(ids):
  return keys.of_ids(*(pa.array([pair[i] for pair in ids], pa.string()) for i in (0, 1)))


def tuples(batch):
  for i, entries in enumerate(batch.entries.to_pylist()):
    request, item, payload = entries.decode().split()
    yield (
      (request, item), payload, int(batch.label_time[i]), float(batch.show[i]),
      float(batch.click[i]),
      tuple(float(column[i]) for column in batch.labels.values()),
      tuple(float(column[i]) for column in batch.label_weights.values()),
    )  # fmt: skip


def test_a_window_closes_a_millisecond_after_its_last_moment(tmp_path):
  store = Store(tmp_path)
  joiner = Joiner(Settings((CLICK,), "click", disorder_ms=3_000, slice_ms=1_000), store)
  shown = BEGIN + 999  # the last moment of a slice
  last = shown + CLICK.wait_ms

  def pace(time):
    """A record of each log, which take the watermark to `time`."""
    key = (f"r{time}", "i0")
    return [(key, time + 3_000, "x")], [(("r", "nobody's"), time + 3_000, "click", 0.0)]

  features, actions = pace(last)
  assert run(joiner, store, [*features, (("r0", "i0"), shown, "a")], actions) == []
  assert joiner.watermark == last
  assert run(joiner, store, [], [(("r0", "i0"), last, "click", 0.0)]) == []
  ((key, *_, click, _, _),) = run(joiner, store, *pace(last + 1))
  assert key == ("r0", "i0") and click == 1 and joiner.counts["late_actions"] == 0
  store.close()
