"""Hooks around eviction, and the table's statistics in TensorBoard."""

import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tfps
from models.deepfm import DeepFM
from tests import reference
from tests.checkpoints import make_table
from tests.patience import PATIENCE
from tfps.cli import config as cli_config
from tfps.job import train as run

ROOT = pathlib.Path(__file__).resolve().parent.parent
ACCESSOR = dict(
  nonclk_coeff=0.125, create_threshold=1.0, delete_threshold=0.25, delete_after_unseen_days=2,
  decay_rate=0.75)  # fmt: skip
SLOTS = ("user", "item", "tags")


class Tables:
  """A table on some servers, all in this process, and the reference."""

  def __init__(self, servers, num_shards=16):
    accessor = tfps.CtrAccessor(**ACCESSOR)
    self.table = make_table(
      servers, "test", mf_dim=2, num_shards=num_shards, accessor=accessor, optimizer=None
    )
    self.slots = [self.table.slot_id(slot) for slot in SLOTS]
    self.reference = reference.ReferenceTable(mf_dim=2, accessor=reference.Accessor(**ACCESSOR))

  def push(self, keys, show, to_reference=True):
    keys = np.asarray(keys, np.int64)
    slots = (keys % len(SLOTS) + 1).astype(np.int32)
    click, gradients = np.zeros(len(keys), np.float32), np.zeros([len(keys), 3], np.float32)
    columns = (keys, slots, np.float32(show), click, gradients)
    shards = [reference.virtual_shard(int(key), self.table.num_shards) for key in keys]
    server = self.table.assignment[shards]
    servers = range(self.table.num_servers)
    self.table.push([[column[server == s] for column in columns] for s in servers])
    if to_reference:
      self.reference.push(*columns)

  def push_random(self, rng, n=300, keys=1000):
    self.push(rng.choice(np.arange(1, keys + 1), n, replace=False), rng.integers(1, 5, n))

  def expected(self):
    """{key: (slot, show, click, delta_score, unseen_days)} of what the reference would evict."""
    rows = {}
    for key in self.reference.evictable():
      row = self.reference.row(key)
      rows[key] = (row.slot, row.show, row.click, row.delta_score, row.unseen_days)
    return rows

  def check(self, keys):
    found = self.table.lookup(keys)
    rows = [self.reference.row(key) for key in keys]
    assert found["found"].tolist() == [row is not None for row in rows]
    for i, row in enumerate(rows):
      if row is not None:
        expected = [row.show, row.click, row.delta_score]
        np.testing.assert_allclose(found["statistics"][i], expected, rtol=1e-12, atol=1e-12)
        assert found["unseen_days"][i] == row.unseen_days


class Seen:
  """A hook that keeps what it is given."""

  def __init__(self):
    self.chunks = []

  def __call__(self, rows):
    self.chunks.append(rows)

  def rows(self):
    """As Tables.expected; each key may come only once."""
    rows = {}
    for chunk in self.chunks:
      columns = [chunk.slots, *chunk.statistics.T, chunk.unseen_days]
      for key, *row in zip(chunk.keys.tolist(), *(column.tolist() for column in columns)):
        assert key not in rows
        rows[key] = tuple(row)
    return rows


@pytest.mark.parametrize(
  "servers, num_shards, chunk_rows", [(1, 1, 7), (1, 16, 50), (3, 16, 50), (3, 16, 65_536)]
)
def test_hooks_see_exactly_what_the_reference_evicts(servers, num_shards, chunk_rows):
  tables = Tables(servers, num_shards)
  rng = np.random.default_rng(servers)
  evicted = 0
  for day in range(8):
    tables.push_random(rng)
    before, after = Seen(), Seen()
    there, gone = [], []
    expected = tables.expected()

    def find(rows):
      return tables.table.lookup(rows.keys)["found"]

    count = tables.table.end_of_day(
      day,
      before_eviction=[before, lambda rows: there.append(find(rows).all())],
      after_eviction=[after, lambda rows: gone.append(not find(rows).any())],
      chunk_rows=chunk_rows,
    )
    assert before.rows() == after.rows() == expected
    assert count == len(expected) == tables.reference.end_of_day(day)
    assert all(there) and all(gone)
    chunks = before.chunks + after.chunks
    assert all(0 < len(chunk.keys) <= chunk_rows for chunk in chunks)
    assert {(chunk.day, chunk.table) for chunk in chunks} <= {(day, tables.table)}
    tables.check(range(1, 1001))
    evicted += count
  assert evicted > 500
  assert tables.table.statistics()["evicted"] == evicted


@pytest.mark.parametrize("hook", ["before_eviction", "after_eviction"])
def test_one_kind_of_hook_is_enough(hook):
  tables = Tables(servers=2)
  tables.push_random(np.random.default_rng(0))
  seen, expected = Seen(), tables.expected()
  assert tables.table.end_of_day(0, **{hook: [seen]}) == tables.reference.end_of_day(0) > 0
  assert seen.rows() == expected
  tables.check(range(1, 1001))


def test_nothing_leaves_unseen_and_what_is_pushed_meanwhile_may_stay():
  tables = Tables(servers=2, num_shards=1)
  tables.push([1, 2, 3, 4], [1, 1, 1, 9])
  before, after = Seen(), Seen()

  def push(rows):
    before(rows)
    tables.push([2, 5], [5, 1], to_reference=False)  # saves 2, and 5 comes too late to be shown

  tables.table.end_of_day(0, before_eviction=[push], after_eviction=[after])
  assert sorted(before.rows()) == [1, 2, 3] and sorted(after.rows()) == [1, 3]
  found = tables.table.lookup([1, 2, 3, 4, 5])
  assert found["found"].tolist() == [False, True, False, True, True]
  assert found["statistics"][:, 0].tolist() == [0, 4.5, 0, 6.75, 0.75]  # all that stayed aged
  assert tables.table.end_of_day(1) == 1  # Now 5 leaves.


def test_hooks_see_each_row_once_while_others_push():
  tables = Tables(servers=2)
  pushed = 30_000
  done = threading.Event()

  def push():
    for first in range(1, pushed, 500):
      tables.push(range(first, first + 500), np.ones(500), to_reference=False)
    done.set()

  pusher = threading.Thread(target=push)
  pusher.start()
  before, after = Seen(), Seen()
  day = 0
  while not (last := done.is_set()) or day == 0:
    tables.table.end_of_day(day, before_eviction=[before], after_eviction=[after], chunk_rows=1000)
    day += 1
  pusher.join()
  assert last
  tables.table.end_of_day(day, before_eviction=[before], after_eviction=[after])
  assert day > 1
  assert len(before.rows()) == len(after.rows()) == pushed
  assert tables.table.statistics()["rows"] == 0


def test_a_days_end_that_a_hook_interrupts_can_be_run_again():
  tables = Tables(servers=2)
  rng = np.random.default_rng(3)
  for _ in range(3):
    tables.push_random(rng)
  seen, expected = Seen(), tables.expected()

  def fail_once(rows):
    seen(rows)
    if len(seen.chunks) == 2:
      raise RuntimeError("disk full")

  arguments = dict(after_eviction=[fail_once], chunk_rows=40)
  with pytest.raises(RuntimeError, match="disk full"):
    tables.table.end_of_day(0, **arguments)
  assert 0 < len(seen.rows()) < len(expected)
  first = len(seen.rows())
  rest = tables.table.end_of_day(0, **arguments)
  # A hook that fails is not shown again what has left, but the rest.
  assert rest == len(seen.rows()) - first > 0
  assert seen.rows().items() <= expected.items()
  assert tables.reference.end_of_day(0) == len(expected)
  tables.check(range(1, 1001))
  assert tables.table.end_of_day(0, **arguments) == 0


def test_the_dry_run_counts_what_would_leave_of_each_slot():
  tables = Tables(servers=3)
  tables.push_random(np.random.default_rng(4))
  tables.push([10**6 + 2], [1.0])
  expected = tables.expected()
  report = tables.table.evictable()
  slots = [row[0] for row in expected.values()]
  assert report == {name: slots.count(number) for name, number in tables.table.slots.items()}
  assert all(report.values()) and tables.table.evictable() == report
  tables.table.end_of_day(0)
  tables.reference.end_of_day(0)
  assert sum(tables.table.evictable().values()) == len(tables.expected())


@pytest.mark.parametrize("arguments, words", [
  (dict(before_eviction=print), "before_eviction.*list of functions"),
  (dict(after_eviction=["print"]), "after_eviction.*list of functions"),
  (dict(chunk_rows=0), "chunk_rows must be 1 or more"),
])  # fmt: skip
def test_wrong_arguments(arguments, words):
  with pytest.raises(ValueError, match=words):
    Tables(servers=1).table.end_of_day(0, **arguments)


def small_stream(days=3):
  return tfps.data.ClickStream(
    days=days, examples_per_day=600, batch_size=100, batches_per_ticket=2
  )


def make_model():
  accessor = tfps.CtrAccessor(create_threshold=1.5)
  table = tfps.FeasignTable("ctr", mf_dim=2, accessor=accessor)
  model = DeepFM(table, list(tfps.data.ClickStream.slots), hidden=[4])
  model.compile("adam", "binary_crossentropy")
  return table, model


def test_the_callback_runs_its_hooks_in_order_at_each_days_end():
  table, model = make_model()
  calls = []

  def expect_all_there(rows):
    calls.append(("before", rows.day))
    assert table.lookup(rows.keys)["found"].all()

  end_of_day = tfps.callbacks.EndOfDay(
    table,
    base_export=[
      lambda day: calls.append(("base", day.ordinal)),
      lambda day: calls.append(("more", day.ordinal)),
    ],
    before_eviction=[expect_all_there],
    after_eviction=[lambda rows: calls.append(("after", rows.day))],
  )
  model.fit(small_stream(), callbacks=[end_of_day], verbose=0)
  hooks = ("base", "more", "before", "after")
  assert calls == [(hook, day) for day in range(3) for hook in hooks]
  assert end_of_day.evicted == table.statistics()["evicted"] > 0


def test_the_callback_refuses_what_is_no_list_of_functions():
  with pytest.raises(ValueError, match="base_export must be a list of functions"):
    tfps.callbacks.EndOfDay(base_export=print)


def read_events(folder):
  """{tag: {step: value}} of the event files in a folder."""
  events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
  return {
    tag: {event.step: tf.make_ndarray(event.tensor_proto).item() for event in events.Tensors(tag)}
    for tag in events.Tags()["tensors"]
  }


class Recorded(keras.callbacks.Callback):
  """The table's statistics at each day's end."""

  def __init__(self, table):
    super().__init__()
    self.table = table
    self.statistics = []

  def on_day_end(self, day, logs=None):
    del day, logs
    self.statistics.append(self.table.statistics())


def test_summaries_are_the_statistics_at_each_days_end(tmp_path):
  table, model = make_model()
  recorded = Recorded(table)
  callbacks = [
    tfps.callbacks.EndOfDay(table),
    tfps.callbacks.TableSummaries(table, str(tmp_path)),
    recorded,
  ]
  model.fit(small_stream(), callbacks=callbacks, verbose=0)
  events = read_events(tmp_path)
  names = {"rows", "admitted", "bytes", "show", "click", "evicted", "pulled_keys", "pushed_keys"}
  assert {f"table/ctr/{name}" for name in names | {"share_admitted"}} <= set(events)
  assert len(events) == len(table.statistics()) + 3
  assert all(0 < share < 1 for share in events["server/0/memory_share"].values())
  # 600 examples a day in batches of 100.
  for name in recorded.statistics[0]:
    values = [np.float32(statistics[name]) for statistics in recorded.statistics]
    assert events[f"table/ctr/{name}"] == dict(zip([6, 12, 18], values)), name
  last = recorded.statistics[-1]
  share = events["table/ctr/share_admitted"][18]
  assert share == pytest.approx(last["admitted"] / last["rows"]) and 0 < share < 1
  assert last["evicted"] > recorded.statistics[0]["evicted"] > 0


def test_summaries_after_every_so_many_tickets(tmp_path):
  table, model = make_model()
  summaries = tfps.callbacks.TableSummaries(table, str(tmp_path), every_tickets=2)
  model.fit(small_stream(), callbacks=[summaries], verbose=0)
  # A day is 3 tickets of 2 batches: after tickets 2, 4, 6, 8, and after days, at 3, 6, 9.
  rows = read_events(tmp_path)["table/ctr/rows"]
  assert sorted(rows) == [4, 6, 8, 12, 16, 18]
  assert rows[4] < rows[18] == table.statistics()["rows"]
  model.fit(small_stream(days=1), callbacks=[summaries], verbose=0)  # the same callback again
  with pytest.raises(ValueError, match="every_tickets"):
    tfps.callbacks.TableSummaries(table, str(tmp_path), every_tickets=-1)


def test_an_empty_table_has_summaries(tmp_path):
  table, model = make_model()
  summaries = tfps.callbacks.TableSummaries(table, str(tmp_path))
  summaries.set_model(model)
  summaries.on_train_begin()
  summaries.on_day_end(None)
  summaries.on_train_end()
  assert read_events(tmp_path)["table/ctr/share_admitted"] == {0: 0.0}


def test_a_run_with_a_tensorboard_folder_writes_them(tmp_path):
  overrides = [
    "--config.data.days=2", "--config.data.examples_per_day=600", "--config.batch_size=100",
    f"--config.tensorboard={tmp_path}",
  ]  # fmt: skip
  module, config = cli_config.load(str(ROOT / "configs" / "quickstart.py"), overrides)
  base = cli_config.root(module)
  model_class = cli_config.load_attribute(config.model.file, config.model.name, base=base)
  summary = run.run(config, module.source(config), model_class)
  rows = read_events(tmp_path)[f"table/{config.table.name}/rows"]
  assert len(rows) == 2 and rows[max(rows)] == summary.table["rows"]
  assert summary.evicted == summary.table["evicted"]


# What a chunk holds comes from both parameter servers.
ON_A_CLUSTER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import numpy as np, tfps
from tests import test_callbacks
from tfps.cluster import tf_config

if str(tf_config.read()) == "ps 1":
  ballast = np.ones(16 << 20)  # By so much it holds more than the other.
strategy = tfps.strategy()
with strategy.scope():
  table, model = test_callbacks.make_model()
before, after, report = test_callbacks.Seen(), test_callbacks.Seen(), {{}}
end_of_day = tfps.callbacks.EndOfDay(
  table, base_export=[lambda day: report.update(table.evictable())], before_eviction=[before],
  after_eviction=[after], chunk_rows=100)
summaries = tfps.callbacks.TableSummaries(table, sys.argv[1], every_tickets=2)
model.fit(test_callbacks.small_stream(days=1), callbacks=[end_of_day, summaries], verbose=0)
keys = np.concatenate([rows.keys for rows in after.chunks])
assert before.rows() == after.rows() and len(keys) == end_of_day.evicted > 200
assert max(len(rows.keys) for rows in after.chunks) <= 100
assert not table.lookup(keys)["found"].any()
assert set(report) <= set(table.slots) and sum(report.values()) == len(keys), report
print("evicted", len(keys), flush=True)
"""


def test_hooks_and_summaries_on_a_cluster(tmp_path):
  script = tmp_path / "script.py"
  script.write_text(ON_A_CLUSTER)
  logs, events = tmp_path / "logs", tmp_path / "events"
  env = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
  env["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
  launch = ["launch", "--workers=1", "--ps=2", f"--log-dir={logs}", "--", script, events]
  done = subprocess.run(
    [sys.executable, "-m", "tfps", *launch],
    env=env, capture_output=True, text=True, timeout=PATIENCE, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
  evicted = int(done.stdout.split("evicted")[1])
  summaries = read_events(events)
  assert summaries["table/ctr/evicted"][6] == evicted
  shares = [summaries[f"server/{number}/memory_share"][6] for number in range(2)]
  assert 0 < shares[0] < shares[1] < 1
