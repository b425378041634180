"""Filling new tables: warm start from checkpoints, imports from NumPy and from TFRA's files."""

import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tfps
from tfps import migration, placement
from tfps.checkpoint import CheckpointError, CheckpointManager
from tfps.cli import config as config_lib
from tfps.cluster.tf_config import ConfigError
from tfps.migration import vectors
from tfps.training import run as training

from models.deepfm import DeepFM
from tests import reference
from tests.checkpoints import keys_of, make_table

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEYS = np.arange(1, 301) * 104729 * 7919
OPTIMIZERS = {"adagrad": tfps.Adagrad, "std_adagrad": tfps.StdAdagrad, "adam": tfps.Adam,
              "ftrl": tfps.FTRL, "sgd": tfps.SGD}  # fmt: skip
SLOTS = ("user", "item", "city")
ACCESSOR = dict(create_threshold=1.0, delete_threshold=0.2)


def pair(mf="adam", lr="adagrad", mf_dim=3, accessor=(), **arguments):
  """(a table, the NumPy reference of the same settings)."""
  accessor = {**ACCESSOR, **dict(accessor)}
  table = make_table(
    mf_dim=mf_dim,
    accessor=tfps.CtrAccessor(**accessor),
    optimizer=OPTIMIZERS[mf](learning_rate=0.05),
    lr_optimizer=OPTIMIZERS[lr](learning_rate=0.05),
    **arguments,
  )
  judge = reference.ReferenceTable(
    mf_dim=mf_dim, accessor=reference.Accessor(**accessor), mf_init_range=0.5,
    lr=reference.Optimizer(lr), mf=reference.Optimizer(mf),
  )  # fmt: skip
  return table, judge


def push(table, judge, seed, keys=KEYS):
  """Pushes the same to both; a key's slot is the number key % 3 + 1."""
  rng = np.random.default_rng(seed)
  keys = np.sort(rng.choice(keys, 200, replace=False))
  show = rng.integers(1, 4, 200).astype(np.float32)
  click = rng.binomial(show.astype(int), 0.3).astype(np.float32)
  gradients = rng.normal(size=[200, table.row_width]).astype(np.float32)
  columns = (keys, (keys % 3 + 1).astype(np.int32), show, click, gradients)
  server = table.assignment[placement.virtual_shards(keys, table.num_shards)]
  table.push([[column[server == i] for column in columns] for i in range(table.num_servers)])
  judge.push(*columns)


def assert_is(table, judge):
  """The table holds the rows of the reference."""
  keys = np.array(judge.keys(), np.int64)
  np.testing.assert_array_equal(keys_of(table), keys)
  found = table.lookup(keys)
  rows = [judge.row(key) for key in keys]
  expected = {
    "slot": [row.slot for row in rows],
    "statistics": [(row.show, row.click, row.delta_score) for row in rows],
    "unseen_days": [row.unseen_days for row in rows],
    "admitted": [row.mf is not None for row in rows],
    "served": [row.served for row in rows],
    "lr_w": [row.lr[0][0] for row in rows],
    "lr_state": [row.lr[1] for row in rows],
    "mf_w": [row.mf[0] if row.mf else np.zeros(judge.mf_dim) for row in rows],
  }
  zeros = np.zeros(judge.policy.mf.state_size(judge.mf_dim))
  expected["mf_state"] = [row.mf[1] if row.mf else zeros for row in rows]
  for name, values in expected.items():
    np.testing.assert_allclose(found[name], values, rtol=2e-5, atol=1e-7, err_msg=name)


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
    assert found["found"].all() and 0 < sum(row.mf is not None for row in rows.values())
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


# NumPy.


def vectors_of(count, width, seed=0):
  return np.random.default_rng(seed).normal(size=[count, width]).astype(np.float32)


def expect(judge, slot, keys, values, show, click=0.0):
  """The rows of an import by the letter of the docs."""
  dim = judge.mf_dim
  for i, (key, value) in enumerate(zip(keys, values)):
    shows, clicks = (float(np.broadcast_to(part, len(keys))[i]) for part in (show, click))
    lr_w = value[:1] if len(value) > dim else np.zeros(1, np.float32)
    judge.rows[int(key)] = reference.Row(
      slot, (lr_w, judge.policy.lr.initial_state(1)),
      (value[-dim:], judge.policy.mf.initial_state(dim)),
      shows, clicks, judge.policy.accessor.score(shows, clicks),
    )  # fmt: skip


@pytest.fixture(name="small_chunks")
def _small_chunks(monkeypatch):
  monkeypatch.setattr("tfps.migration.from_numpy.CHUNK_ROWS", 7)


@pytest.mark.parametrize("kind", ["dict", "npz", "npy"])
@pytest.mark.parametrize(
  "raw",
  [np.arange(30), np.arange(30).astype(np.uint64) + 2**63, np.array([f"u{i}" for i in range(30)])],
  ids=["int64", "uint64", "text"],
)
def test_values_of_a_slot_and_their_vectors(small_chunks, tmp_path, kind, raw):
  table, judge = pair(num_servers=2, lr="adam")
  table.slot_id("other")
  columns = {"keys": raw, "values": vectors_of(30, 3)}
  if kind == "npy":
    source = {name: tmp_path / f"{name}.npy" for name in columns}
    for name, array in columns.items():
      np.save(source[name], array)
  elif kind == "npz":
    source = tmp_path / "vectors.npz"
    np.savez_compressed(source, more=np.zeros(3), **columns)
  else:
    source = columns
  imported = migration.import_numpy(table, "user", source)
  assert imported == vectors.Imported(rows=30, admitted=30)
  assert str(imported) == "30 rows, 30 admitted"
  expect(judge, 2, tfps.feasign("user", raw).numpy(), columns["values"], show=10.0)
  assert_is(table, judge)
  for each in (table, judge):
    each.end_of_day(0)
  assert_is(table, judge)
  keys = tfps.feasign("user", raw).numpy()
  push(table, judge, seed=3, keys=np.concatenate([KEYS, keys]))
  assert_is(table, judge)


def test_feasigns_with_counts_and_lr(small_chunks):
  table, judge = pair(mf="ftrl")
  rng = np.random.default_rng(1)
  keys = rng.permutation(KEYS)[:40]
  show, click = rng.integers(5, 9, 40), rng.integers(0, 5, 40)
  values = vectors_of(40, 4)
  columns = dict(keys=keys.astype(np.uint64), values=values.astype(np.float64), show=show)
  columns["click"] = click.astype(np.float32)
  migration.import_numpy(table, "user", columns, feasigns=True)
  expect(judge, 1, keys, values, show, click)
  assert_is(table, judge)


def test_what_no_row_can_have_is_dropped_and_counted(small_chunks):
  table, judge = pair(num_servers=3)
  push(table, judge, seed=1)
  there = np.array(judge.keys())[:3]
  reserved = np.array([0, -(2**63), -(2**63) + 1])
  new = np.arange(10, 30)
  keys = np.concatenate([new, there, reserved, new[:1], new[5:8], [31, 32, 33]])
  values = vectors_of(len(keys), 3)
  values[-3, 1] = np.nan
  show = np.full(len(keys), 20.0)
  show[-2] = np.inf
  columns = dict(keys=keys, values=values, show=show)
  imported = migration.import_numpy(table, "user", columns, feasigns=True)
  assert imported == vectors.Imported(rows=21, admitted=21, reserved=3, repeated=7, nonfinite=2)
  assert str(imported).endswith("dropped: 3 reserved, 7 repeated, 2 nonfinite")
  kept = np.r_[0:20, len(keys) - 1]
  expect(judge, 1, keys[kept], values[kept], 20.0)
  assert_is(table, judge)


@pytest.mark.parametrize(
  "accessor",
  [
    {},
    dict(create_threshold=0.7, nonclk_coeff=0.3),
    dict(create_threshold=0.0),
    dict(create_threshold=5.0, nonclk_coeff=0.0, clk_coeff=0.7),
  ],
)
def test_imported_rows_outlast_the_next_days_end(accessor):
  table, judge = pair(accessor=accessor)
  migration.import_numpy(table, "user", {"keys": KEYS, "values": vectors_of(300, 3)})
  show, click = table.lookup(tfps.feasign("user", KEYS))["statistics"][0, :2]
  assert judge.policy.accessor.score(show, click) >= judge.policy.accessor.create_threshold
  assert table.end_of_day(0) == 0
  assert table.statistics()["rows"] == 300


def test_wrong_sources_are_named(small_chunks, tmp_path):
  table, _ = pair()
  good = {"keys": np.arange(10), "values": vectors_of(10, 3)}
  paths = {name: tmp_path / f"{name}.npy" for name in good}
  for name, array in good.items():
    np.save(paths[name], array)
  whole = paths["values"].read_bytes()
  (tmp_path / "short.npy").write_bytes(whole[:-4])
  (tmp_path / "head.npy").write_bytes(whole[:20])
  np.save(tmp_path / "columns.npy", np.asfortranarray(good["values"]))
  np.savez(tmp_path / "good.npz", **good)
  np.savez(tmp_path / "other.npz", key=good["keys"], values=good["values"])
  archive = (tmp_path / "good.npz").read_bytes()
  (tmp_path / "short.npz").write_bytes(archive[: len(archive) // 2])
  flipped = bytearray(archive)
  flipped[archive.index(good["values"].tobytes()) + 5] ^= 1
  (tmp_path / "flipped.npz").write_bytes(bytes(flipped))

  def wrong(source, error=ValueError, **arguments):
    with pytest.raises(error) as raised:
      migration.import_numpy(table, "user", source, **arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)

  assert "short.npy is truncated" in wrong({**good, "values": tmp_path / "short.npy"})
  assert "head.npy is no file in NumPy's" in wrong({**good, "values": tmp_path / "head.npy"})
  assert "column after column" in wrong({**good, "values": tmp_path / "columns.npy"})
  assert "short.npz is no .npz file" in wrong(tmp_path / "short.npz")
  assert "no 'keys'; it has values" in wrong(tmp_path / "other.npz")
  assert "There is no file" in wrong(tmp_path / "none.npz", FileNotFoundError)
  assert "'vals' is none of keys" in wrong({"vals": 1})
  message = wrong({**good, "values": vectors_of(10, 8)})
  assert "a value has 8 floats, but slot 'user' of table 'ctr' has mf_dim 3: give 3" in message
  assert "has the shape (9, 3) beside keys of (10,)" in wrong({**good, "values": vectors_of(9, 3)})
  assert "comes without show" in wrong({**good, "click": np.zeros(10)})
  text = {"keys": np.array(["a"]), "values": vectors_of(1, 3)}
  assert "feasigns are integers" in wrong(text, feasigns=True)
  assert "neither numbers nor text" in wrong({**good, "values": np.zeros([10, 3], complex)})
  assert "flipped.npz was changed: the checksum of values.npy" in wrong(tmp_path / "flipped.npz")
  assert table.statistics()["rows"] == 0


# TFRA.


@pytest.fixture(name="tfra", scope="module")
def _tfra(tmp_path_factory):
  """(folder of what TFRA saved, {name: (keys, what TFRA returns for them)})."""
  folder = tmp_path_factory.mktemp("tfra")
  done = subprocess.run(
    [sys.executable, "-m", "tests.tfra_tables", str(folder)], cwd=ROOT,
    env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True, text=True, timeout=200,
    check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
  with np.load(folder / "tables.npz") as saved:
    names = {name.split(".")[0] for name in saved.files}
    return folder, {name: (saved[f"{name}.keys"], saved[f"{name}.values"]) for name in names}


@pytest.mark.parametrize(
  "path, variable, name",
  [
    ("checkpoint/model", "users", "users"),
    ("checkpoint/model", "my/items", "items"),
    ("files", "my_items", "items"),
    ("files/users", None, "users"),
    ("single/table", None, "items"),
    ("single", None, "items"),
    ("weights/model", None, "weights"),
    ("saved_model", None, "saved_model"),
  ],
)
def test_what_tfra_saved(tfra, path, variable, name):
  folder, tables = tfra
  table, judge = pair(mf_dim=4, num_servers=2)
  imported = migration.import_tfra(table, "id", folder / path, variable)
  keys, values = tables[name]
  assert imported.rows == len(keys) >= 50 and np.abs(values).max() > 0
  expect(judge, 1, tfps.feasign("id", keys).numpy(), values, 10.0)
  assert_is(table, judge)


def test_tfras_keys_as_feasigns_and_its_first_float_as_lr(tfra):
  folder, tables = tfra
  table, judge = pair(mf_dim=3)
  migration.import_tfra(table, "id", folder / "files/users", dim=4, feasigns=True)
  expect(judge, 1, *tables["users"], 10.0)
  assert_is(table, judge)


def test_wrong_tables_of_tfra_are_named(tfra, tmp_path):
  folder, _ = tfra
  table, _ = pair(mf_dim=4)
  other, _ = pair(mf_dim=3)
  files = tmp_path / "files"
  shutil.copytree(folder / "files", files)

  def wrong(path, variable=None, error=ValueError, table=table, **arguments):
    with pytest.raises(error) as raised:
      migration.import_tfra(table, "id", path, variable, **arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)

  assert "several variables; name one of my_items, users" in wrong(files)
  assert "no variable 'user'" in wrong(files, "user")
  assert "has the dim 4, not 3" in wrong(folder / "checkpoint/model", "users", table=other)
  assert "4 floats, but" in wrong(files, "users", table=make_table(mf_dim=8), dim=4)
  assert "3 float32 each take" in wrong(files, "users", table=other)
  assert "There is neither a" in wrong(tmp_path / "none", error=FileNotFoundError)
  assert "There is neither a" in wrong(tmp_path, error=FileNotFoundError)
  values = files / "users_mht_2of2_rank0_size1-values"
  whole = values.read_bytes()
  values.write_bytes(whole[:-16])
  assert "users_mht_2of2_rank0_size1-values has" in wrong(files, "users")
  values.unlink()
  assert "There is no file" in wrong(files, "users", error=FileNotFoundError)
  values.write_bytes(whole)
  keys = files / "users_mht_2of2_rank0_size1-keys"
  keys.write_bytes(keys.read_bytes()[:-3])
  assert "-keys is truncated" in wrong(files, "users")
  keys.unlink()
  assert "has 2 tables, but only 1 are there: users_mht_1of2" in wrong(files, "users")
  assert table.statistics()["rows"] == other.statistics()["rows"] == 0


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
