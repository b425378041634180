"""The join as a Spark program gives the samples of the join in one process."""

import pathlib
import shutil

import pytest

from tests import commands, join_logs

pyspark = pytest.importorskip("pyspark")
ROOT = pathlib.Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs a Java")
# A short job: its Java need not be compiled to be as fast as can be.
SETTINGS = (
  ("spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"),
  ("spark.sql.codegen.wholeStage", "false"),
)


@pytest.fixture(autouse=True)
def _workers(monkeypatch):
  """They are processes of their own, and find tfps; loopback only."""
  monkeypatch.setenv("PYTHONPATH", str(ROOT))
  monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")


@pytest.fixture(scope="module", autouse=True)
def _java():
  """The Java that the first run starts serves those that follow; it ends here."""
  yield
  gateway = pyspark.SparkContext._gateway
  if gateway is not None:
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait(60)
    pyspark.SparkContext._gateway = pyspark.SparkContext._jvm = None


def join(capsys, folder, engine, **fields):
  settings = {"engine": engine, "spark__master": "local[2]", "spark__settings": SETTINGS}
  config = join_logs.config_file(folder, **settings, **fields)
  return commands.run_json(capsys, "join", f"--config={config}", "--once")


@pytest.mark.parametrize("policy", ["wait", "early"])
def test_the_same_samples_over_a_restart(policy, capsys, tmp_path):
  features, actions = join_logs.make(1000)
  # What comes long after closes the windows of all that was before.
  later = {"time": join_logs.BEGIN + 5000.0}
  features.append({**features[0], **later, "request_id": "later"})
  actions.append({**actions[0], **later, "request_id": "later"})
  folders = {engine: tmp_path / engine for engine in ("process", "spark")}
  for part in range(2):
    for engine, folder in folders.items():
      for log, rows in (("features", features), ("actions", actions)):
        size = len(rows) // 2 + 1
        join_logs.write_json(folder / log, f"{part}", rows[part * size : (part + 1) * size])
      metrics = join(capsys, folder, engine, policy=policy)
  samples = {engine: join_logs.read(folder / "samples") for engine, folder in folders.items()}
  assert metrics["dropped_by_watermark"] == 0
  if policy == "wait":
    assert len(samples["spark"]) == 1000
    assert dict(samples["spark"]) == join_logs.expected(features[:-1], actions[:-1])
  else:
    # Of several clicks that come together either may be the one that a positive is of.
    times = {
      (row["request_id"], row["item_id"], round(row["time"] * 1000)) for row in features + actions
    }
    for ids, row in samples["spark"] + samples["process"]:
      assert (*ids, row.pop("label_time")) in times
    assert sum(row["show"] for _, row in samples["spark"]) == 1001
    assert sum(row["click"] for _, row in samples["spark"]) > 100
  assert sorted(samples["spark"], key=str) == sorted(samples["process"], key=str)


def test_what_spark_cannot_is_said_before_a_java_starts(capsys, tmp_path, monkeypatch):
  monkeypatch.setattr(pyspark.SparkContext, "_ensure_initialized", None)
  (tmp_path / "features").mkdir()
  config = join_logs.config_file(tmp_path, engine="spark")
  for arguments, sentence in (
    (["--close"], "Spark closes windows by its watermark only"),
    (["--config.actions.folder=/no/such"], "There is no folder /no/such"),
    (["--config.state="], "needs config.state and config.samples.folder"),
  ):
    assert sentence in commands.fails(capsys, "join", f"--config={config}", "--once", *arguments)
