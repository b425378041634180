"""Warm starts from other models' checkpoints, and what a run that begins is filled with."""

import pathlib
import shutil

import numpy as np
import pytest

import tfps
from models.deepfm import DeepFM
from tests import reference
from tests.checkpoints import make_table
from tests.migrations import assert_is, pair, push, vectors_of
from tfps import migration
from tfps.checkpoint import CheckpointError, CheckpointManager
from tfps.cli import config as config_lib
from tfps.errors import ConfigError
from tfps.job import train as training

ROOT = pathlib.Path(__file__).resolve().parent.parent
SLOTS = ("user", "item", "city")


def carry(judge, source, slots):
  """Warm start by the letter of the docs; `slots` is {number here: number there}."""
  numbers = {there: here for here, there in slots.items()}
  for key, row in source.rows.items():
    if row.slot not in numbers:
      continue

    def weights(pair, was, now):
      same = was.optimizer == now.optimizer
      return pair if same else (pair[0], now.initial_state(len(pair[0])))

    mf = None
    if row.mf and source.mf_dim == judge.mf_dim:
      mf = weights(row.mf, source.policy.mf, judge.policy.mf)
    judge.rows[key] = reference.Row(
      numbers[row.slot], weights(row.lr, source.policy.lr, judge.policy.lr), mf,
      row.show, row.click, row.delta_score, row.unseen_days,
    )  # fmt: skip


@pytest.fixture(name="source", scope="module")
def _source(tmp_path_factory):
  """(folder of a full checkpoint and an increment over it, the reference of what they hold)."""
  folder = tmp_path_factory.mktemp("source")
  table, judge = pair(num_servers=2)
  for slot in SLOTS:
    table.slot_id(slot)
  manager = CheckpointManager(folder, None, [table])
  push(table, judge, seed=1)
  push(table, judge, seed=2)
  for each in (table, judge):
    each.end_of_day(0)
  manager.save({})
  push(table, judge, seed=3)
  assert manager.save({}, incremental=True).endswith("checkpoint-2")
  assert_is(table, judge)
  admitted = sum(row.mf is not None for row in judge.rows.values())
  assert 50 < admitted < len(judge.rows) - 50
  assert {row.unseen_days for row in judge.rows.values()} == {0, 1}
  return str(folder), judge


@pytest.mark.parametrize(
  "settings",
  [
    dict(),
    dict(num_servers=3, num_shards=32),
    dict(mf="adagrad"),
    dict(lr="adam", mf="ftrl"),
    dict(lr="sgd", mf="std_adagrad"),
    dict(mf_dim=5),
    dict(mf_dim=2, lr="adam", accessor=dict(create_threshold=2.0)),
  ],
  ids=str,
)
def test_rows_of_slots_come_along_and_train_on(source, settings, monkeypatch):
  monkeypatch.setattr("tfps.migration.from_checkpoint.CHUNK_ROWS", 20)
  folder, there = source
  table, judge = pair(**settings)
  for slot in ("new", "item", "user"):
    table.slot_id(slot)
  push(table, judge, seed=9, keys=np.arange(1000, 1300))  # What is there stays.
  results = migration.warm_start(table, folder)
  carry(judge, there, {2: 2, 3: 1})
  assert list(results) == ["item", "user"]
  assert_is(table, judge)
  for slot, number in (("item", 2), ("user", 3)):
    rows = [row for key, row in judge.rows.items() if row.slot == number and key > 2000]
    admitted = sum(row.mf is not None for row in rows)
    assert (results[slot].rows, results[slot].admitted) == (len(rows), admitted)
  # A row whose mf vector did not fit is admitted by its next push.
  before = table.statistics()["admitted"]
  push(table, judge, seed=4)
  push(table, judge, seed=5)
  assert_is(table, judge)
  assert table.statistics()["admitted"] > before


def test_a_slot_of_another_name_from_a_named_checkpoint(source):
  folder, there = source
  table, judge = pair(name="other", num_servers=2)
  push(table, judge, seed=1)  # Rows that are there are replaced.
  results = migration.warm_start(table, f"{folder}/checkpoint-2", "ctr", {"place": "city"})
  carry(judge, there, {1: 3})
  assert list(results) == ["place"] and results["place"].rows > 50
  assert_is(table, judge)


def test_slots_with_policies_of_their_own(source, tmp_path):
  folder, there = source
  city = tfps.SlotPolicy(mf_dim=2, optimizer=tfps.Adam(), accessor=tfps.CtrAccessor())
  table = make_table(num_servers=2, optimizer=tfps.FTRL(), slot_policies={"city": city})
  migration.warm_start(table, folder, slots={"item": "item", "city": "city"})
  for slot, number in (("item", 2), ("city", 3)):
    rows = {key: row for key, row in there.rows.items() if row.slot == number}
    found = table.lookup(list(rows))
    assert found["found"].all() and sum(row.mf is not None for row in rows.values()) > 0
    # The vectors of "city", of 3 floats there, do not fit.
    admitted = [row.mf is not None and slot == "item" for row in rows.values()]
    np.testing.assert_array_equal(found["admitted"], admitted)
    np.testing.assert_allclose(
      found["lr_w"], [row.lr[0][0] for row in rows.values()], rtol=2e-5, atol=1e-7
    )
  ids, values = np.arange(50), vectors_of(50, 3)
  migration.import_numpy(table, "city", {"keys": ids, "values": values})
  found = table.lookup(tfps.feasign("city", ids))
  np.testing.assert_array_equal(found["lr_w"], values[:, 0])
  np.testing.assert_array_equal(found["mf_w"][:, :2], values[:, 1:])
  np.testing.assert_allclose(found["statistics"][:, 0], 100.0)  # by the slot's own threshold


def test_what_cannot_be_taken_is_said(source, tmp_path):
  folder, _ = source
  table, _ = pair()
  table.slot_id("gender")
  with pytest.raises(CheckpointError, match="has the slots user, item, city, of which .* none"):
    migration.warm_start(table, folder)
  with pytest.raises(CheckpointError, match="has no slot 'cty' .did you mean 'city'"):
    migration.warm_start(table, folder, slots={"place": "cty"})
  with pytest.raises(ValueError, match="slots takes 'user' for two"):
    migration.warm_start(table, folder, slots={"a": "user", "b": "user"})
  with pytest.raises(CheckpointError, match="holds no table 'ctrr'; it has ctr"):
    migration.warm_start(table, folder, "ctrr")
  with pytest.raises(CheckpointError, match="There is no checkpoint at"):
    migration.warm_start(table, tmp_path)
  damaged = tmp_path / "damaged"
  shutil.copytree(folder, damaged)
  data = next(damaged.glob("checkpoint-1/ctr/*.data*"))
  data.write_bytes(data.read_bytes()[:-1])
  with pytest.raises(CheckpointError, match="is damaged: .*checkpoint-1, .* bytes instead of"):
    migration.warm_start(table, damaged, slots={"user": "user"})
  assert table.statistics()["rows"] == 0


# tfps train.


def _config(**overrides):
  path = str(ROOT / "configs" / "quickstart.py")
  small = ["--config.data.days=1", "--config.data.examples_per_day=600", "--config.batch_size=200",
           "--config.model.args.hidden=(4,)", "--config.progressive_test=False",
           "--config.end_of_day=False"]  # fmt: skip
  more = [f"--config.{name.replace('__', '.')}={value}" for name, value in overrides.items()]
  module, config = config_lib.load(path, small + more)
  return config, module.source(config)


def test_a_run_that_begins_is_filled_and_one_that_goes_on_is_not(tmp_path, capsys):
  other, own = tmp_path / "other", tmp_path / "own"
  trained = training.run(*_config(checkpoint__folder=other), DeepFM).table
  settings = dict(checkpoint__folder=own, warm_start__checkpoint=other)

  def fill(config, table):
    # What is there already stays, and so do its shows.
    items = {"keys": np.arange(2**40, 2**40 + 10), "values": np.ones([10, config.table.mf_dim])}
    migration.import_numpy(table, "item_id", items)

  slots = '("user_id","item_id=item_id")'
  config, source = _config(**settings, warm_start__slots=slots, epochs=0)
  filled = training.run(config, source, DeepFM, fill).table
  out = capsys.readouterr().out
  assert f"Warm start from {other}: user_id: " in out and "; item_id: " in out
  assert 10 < filled["rows"] < trained["rows"] and filled["admitted"] > 10
  begun = training.run(*_config(**settings), DeepFM).table
  assert begun["rows"] == trained["rows"]
  assert begun["show"] == pytest.approx(2 * trained["show"])
  capsys.readouterr()
  resumed = training.run(*_config(**settings), DeepFM, fill).table
  assert "Warm start" not in capsys.readouterr().out
  assert (resumed["rows"], resumed["show"]) == (begun["rows"], begun["show"])
  config, source = _config(warm_start__checkpoint=other, warm_start__slots='("user",)')
  with pytest.raises(ConfigError, match="config.warm_start: .* no slot 'user' .did you mean"):
    training.run(config, source, DeepFM)
