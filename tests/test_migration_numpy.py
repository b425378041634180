"""Imports of vectors from NumPy arrays and files."""

import numpy as np
import pytest

import tfps
from tests.migrations import KEYS, assert_is, expect, pair, push, vectors_of
from tfps import migration
from tfps.migration import vectors


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
