"""Imports of the tables that TFRA saved."""

import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

import tfps
from tests.checkpoints import make_table
from tests.migrations import assert_is, expect, pair
from tests.patience import PATIENCE
from tfps import migration

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(name="tfra", scope="module")
def _tfra(tmp_path_factory):
  """(folder of what TFRA saved, {name: (keys, what TFRA returns for them)})."""
  folder = tmp_path_factory.mktemp("tfra")
  done = subprocess.run(
    [sys.executable, "-m", "tests.tfra_tables", str(folder)], cwd=ROOT,
    env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True, text=True,
    timeout=PATIENCE, check=False,
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
