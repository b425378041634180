"""`tfps fold`: a new base that holds what a server with those deltas holds."""

import dataclasses
import pathlib
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tests import exports
from tests.commands import fails, run
from tfps.export import delta_reader, fold, folded_rows
from tfps.export.artifact import ARTIFACTS
from tfps.export.checking.verify import verify
from tfps.export.manifests import PackedWeights
from tfps.graph.autograph import libraries_unconverted
from tfps.storage import bundles, files


def rows_of(path):
  """{name of a table: {key: row}} of a base, read with TensorFlow's own tools."""
  reader = tf.train.load_checkpoint(f"{path}/variables/variables")
  found = {}
  for name, begin in bundles.table_prefixes(str(path)).items():
    keys, rows = (reader.get_tensor(tensor) for tensor in bundles.row_tensors(begin))
    assert len(set(keys)) == len(keys)
    found[name] = {int(key): tuple(row) for key, row in zip(keys, rows)}
  return found


def apply(session, path):
  for chunk in delta_reader.delta_chunks(path, chunk_bytes=200):
    session.run(chunk, "apply_delta")


def status(session):
  found = session.run({"ask": [0]}, "delta_status")
  return {name: value[0] for name, value in found.items()}


def two_tables():
  """A compiled model of one slot that is in two tables, and these."""
  keras.utils.set_random_seed(3)
  accessor = tfps.CtrAccessor(
    create_threshold=1.0, base_update_threshold=0.5, delta_update_threshold=0.0,
    delete_threshold=0.3, decay_rate=0.4,
  )  # fmt: skip
  tables = [
    tfps.FeasignTable(name, mf_dim=dim, accessor=accessor, mf_init_range=0.5)
    for name, dim in (("first", 3), ("first_1", 5))
  ]
  inputs = {"city": keras.Input([], dtype=tf.string, name="city")}
  outputs = [tfps.Embedding(table, ["city"])(inputs) for table in tables]
  mf = keras.layers.Flatten()(tf.concat([output.mf for output in outputs], axis=2))
  logit = keras.layers.Dense(1)(mf) + outputs[0].lr_logit + outputs[1].lr_logit
  model = tfps.Model(inputs, tf.sigmoid(logit))
  model.compile("adam", "binary_crossentropy")
  return model, tables


@libraries_unconverted()
def train(model, rng):
  """Clicks of a part of the words, other ones each time."""
  words = np.arange(75)[rng.integers(40) :]
  for _ in range(2):
    cities = [f"w{i}" for i in rng.choice(words, 60)]
    clicks = rng.binomial(1, 0.3, (60, 1)).astype(np.float32)
    model.train_on_batch({"city": tf.constant(cities)}, clicks)


@pytest.fixture(scope="module", name="lineage")
def _lineage(tmp_path_factory):
  """A base, four deltas of days with evictions on top of it, and what each of them says."""
  rng = np.random.default_rng(0)
  folder = tmp_path_factory.mktemp("export")
  model, tables = two_tables()
  train(model, rng)
  exporter = tfps.export.Exporter(model, folder, exports.SMALL_RAW)
  base = exporter.base()
  deltas = []
  for day in range(4):
    train(model, rng)
    for table in tables:
      table.end_of_day(day)
    deltas.append(exporter.delta(day=day))
  raw = {"city": np.array([f"w{i}" for i in range(75)])}
  server = tfps.export.SavedModelSession(base)
  for path in deltas[:3]:
    apply(server, path)
  yield SimpleNamespace(**locals())
  server.close()


@pytest.fixture(scope="module", name="folded")
def _folded(lineage):
  """The first three deltas folded, with slices so small that there are many."""
  slice_bytes = folded_rows._SLICE_BYTES
  folded_rows._SLICE_BYTES = 200
  yield fold.fold(lineage.base, lineage.deltas[2::-1])
  folded_rows._SLICE_BYTES = slice_bytes


def test_it_holds_what_a_server_with_those_deltas_holds(lineage, folded):
  assert folded == str(lineage.folder / "base" / "2")
  held = rows_of(lineage.base)
  removed = 0
  for path in lineage.deltas[:3]:
    for name, rows in held.items():
      for keys, values, gone in folded_rows._chunks(path, name):
        removed += len(set(rows) & set(gone.tolist()))
        for key in gone.tolist():
          rows.pop(key, None)
        rows.update({int(key): tuple(row) for key, row in zip(keys, values)})
  assert removed > 5 and rows_of(folded) == held
  session = tfps.export.SavedModelSession(folded)
  assert status(session) == status(lineage.server)
  assert status(session)["sequence"] == 3 and status(session)["base"] == 1
  for _ in range(2):
    served = session.run(lineage.raw)["predictions"]
    np.testing.assert_array_equal(served, lineage.server.run(lineage.raw)["predictions"])
    # Then the next delta, on both.
    apply(session, lineage.deltas[3])
    if status(lineage.server)["sequence"] == 3:
      before = served
      apply(lineage.server, lineage.deltas[3])
  assert np.abs(served - before).max() > 1e-4 and status(session)["sequence"] == 4
  session.close()


def test_its_manifest_and_room_are_those_of_its_rows(lineage, folded, capsys):
  content, before = ARTIFACTS.read(folded), ARTIFACTS.read(lineage.base)
  assert (content.version, content.base, content.sequence, content.day) == (2, 1, 3, 2)
  assert content.lineage == before.lineage
  for name, rows in rows_of(folded).items():
    assert content.tables[name].rows == len(rows)
    assert len(rows) * 1.25 <= content.tables[name].buckets * 0.8
  assert verify(folded, load_only=True)["examples"] == 0
  with pytest.raises(tfps.export.ExportError, match="nothing was compared"):
    verify(folded)
  # What is folded can be folded again.
  output = lineage.folder / "again"
  code, out, err = run(capsys, "fold", folded, lineage.deltas[3], f"--output={output}")
  assert (code, out) == (0, f"Folded into {output}/base/1.\n"), err
  assert ARTIFACTS.read(f"{output}/base/1").sequence == 4
  at_once = fold.fold(lineage.base, lineage.deltas, str(output))
  assert rows_of(at_once) == rows_of(f"{output}/base/1")


def test_what_does_not_go_together_is_refused(lineage, folded, capsys, tmp_path):
  base, deltas = lineage.base, lineage.deltas
  assert "delta 1 is the next" in fails(capsys, "fold", base, deltas[1])
  assert "delta 2 is the next" in fails(capsys, "fold", base, deltas[0], deltas[2])
  assert "delta 2 is the next" in fails(capsys, "fold", base, deltas[0], deltas[0])
  assert "delta 4 is the next" in fails(capsys, "fold", folded, deltas[2])
  assert "is a delta, and a base is wanted" in fails(capsys, "fold", deltas[0], deltas[1])
  for field, value, sentence in (
    ("lineage", "other", "is of lineage other"),
    ("base", 7, "goes on top of base 7"),
    ("weights", PackedWeights(layout="other", size=3), "is of another model"),
  ):
    other = tmp_path / field
    shutil.copytree(deltas[0], other)
    content = dataclasses.replace(ARTIFACTS.read(str(other)), **{field: value})
    ARTIFACTS.replace(str(other), content)
    assert sentence in fails(capsys, "fold", base, other)
  damaged = tmp_path / "damaged"
  shutil.copytree(deltas[0], damaged)
  file = sorted(damaged.glob("*.data-*"))[-1]
  content = bytearray(file.read_bytes())
  content[-1] ^= 1
  file.write_bytes(content)
  assert f"{file.name} is truncated or was changed" in fails(capsys, "fold", base, damaged)
  assert ARTIFACTS.numbers(str(lineage.folder / "base")) == [1, 2]


def test_a_fold_that_fails_leaves_nothing_to_load(lineage, tmp_path, monkeypatch):
  def fail(folder):
    raise OSError("no space left")

  monkeypatch.setattr(files, "sync_all", fail)
  with pytest.raises(OSError, match="no space"):
    fold.fold(lineage.base, lineage.deltas[:1], str(tmp_path))
  assert list(pathlib.Path(tmp_path, "base").iterdir()) == []
