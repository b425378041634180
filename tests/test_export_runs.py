"""Exports of whole runs: from the command line, of published data, from a real cluster."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import tfps
from tests import checkpoints, commands, exports
from tests.patience import PATIENCE
from tfps.checkpoint import CheckpointManager
from tfps.export.artifact import ARTIFACTS
from tfps.storage import bundles

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run_tfps(*arguments):
  env = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
  env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
  command = [sys.executable, "-m", "tfps", *map(str, arguments)]
  done = subprocess.run(
    command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
  )
  assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
  return done.stdout


# A program of somebody who has TensorFlow, and has never heard of tfps: the session loader, raw
# values in.
STOCK = """
import sys
import numpy as np
import tensorflow as tf
examples = np.load(sys.argv[1] + "/assets.extra/tfps_examples.npz")
with tf.compat.v1.Session(graph=tf.Graph()) as session:
  loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], sys.argv[1])
  signature = loaded.signature_def["serving_default"]
  feed = {info.name: examples["input/" + name] for name, info in signature.inputs.items()}
  served = session.run(signature.outputs["predictions"].name, feed)
trained = examples["prediction/predictions"]
assert not any(name.split(".")[0] == "tfps" for name in sys.modules)
assert 0 <= served.min() < served.max() <= 1
strings = sum(values.dtype.kind in "SU" for values in examples.values())
print("examples", len(served), "strings", strings)
print("difference", float(abs(served - trained).max()))
"""


def served_without_tfps(path, tmp_path):
  """(examples, inputs that are strings, largest difference from the trainer's predictions)."""
  script = tmp_path / "stock.py"
  script.write_text(STOCK)
  done = subprocess.run(
    [sys.executable, script, str(path)], cwd=tmp_path, capture_output=True, text=True,
    timeout=PATIENCE,
    env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
  words = done.stdout.split()
  return int(words[1]), int(words[3]), float(words[5])


def rows_of(path):
  """{table name: (keys, rows)} of an export, in the order of keys."""
  reader = tf.train.load_checkpoint(f"{path}/variables/variables")
  found = {}
  for name, begin in bundles.table_prefixes(str(path)).items():
    keys, rows = reader.get_tensor(begin + "-keys"), reader.get_tensor(begin + "-rows")
    found[name] = keys[np.argsort(keys)], rows[np.argsort(keys)]
  return found


def delta_rows_of(path, table):
  """(keys, rows) of a table in a delta, in the order of keys."""
  reader = tf.train.load_checkpoint(f"{path}/rows")
  keys, rows = reader.get_tensor(f"{table}/keys"), reader.get_tensor(f"{table}/rows")
  return keys[np.argsort(keys)], rows[np.argsort(keys)]


def test_the_quickstart_exports_at_days_ends(tmp_path, capsys):
  out = run_tfps(
    "train", f"--config={ROOT / 'configs' / 'quickstart.py'}", "--config.data.days=3",
    "--config.data.examples_per_day=3000", "--config.progressive_test=False",
    f"--config.export.folder={tmp_path}", "--config.export.keep=2",
  )  # fmt: skip
  assert f"Exported {tmp_path}/base/3." in out
  assert sorted(os.listdir(tmp_path / "base")) == ["2", "3"]
  assert ARTIFACTS.read(f"{tmp_path}/base/3").day == 2
  code, checked, _ = commands.run(capsys, "verify-export", tmp_path / "base" / "3")
  assert code == 0
  assert "256 examples differ by" in checked and "rows of ctr" in checked
  examples, _, difference = served_without_tfps(tmp_path / "base" / "3", tmp_path)
  assert examples == 256 and difference <= 1e-6
  # Not every prediction is that of a model without rows.
  session = tfps.export.SavedModelSession(tmp_path / "base" / "3")
  raw = tfps.data.ClickStream(days=3, examples_per_day=3000, seed=1).raw_inputs.sample(2, 50)
  assert np.ptp(session.run(raw)["predictions"]) > 0.1
  session.close()


# The published files' form, with less in it.
MOVIES = "\n".join(
  f"{i}::Film {i} ({1950 + i})::{('Drama|War', 'Comedy', '')[i % 3]}" for i in range(40)
)
USERS = "\n".join(f"{i}::{'MF'[i % 2]}::{25 + i % 3}::{i % 4}::{10000 + i}" for i in range(30))


def test_strings_of_movielens_in_probabilities_out(tmp_path):
  rng = np.random.default_rng(0)
  data = tmp_path / "ml-1m"
  data.mkdir()
  (data / "movies.dat").write_text(MOVIES)
  (data / "users.dat").write_text(USERS)
  (data / "ratings.dat").write_text(
    "\n".join(
      f"{rng.integers(30)}::{rng.integers(40)}::{rng.integers(1, 6)}::{978300000 + 200 * i}"
      for i in range(900)
    )
  )
  slots = ["user_id", "movie_id", "genres", "gender_x_age", "occupation_x_genres"]
  source = tfps.data.movielens(data, slots=slots, batch_size=64, work_dir=tmp_path)
  sys.path.insert(0, str(ROOT))
  from models.deepfm import DeepFM

  accessor = tfps.CtrAccessor(create_threshold=1.0, base_update_threshold=0.0)
  table = tfps.FeasignTable("ctr", mf_dim=4, accessor=accessor, mf_init_range=0.3)
  model = DeepFM(table, slots, hidden=[8])
  model.compile("adam", "binary_crossentropy")
  export = tfps.callbacks.BaseExport(model, tmp_path / "export", source.raw_inputs)
  model.fit(source, verbose=0, callbacks=[export])
  assert len(export.paths) == len(source.days())
  specs = source.raw_inputs.specs
  assert set(specs) == {
    "user_id", "movie_id", "year", "genres", "gender", "age", "occupation", "zip",
  }  # fmt: skip
  sample = source.raw_inputs.sample(0, 50)
  raw = {name: sample[name] for name in specs}
  session = tfps.export.SavedModelSession(export.paths[-1])
  served = session.run(raw)["predictions"]
  session.close()
  examples, strings, difference = served_without_tfps(export.paths[-1], tmp_path)
  assert examples > 10 and strings == len(specs) and difference <= 1e-6
  trainer = model.predict(source.day(0))[:50]
  assert np.ptp(trainer) > 0.01
  np.testing.assert_allclose(served, trainer, atol=1e-6, rtol=0)


RESTORE_AND_EXPORT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import tfps
strategy = tfps.strategy()
from tests import checkpoints, exports
from tfps.checkpoint import CheckpointManager
with strategy.scope():
  model, table = exports.make_small_model(train=False)
  CheckpointManager(sys.argv[1], model, [table]).restore()
  print("servers", table.num_servers)
  cities = {{"city": [f"w{{i}}" for i in range(20)]}}
  exporter = tfps.export.Exporter(model, sys.argv[2], exports.SMALL_RAW)
  print(exporter.base(examples=cities))
  checkpoints.push_rows(table, checkpoints.KEYS, table.slots["city"], seed=5)
  print(exporter.delta())
"""


def test_a_cluster_exports_what_one_process_exports(tmp_path, capsys):
  model, table = exports.make_small_model()
  CheckpointManager(tmp_path / "checkpoints", model, [table]).save({})
  exporter = tfps.export.Exporter(model, tmp_path / "alone", exports.SMALL_RAW)
  alone = exporter.base()
  checkpoints.push_rows(table, checkpoints.KEYS, table.slots["city"], seed=5)
  alone_delta = exporter.delta()
  script = tmp_path / "script.py"
  script.write_text(RESTORE_AND_EXPORT)
  out = run_tfps(
    "launch", "--workers=1", "--ps=2", f"--log-dir={tmp_path / 'logs'}", "--",
    script, tmp_path / "checkpoints", tmp_path / "cluster",
  )  # fmt: skip
  assert "servers 2" in out
  exported = f"{tmp_path}/cluster/base/1"
  parts = list(pathlib.Path(exported, "variables").glob("variables.data-*"))
  assert len(parts) == 3  # the chief's and one of each parameter server
  (keys, rows), (cluster_keys, cluster_rows) = rows_of(alone)["small"], rows_of(exported)["small"]
  assert len(keys) > 5
  np.testing.assert_array_equal(keys, cluster_keys)
  np.testing.assert_array_equal(rows, cluster_rows)
  assert "20 examples differ by" in commands.run(capsys, "verify-export", exported)[1]
  # What was pushed since is in the delta, from both servers.
  (keys, rows), (cluster_keys, cluster_rows) = (
    delta_rows_of(path, "small") for path in (alone_delta, f"{tmp_path}/cluster/delta/1/1")
  )
  assert len(keys) > 20
  np.testing.assert_array_equal(keys, cluster_keys)
  np.testing.assert_array_equal(rows, cluster_rows)


def test_a_source_that_does_not_say_what_clients_send_is_refused(tmp_path):
  model, _ = exports.make_small_model()
  with pytest.raises(tfps.export.ExportError, match="set its raw_inputs"):
    tfps.callbacks.BaseExport(model, tmp_path, None)
