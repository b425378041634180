"""Several models that read one table, exported together from one capture."""

import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import tfps
from tests import checkpoints, exports
from tests.patience import PATIENCE
from tests.test_fold import apply
from tfps.checkpoint import CheckpointManager
from tfps.errors import ExportError
from tfps.export import trained
from tfps.export.artifact import ARTIFACTS
from tfps.export.checking import verify as verify_lib
from tfps.export.served.inputs import ModelInputs
from tfps.storage import bundles, complete_folder

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMES = ["user", "item"]
SLOTS = {"user": {"user", "city"}, "item": {"item", "city"}}
# A few pushes and days cross each of these in both directions.
ACCESSOR = dict(
  base_update_threshold=0.6, delta_update_threshold=0.0, delta_keep_days=1, delete_threshold=0.3,
  delete_after_unseen_days=2, decay_rate=0.6,
)  # fmt: skip


def towers_of(model):
  return {"user": model.user, "item": model.item}


def make_exporter(model, folder):
  return tfps.export.Exporter(towers_of(model), folder, exports.TOWERS_RAW)


def base_rows(path):
  """{key: row} of a base."""
  reader = tf.train.load_checkpoint(f"{path}/variables/variables")
  (begin,) = bundles.table_prefixes(path).values()
  keys, rows = reader.get_tensor(begin + "-keys"), reader.get_tensor(begin + "-rows")
  return dict(zip(keys.tolist(), map(tuple, rows)))


def delta_keys(path, what="keys"):
  reader = tf.train.load_checkpoint(f"{path}/rows")
  if not reader.has_tensor(f"towers/{what}"):  # A delta without rows has no tensors of rows.
    return set()
  return set(reader.get_tensor(f"towers/{what}").tolist())


def rows_of(table):
  keys = checkpoints.keys_of(table)
  return table.lookup(keys) | {"keys": keys}


def keys_of_slots(table, slots):
  """The feasigns that were ever trained, by the hash of these slots."""
  values = tf.range(1, 40, dtype=tf.int64)
  return {int(key) for slot in slots for key in tfps.feasign(slot, values).numpy()}


def check_served(model, sessions, raw):
  """Each tower serves what it predicts from the rows that a base of this moment holds."""
  for name, tower in towers_of(model).items():
    of_tower = {key: raw[key] for key in exports.TOWERS_RAW[name].specs}
    inputs = ModelInputs(tower, exports.TOWERS_RAW[name])
    tensors = {key: tf.constant(values, tf.int64) for key, values in of_tower.items()}
    expected = trained.predict(tower, inputs.from_raw(tensors), [model.user.embedding.table])
    served = sessions[name].run(of_tower)["predictions"]
    assert np.ptp(served) > 1e-3
    np.testing.assert_allclose(served, expected, atol=1e-6, rtol=0)


def test_each_base_has_the_rows_of_the_slots_that_its_model_reads(tmp_path):
  model, table = exports.make_towers(np.random.default_rng(0), base_update_threshold=0.3)
  before = rows_of(table)
  in_base = table.accessor.in_base(*before["statistics"].T, before["unseen_days"])
  assert 20 < in_base.sum() < len(in_base)
  paths = make_exporter(model, tmp_path).base(day=4, step=3)
  assert paths == {name: f"{tmp_path}/{name}/base/1" for name in NAMES}
  for name, path in paths.items():
    numbers = [table.slots[slot] for slot in SLOTS[name]]
    wanted = before["keys"][in_base & np.isin(before["slot"], numbers)]
    rows = base_rows(path)
    assert set(rows) == set(wanted.tolist())
    found = table.lookup(list(rows))
    expected = np.concatenate([found["lr_w"][:, np.newaxis], found["mf_w"]], axis=1)
    np.testing.assert_array_equal(list(rows.values()), expected)
    manifest = ARTIFACTS.read(path)
    assert set(manifest.tables["towers"].slots) == SLOTS[name]
    assert (manifest.day, manifest.step) == (4, 3)
  assert len({ARTIFACTS.read(path).lineage for path in paths.values()}) == 1
  after = table.lookup(before["keys"])
  np.testing.assert_array_equal(after["served"], in_base)
  np.testing.assert_array_equal(after["statistics"][in_base, 2], 0)
  # Each has the weights of its own tower alone.
  sizes = {name: ARTIFACTS.read(path).weights.size for name, path in paths.items()}
  assert sizes == dict.fromkeys(NAMES, 3 * (2 * 2 + 2) + 3)


@pytest.mark.parametrize("engine", ["native", "tfra"])
@pytest.mark.parametrize("seed", [0, 1])
def test_after_every_delta_both_towers_serve_what_the_trainer_does(tmp_path, seed, engine):
  rng = np.random.default_rng(seed)
  model, table = exports.make_towers(rng, engine=engine, **ACCESSOR)
  exporter = make_exporter(model, tmp_path)
  sessions = {
    name: tfps.export.SavedModelSession(path) for name, path in exporter.base().items()
  }  # fmt: skip
  raw = exports.towers_features(rng, 60)
  day, removed = 0, dict.fromkeys(NAMES, 0)
  for sequence in range(1, 7):
    exports.train_towers(model, rng, rng.integers(3))
    for _ in range(rng.integers(3)):
      day += 1
      table.end_of_day(day)
    paths = exporter.delta(day=day)
    assert paths == {name: f"{tmp_path}/{name}/delta/1/{sequence}" for name in NAMES}
    for name, path in paths.items():
      own = keys_of_slots(table, SLOTS[name])
      assert delta_keys(path) <= own and delta_keys(path, "removed") <= own
      removed[name] += len(delta_keys(path, "removed"))
      apply(sessions[name], path)
    check_served(model, sessions, raw)
  assert min(removed.values()) > 0
  for session in sessions.values():
    session.close()


def test_one_model_alone_has_the_rows_of_the_slots_that_it_reads(tmp_path):
  rng = np.random.default_rng(0)
  model, table = exports.make_towers(rng, base_update_threshold=0.0, delta_update_threshold=0.0)
  exporter = tfps.export.Exporter(model.item, tmp_path, exports.TOWERS_RAW["item"])
  assert set(base_rows(exporter.base())) <= keys_of_slots(table, SLOTS["item"])
  exports.train_towers(model, rng)
  before = rows_of(table)
  assert delta_keys(exporter.delta()) <= keys_of_slots(table, SLOTS["item"])
  after = table.lookup(before["keys"])
  others = before["slot"] == table.slots["user"]
  assert others.any() and not after["served"][others].any()
  np.testing.assert_array_equal(
    after["statistics"][others, 2], before["statistics"][others, 2]
  )  # fmt: skip


@pytest.mark.parametrize("which", ["base", "delta"])
def test_what_fails_before_any_has_its_name_changes_nothing(tmp_path, monkeypatch, which):
  rng = np.random.default_rng(0)
  model, table = exports.make_towers(rng, **ACCESSOR)
  exporter = make_exporter(model, tmp_path)
  exporter.base()
  exports.train_towers(model, rng)
  before = rows_of(table)
  seal, calls = ARTIFACTS._seal, []

  def fail_second(*arguments):
    calls.append(arguments)
    if len(calls) == 2:
      raise OSError("no space left")
    seal(*arguments)

  with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
    patch.setattr(ARTIFACTS, "_seal", fail_second)
    getattr(exporter, which)()
  for name in NAMES:
    assert os.listdir(tmp_path / name / "base") == ["1"]
    deltas = tmp_path / name / "delta" / "1"
    assert not deltas.exists() or os.listdir(deltas) == []
  after = rows_of(table)
  for column, value in before.items():
    np.testing.assert_array_equal(value, after[column])
  assert exporter.delta()["item"] == f"{tmp_path}/item/delta/1/1"


def test_after_one_got_its_name_and_the_other_not_a_base_follows(tmp_path, monkeypatch):
  rng = np.random.default_rng(0)
  model, table = exports.make_towers(rng, **ACCESSOR)
  exporter = make_exporter(model, tmp_path)
  exporter.base()
  exports.train_towers(model, rng)
  before = rows_of(table)
  publish = complete_folder.Prepared.publish

  def fail_item(prepared):
    if "/item/" in prepared.path:
      raise OSError("no space left")
    return publish(prepared)

  with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
    patch.setattr(complete_folder.Prepared, "publish", fail_item)
    exporter.delta()
  assert os.listdir(tmp_path / "user" / "delta" / "1") == ["1"]
  after = rows_of(table)
  for column, value in before.items():
    np.testing.assert_array_equal(value, after[column])
  with pytest.raises(ExportError, match="export a base"):
    exporter.delta()
  paths = exporter.base()
  assert paths["item"] == f"{tmp_path}/item/base/2"
  sessions = {name: tfps.export.SavedModelSession(path) for name, path in paths.items()}
  exports.train_towers(model, rng)
  for name, path in exporter.delta().items():
    apply(sessions[name], path)
  check_served(model, sessions, exports.towers_features(rng, 60))
  for session in sessions.values():
    session.close()


KILLED = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
import numpy as np
from tests import exports
from tests.test_exports_together import ACCESSOR, make_exporter
from tfps.checkpoint import CheckpointManager
from tfps.export.capture import TableCapture
from tfps.storage.complete_folder import Prepared
folder, which, point = sys.argv[1:]
rng = np.random.default_rng(0)
model, table = exports.make_towers(rng, **ACCESSOR)
exporter = make_exporter(model, folder + "/export")
exporter.base()
exports.train_towers(model, rng)
CheckpointManager(folder + "/checkpoints", model, [table], exporter=exporter).save({{}})
publish = Prepared.publish
def kill(prepared):
  if "/item/" in prepared.path:
    os.kill(os.getpid(), signal.SIGKILL)
  return publish(prepared)
if point == "between":
  Prepared.publish = kill
else:
  TableCapture.commit = lambda self: os.kill(os.getpid(), signal.SIGKILL)
getattr(exporter, which)()
"""


@pytest.mark.parametrize(
  "which, point", [("delta", "between"), ("delta", "commit"), ("base", "between")]
)
def test_a_process_that_is_killed_between_two_loses_and_doubles_nothing(tmp_path, which, point):
  done = subprocess.run(
    [sys.executable, "-c", KILLED, str(tmp_path), which, point],
    capture_output=True, text=True, timeout=PATIENCE, check=False,
  )  # fmt: skip
  assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
  folder = "base" if which == "base" else "delta/1"
  numbers = {name: ARTIFACTS.numbers(f"{tmp_path}/export/{name}/{folder}") for name in NAMES}
  published = {"base": [1, 2], "delta": [1]}[which]
  assert numbers["user"] == published
  assert numbers["item"] == (published if point == "commit" else published[:-1])
  # The trainer that goes on cannot follow what was published for one of them, nor for both.
  rng = np.random.default_rng(1)
  model, table = exports.make_towers(rng, **ACCESSOR)
  exporter = make_exporter(model, tmp_path / "export")
  CheckpointManager(tmp_path / "checkpoints", model, [table], exporter=exporter).restore()
  assert not exporter.has_base
  paths = exporter.base()
  assert len({path.rsplit("/", 1)[1] for path in paths.values()}) == 1
  for name, path in paths.items():
    assert (
      ARTIFACTS.read(path).lineage != ARTIFACTS.read(f"{tmp_path}/export/{name}/base/1").lineage
    )
  sessions = {name: tfps.export.SavedModelSession(path) for name, path in paths.items()}
  exports.train_towers(model, rng)
  for name, path in exporter.delta().items():
    apply(sessions[name], path)
  check_served(model, sessions, exports.towers_features(rng, 60))
  for session in sessions.values():
    session.close()


def test_a_lineage_goes_on_only_for_the_models_that_it_was_of(tmp_path):
  rng = np.random.default_rng(0)
  model, _ = exports.make_towers(rng, **ACCESSOR)
  exporter = make_exporter(model, tmp_path)
  assert exporter.state() is None
  exporter.base()
  exporter.delta()
  state = exporter.state()
  exporter.close()
  again = make_exporter(model, tmp_path)
  assert again.resume(state) and again.lineage == exporter.lineage
  assert again.delta()["user"] == f"{tmp_path}/user/delta/1/2"
  again.close()
  alone = tfps.export.Exporter(model.user, tmp_path / "user", exports.TOWERS_RAW["user"])
  assert not alone.resume({**state, "sequence": 2})
  alone.close()
  again = make_exporter(model, tmp_path)
  assert not again.resume(state)  # Something was published since.


def test_pending_removals_keep_their_slots_in_checkpoints(tmp_path):
  rng = np.random.default_rng(0)
  accessor = {**ACCESSOR, "delete_after_unseen_days": 0}
  model, table = exports.make_towers(rng, **accessor)
  exporter = make_exporter(model, tmp_path)
  served = {name: set(base_rows(path)) for name, path in exporter.base().items()}
  table.end_of_day(1)
  table.end_of_day(2)
  assert table.statistics()["rows"] == 0
  manager = CheckpointManager(tmp_path / "checkpoints", model, [table], exporter=exporter)
  manager.save({})
  exporter.close()
  other, other_table = exports.make_towers(rng, **accessor)
  again = make_exporter(other, tmp_path)
  CheckpointManager(tmp_path / "checkpoints", other, [other_table], exporter=again).restore()
  for name, path in again.delta().items():
    assert served[name] and delta_keys(path, "removed") == served[name]


def test_a_second_exporter_of_a_table_is_refused(tmp_path):
  model, _ = exports.make_towers(np.random.default_rng(0))
  first = tfps.export.Exporter(model.user, tmp_path / "user", exports.TOWERS_RAW["user"])
  with pytest.raises(ExportError) as refused:
    tfps.export.Exporter(model.item, tmp_path / "item", exports.TOWERS_RAW["item"])
  assert "table 'towers' has an exporter" in str(refused.value)
  assert f"to {tmp_path}/user" in str(refused.value)
  assert "tfps.export.Exporter({'user': user_model, 'item': item_model}" in str(refused.value)
  assert not (tmp_path / "item" / "lock").exists()
  first.base()
  first.close()
  second = tfps.export.Exporter(model.item, tmp_path / "item", exports.TOWERS_RAW["item"])
  second.base()
  for export in (first.base, first.delta):
    with pytest.raises(ExportError, match=f"to {tmp_path}/user was closed: make another one"):
      export()


def test_what_does_not_go_together_is_refused(tmp_path):
  model, _ = exports.make_towers(np.random.default_rng(0))
  towers = towers_of(model)
  raw = exports.TOWERS_RAW
  with pytest.raises(ExportError, match="there is no model to export"):
    tfps.export.Exporter({}, tmp_path, raw)
  for name in ("base", "a/b", ".."):
    with pytest.raises(ExportError, match="would be its folder: give it a name"):
      tfps.export.Exporter({name: model.user}, tmp_path, raw["user"])
  with pytest.raises(ExportError, match="raw is given for user, and the models are item, user"):
    tfps.export.Exporter(towers, tmp_path, {"user": raw["user"]})
  with pytest.raises(ExportError, match="raw is a dict, and there is one model"):
    tfps.export.Exporter(model.user, tmp_path, raw)
  with pytest.raises(ExportError, match="examples is given for user"):
    make_exporter(model, tmp_path).base(examples={"user": None})


SOURCE = tfps.data.ClickStream(days=2, examples_per_day=1000, batch_size=100, batches_per_ticket=2)
USER_SLOTS = ["user_id", "city", "device"]
ITEM_SLOTS = ["item_id", "category"]


class StreamTowers(tfps.Model):
  """Towers on the simulator's slots."""

  def __init__(self, table):
    super().__init__()
    self.user, self.item = exports.Tower(table, USER_SLOTS), exports.Tower(table, ITEM_SLOTS)

  def call(self, features, training=None):
    user, item = self.user(features, training=training), self.item(features, training=training)
    return tf.sigmoid(tf.reduce_sum(user * item, axis=1, keepdims=True))


def test_callbacks_export_together(tmp_path, capsys):
  accessor = tfps.CtrAccessor(create_threshold=1, base_update_threshold=0, delta_update_threshold=0)
  table = tfps.FeasignTable("towers", mf_dim=2, accessor=accessor)
  model = StreamTowers(table)
  model.compile("adam", "binary_crossentropy")
  raw = SOURCE.raw_inputs
  raws = {
    name: tfps.data.RawInputs(
      {slot: raw.specs[slot] for slot in slots},
      lambda given: {slot: tfps.feasign(slot, values) for slot, values in given.items()},
      raw.sample,
    )
    for name, slots in (("user", USER_SLOTS), ("item", ITEM_SLOTS))
  }
  towers = {"user": model.user, "item": model.item}
  base = tfps.callbacks.BaseExport(towers, str(tmp_path), raws, examples=20)
  delta = tfps.callbacks.DeltaExport(base.exporter, every_examples=400)
  model.fit(SOURCE, verbose=0, callbacks=[base, delta, tfps.callbacks.EndOfDay(table)])
  # The first export of all is a base, and at each day's end there is one.
  assert base.paths[-1] == {name: f"{tmp_path}/{name}/base/3" for name in NAMES}
  assert f"Exported {tmp_path}/user/base/3, {tmp_path}/item/base/3." in capsys.readouterr().out
  assert delta.paths and set(delta.paths[0]) == set(NAMES)
  for path in base.paths[-1].values():
    manifest = ARTIFACTS.read(path)
    assert (manifest.day, manifest.step) == (1, 20)
    assert verify_lib.verify(path)["examples"] == 20
