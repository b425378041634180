"""Base exports: what they hold, that stock TensorFlow serves them, that none is half there."""

import os
import pathlib
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import tfps
from tests import checkpoints, exports
from tests.patience import PATIENCE
from tfps.export import artifact, extras, trained
from tfps.export.artifact import ARTIFACTS
from tfps.export.checking import verify as verify_lib
from tfps.export.served import saved_model_file
from tfps.export.served.inputs import ModelInputs
from tfps.layers import pooling, served_lookup
from tfps.storage import bundles

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOLERANCE = 1e-6


def tensors(raw):
  return {name: tf.constant(raw[name], spec.dtype) for name, spec in exports.SPECS.items()}


@pytest.fixture(scope="module", name="exported")
def _exported(tmp_path_factory):
  """A trained model, its export, and that in the session loader."""
  rng = np.random.default_rng(0)
  model, tables = exports.make_model(base_update_threshold=0.5)
  exports.train(model, rng)
  before = {table.name: rows_of(table) for table in tables}
  examples = exports.raw_batch(rng, 20)
  exporter = tfps.export.Exporter(model, tmp_path_factory.mktemp("export"), exports.RAW)
  raw = exports.raw_batch(rng, 30)
  features = exports.RAW.features(tensors(raw)), tables
  inputs = ModelInputs(model, exports.RAW).from_raw(tensors(raw))
  expected = trained.predict(model, inputs, tables).numpy()
  path = exporter.base(day=7, step=10, examples=examples)
  session = tfps.export.SavedModelSession(path)
  yield SimpleNamespace(**locals())
  session.close()


def rows_of(table):
  return table.lookup(checkpoints.keys_of(table)) | {"keys": checkpoints.keys_of(table)}


def test_raw_features_in_probabilities_out(exported):
  served = exported.session.run(exported.raw)["predictions"]
  assert served.shape == (30, 1) and np.ptp(served) > 0.05
  np.testing.assert_allclose(served, exported.expected, atol=TOLERANCE, rtol=0)


def test_the_trainer_itself_predicts_the_same_where_every_row_is_served(tmp_path):
  rng = np.random.default_rng(1)
  model, _ = exports.make_model(base_update_threshold=0.0)
  exports.train(model, rng, steps=4)
  raw = exports.raw_batch(rng, 50)
  inputs = ModelInputs(model, exports.RAW).from_raw(tensors(raw))
  path = tfps.export.Exporter(model, tmp_path, exports.RAW).base()
  session = tfps.export.SavedModelSession(path)
  expected = model.predict_on_batch(inputs)
  np.testing.assert_allclose(session.run(raw)["predictions"], expected, atol=TOLERANCE, rtol=0)


def test_feasigns_in_probabilities_out(exported):
  dense = ModelInputs(exported.model, exports.RAW).to_dense(exported.inputs)
  served = exported.session.run(dense, "feasigns")["predictions"]
  np.testing.assert_allclose(served, exported.expected, atol=TOLERANCE, rtol=0)


def test_reserved_keys_and_padding_read_zeros(exported):
  dense = ModelInputs(exported.model, exports.RAW).to_dense(exported.inputs)
  one = {name: np.zeros_like(value[:1]) for name, value in dense.items()}
  padding = exported.session.run(one, "feasigns")["predictions"]
  for key in (-(2**63), -(2**63) + 1):
    filled = {**one, "city": np.full_like(one["city"], key), "tags": np.full([1, 2], key)}
    np.testing.assert_array_equal(exported.session.run(filled, "feasigns")["predictions"], padding)


def test_examples_are_classified_and_regressed(exported):
  names = set(exports.SPECS) - {"user"}
  serialized = []
  for i in range(30):
    feature = {
      "user": tf.train.Feature(int64_list=tf.train.Int64List(value=[exported.raw["user"][i]]))
    }
    for name in names:
      values = np.ravel(exported.raw[name][i])
      if values.dtype == np.float32:
        feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
      else:
        encoded = [str(value).encode() for value in values]
        feature[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))
    features = tf.train.Features(feature=feature)
    serialized.append(tf.train.Example(features=features).SerializeToString())
  outputs = exported.session.run({"inputs": serialized}, "regress")["outputs"]
  np.testing.assert_allclose(outputs, exported.expected[:, 0], atol=TOLERANCE, rtol=0)
  classified = exported.session.run({"inputs": serialized}, "classify")
  np.testing.assert_allclose(classified["scores"][:, 1], outputs, atol=TOLERANCE, rtol=0)
  np.testing.assert_allclose(classified["scores"].sum(axis=1), 1, atol=TOLERANCE, rtol=0)
  assert classified["classes"][0].tolist() == [b"0", b"1"]
  methods = {name: s.method_name for name, s in exported.session.signatures.items()}
  assert methods["classify"] == "tensorflow/serving/classify"
  assert methods["regress"] == "tensorflow/serving/regress"


def test_the_rows_are_those_of_the_predicate_in_plain_tensors(exported):
  reader = tf.train.load_checkpoint(exported.path + "/variables/variables")
  begins = bundles.table_prefixes(exported.path)
  for table in exported.tables:
    before = exported.before[table.name]
    show, click, delta_score = before["statistics"].T
    accessor = table.accessor
    held = (accessor.score(show, click) >= 0.5) & (delta_score >= 0)
    assert 0 < held.sum() < len(held)
    keys = reader.get_tensor(begins[table.name] + "-keys")
    assert set(keys) == set(before["keys"][held])
    order = np.argsort(keys)
    rows = reader.get_tensor(begins[table.name] + "-rows")[order]
    kept = {name: value[held] for name, value in before.items()}
    np.testing.assert_array_equal(rows[:, 0], kept["lr_w"])
    np.testing.assert_array_equal(rows[:, 1:], kept["mf_w"])
    after = table.lookup(before["keys"])
    np.testing.assert_array_equal(after["served"], held)
    np.testing.assert_array_equal(after["statistics"][:, 2], np.where(held, 0, delta_score))


def test_it_has_no_op_that_stock_tensorflow_does_not_know(exported):
  content = saved_model_pb2.SavedModel.FromString(
    pathlib.Path(exported.path, "saved_model.pb").read_bytes()
  )
  graph = content.meta_graphs[0].graph_def
  nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
  assert len(nodes) > 100
  assert not [node.op for node in nodes if "Tfps" in node.op]
  assert not [node.device for node in nodes if "job" in node.device]


def test_the_manifest_says_what_it_is(exported):
  content = ARTIFACTS.read(exported.path)
  assert (content.kind, content.version, content.day, content.step) == (
    "base",
    1,
    7,
    10,
  )
  assert content.lineage == exported.exporter.lineage
  assert content.tables["first"].rows > 0
  assert "saved_model.pb" in content.files
  status = exported.session.run({"ask": [0, 0]}, "delta_status")
  assert status["lineage"].tolist() == [content.lineage.encode()] * 2
  assert (status["base"].tolist(), status["sequence"].tolist()) == ([1, 1], [0, 0])


def test_warm_up_requests_are_such_that_the_model_answers(exported):
  from tensorflow_serving.apis import prediction_log_pb2

  path = exported.path + "/assets.extra/tf_serving_warmup_requests"
  logs = [
    prediction_log_pb2.PredictionLog.FromString(record.numpy())
    for record in tf.data.TFRecordDataset(path)
  ]
  served = {}
  for log in logs:
    kind = log.WhichOneof("log_type")
    request = getattr(log, kind).request
    if kind == "predict_log":
      inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
    else:
      examples = request.input.example_list.examples
      inputs = {"inputs": [example.SerializeToString() for example in examples]}
    signature = request.model_spec.signature_name
    assert kind == {"classify": "classify_log", "regress": "regress_log"}.get(
      signature, "predict_log"
    )
    served[signature] = exported.session.run(inputs, signature)
  assert set(served) == set(exported.session.signatures) - {"__saved_model_init_op"}
  first = served["serving_default"]["predictions"][:, 0]
  np.testing.assert_allclose(served["regress"]["outputs"], first, atol=1e-6)
  np.testing.assert_allclose(served["classify"]["scores"][:, 1], first, atol=1e-6)
  assert served["serving_default"]["predictions"].shape == (8, 1)
  assert served["feasigns"]["predictions"].shape == (8, 1)
  assert served["apply_delta"]["sequence"] == served["apply_delta"]["position"] == 0


def test_verify_export_tells_what_differs(exported, tmp_path):
  inputs, predictions = extras.read_examples(exported.path + "/" + extras.EXAMPLES)
  other = {name: value + 0.01 for name, value in predictions.items()}
  extras.write_examples(str(tmp_path), inputs, other)
  with pytest.raises(tfps.export.ExportError, match="20 examples differs by 0.01"):
    verify_lib.verify(exported.path, str(tmp_path / extras.EXAMPLES))


@pytest.mark.parametrize("file", ["variables/variables.index", "saved_model.pb"])
def test_a_changed_file_is_named(exported, file):
  path = pathlib.Path(exported.path, file)
  content = path.read_bytes()
  path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
  try:
    with pytest.raises(tfps.export.ExportError, match=f"{file} is truncated or was changed"):
      artifact.check_files(exported.path, ARTIFACTS.read(exported.path))
  finally:
    path.write_bytes(content)


@pytest.mark.parametrize(
  "module, function",
  [
    (saved_model_file, "save"),
    (bundles, "write"),
    (extras, "write_warmup"),
    (ARTIFACTS, "_write_manifest"),
  ],
)
def test_an_export_that_fails_changes_nothing(monkeypatch, tmp_path, module, function):
  model, table = exports.make_small_model()
  before = rows_of(table)

  def fail(*arguments, **named):
    raise OSError("no space left")

  exporter = tfps.export.Exporter(model, tmp_path, exports.SMALL_RAW)
  with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
    patch.setattr(module, function, fail)
    exporter.base()
  assert ARTIFACTS.numbers(f"{tmp_path}/base") == []
  after = rows_of(table)
  for name, value in before.items():
    np.testing.assert_array_equal(value, after[name])
  assert exporter.base() == f"{tmp_path}/base/1"
  assert os.listdir(tmp_path / "base") == ["1"]


KILLED = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
import tfps
from tests import exports
from tfps.storage import bundles, files
model, _ = exports.make_small_model()
exporter = tfps.export.Exporter(model, sys.argv[1], exports.SMALL_RAW)
print(exporter.base(), flush=True)
module, name = sys.argv[2].rsplit(".", 1)
module = {{"files": files, "tf.raw_ops": bundles.tf.raw_ops}}[module]
def kill(*arguments, **named):
  os.kill(os.getpid(), signal.SIGKILL)
setattr(module, name, kill)
exporter.base()
"""


@pytest.mark.parametrize("point", ["tf.raw_ops.MergeV2Checkpoints", "files.sync_all"])
def test_a_killed_export_leaves_nothing_that_a_server_would_load(tmp_path, point):
  done = subprocess.run(
    [sys.executable, "-c", KILLED, str(tmp_path), point],
    capture_output=True, text=True, timeout=PATIENCE, check=False,
  )  # fmt: skip
  assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
  assert sorted(os.listdir(tmp_path / "base")) == ["1", "writing-2"]
  assert ARTIFACTS.numbers(f"{tmp_path}/base") == [1]
  artifact.check_files(f"{tmp_path}/base/1", ARTIFACTS.read(f"{tmp_path}/base/1"))
  # The next export removes what the killed one left.
  model, _ = exports.make_small_model()
  exporter = tfps.export.Exporter(model, tmp_path, exports.SMALL_RAW)
  assert exporter.base() == f"{tmp_path}/base/2"
  assert sorted(os.listdir(tmp_path / "base")) == ["1", "2"]


def test_stock_pooling_is_the_tables_pooling():
  rng = np.random.default_rng(3)
  combiners = ["sum", "mean", "sqrtn", "mean"]
  for weighted in (False, True):
    lengths = rng.integers(0, 4, 4 * 6)
    row_splits = np.concatenate([[0], np.cumsum(lengths)])
    positions = rng.integers(-1, 9, row_splits[-1]).astype(np.int32)
    rows = rng.normal(size=(9, 5)).astype(np.float32)
    weights = rng.uniform(0, 2, row_splits[-1] if weighted else 0).astype(np.float32)
    arguments = rows, positions, row_splits, weights
    expected = pooling.pool(*arguments, combiners)
    for one, other in zip(served_lookup.pool(*map(tf.constant, arguments), combiners), expected):
      np.testing.assert_allclose(one, other, atol=1e-6)


def test_errors_name_what_is_wrong(tmp_path):
  with pytest.raises(ValueError, match=r"raw input 'x' is float64 \(None,\)"):
    tfps.data.RawInputs({"x": tf.TensorSpec([None], tf.float64)}, dict)
  with pytest.raises(tfps.export.ExportError, match=re.escape("has no manifest.json")):
    ARTIFACTS.read(str(tmp_path))
  model, _ = exports.make_small_model()
  raw = tfps.data.RawInputs({"user": exports.SPECS["user"]}, dict)
  with pytest.raises(tfps.export.ExportError, match="have no slot '"):
    tfps.export.Exporter(model, tmp_path, raw).base()
