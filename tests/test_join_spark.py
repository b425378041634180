"""The join as a Spark program gives the samples of the join in one process, and counts the same."""

import json
import pathlib
import shutil

import pytest

from tests import commands, join_logs
from tests.patience import PATIENCE

pyspark = pytest.importorskip("pyspark")
ROOT = pathlib.Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs a Java")
# A short job: its Java need not be compiled to be as fast as can be.
SETTINGS = (
  ("spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"),
  ("spark.sql.codegen.wholeStage", "false"),
)
ENGINES = ("process", "spark")


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
    gateway.proc.wait(PATIENCE)
    pyspark.SparkContext._gateway = pyspark.SparkContext._jvm = None


def config_file(folder, engine, policy):
  """All actions that are too late find their feature record remembered."""
  settings = {"engine": engine, "spark__master": "local[2]", "spark__settings": SETTINGS}
  return join_logs.config_file(folder, remember=2000.0, policy=policy, **settings)


def make(policy):
  """(features, actions) in two parts each, with something of all that is counted."""
  features, actions = join_logs.make(1000)
  shown = {(row["request_id"], row["item_id"]): row["time"] for row in features}
  once = set()

  def kept(row):
    """Copies of actions that are too late count only while their feature record waits."""
    window = 120 if policy == "wait" else join_logs.WAIT.get(row["action"], 0)
    copy = tuple(row.values()) in once
    once.add(tuple(row.values()))
    return not copy or row["time"] - shown[row["request_id"], row["item_id"]] <= window

  actions = [row for row in actions if kept(row)]
  half = len(actions) // 2
  nobodys = [{**row, "item_id": "nobody's"} for row in actions[half : half + 30]]
  # Far behind the watermark of the first part.
  late = [
    {**row, "action": kind, "time": row["time"] + 1, "value": 1.0}
    for row, kind in zip(features[:20], ["click", "like"] * 10)
  ]
  middle = len(features) // 2
  parts = [features[:middle], actions[:half]], [features[middle:], actions[half:] + nobodys + late]
  return parts, join_logs.expected(features, actions)


def add(folder, part, rows):
  for log, of_log in zip(("features", "actions"), rows):
    join_logs.write_json(folder / log, f"{part}", of_log)
  if part:
    good = {"request_id": 2**64 - 1, "item_id": "2001-01-31", "time": join_logs.BEGIN + 500}
    bad = [{"time": "soon"}, {"time": [1]}, {"item_id": [1]}, {"request_id": None}, {"hour": 1.5}]
    lines = ["no record", *(json.dumps({**good, **one}) for one in bad), '{"time": 1, "time": 2}']
    # Odd, but sound: these are left out because of their time alone.
    lines += ["", "\ufeff" + json.dumps({**good, "time": "0001-01-01"}) + "  "]
    (folder / "features" / "bad").write_text("\r\n".join(lines) + "\r\n")
    (folder / "actions" / "bad").write_text(
      json.dumps({**good, "action": "dwell", "value": "long"}) + "\n"
    )


def counts(metrics, policy):
  """Without those that an engine names otherwise, and what there is of time."""
  names = ["actions", "feature_records", "features", "samples", "bad_records", "unknown_actions"]
  ended = ("used", "duplicate", "late", "unmatched", "waiting")
  names += ["duplicate_features", *(f"{what}_actions" for what in ended)]
  names += ["late_actions/click", "late_actions/like"]
  reasons = ["json", "doubled", "id", "time", "feature"]
  names += [f"bad_records/{reason}" for reason in reasons + ["value"] * (policy == "wait")]
  names += ["late_actions/dwell", "waiting_features"] if policy == "wait" else []
  found = {name: metrics.get(name, 0) for name in names}
  assert all(value > 0 for name, value in found.items() if not name.startswith("waiting")), found
  return found


def dies(patch, calls, after):
  """The join dies at this call that writes a file of its own: before it, or after it."""
  from tfps.join import spark

  write, so_far = spark.write_whole, []

  def written(*arguments):
    so_far.append(arguments)
    if len(so_far) < calls or after:
      write(*arguments)
    if len(so_far) == calls:
      raise RuntimeError("it died")

  patch.setattr(spark, "write_whole", written)


@pytest.mark.parametrize("policy", ["wait", "early"])
def test_the_same_samples_and_counts_over_restarts(policy, capsys, tmp_path, monkeypatch):
  parts, expected = make(policy)
  metrics, samples = {}, {}
  for engine in ENGINES:
    folder = tmp_path / engine
    folder.mkdir()
    join = ["join", f"--config={config_file(folder, engine, policy)}", "--once"]
    join.append("--config.bad_records=skip")
    for part, rows in enumerate(parts):
      add(folder, part, rows)
      if engine == "spark" and policy == "wait" and part == 0:
        # A batch whose samples are written when it dies is done again; the next is recorded, and
        # its files get their names.
        for calls, after in ((1, False), (3, True)):
          with monkeypatch.context() as patch:
            dies(patch, calls, after)
            code, _, err = commands.run(capsys, *join)
            assert code == 1 and "tfps: error: Spark's query failed" in err
      else:
        metrics[engine] = commands.run_json(capsys, *join, *["--close"] * part)
    samples[engine] = join_logs.read(folder / "samples")
  if policy == "wait":
    assert len(samples["spark"]) == 1000 and dict(samples["spark"]) == expected
  else:
    # Of several clicks that come together either may be the one that a positive is of.
    times = {round(row["time"] * 1000) for part in parts for rows in part for row in rows}
    for _, row in samples["spark"] + samples["process"]:
      assert row.pop("label_time") in times
    assert sum(row["show"] for _, row in samples["spark"]) == 1000
    assert sum(row["click"] for _, row in samples["spark"]) > 100
  assert sorted(samples["spark"], key=str) == sorted(samples["process"], key=str)
  assert counts(metrics["spark"], policy) == counts(metrics["process"], policy)
  told = json.loads((tmp_path / "spark" / "state" / "metrics.json").read_text())
  assert {**told, "watermark_lag": 0} == {**metrics["spark"], "watermark_lag": 0}


def test_parts_that_lag_hold_the_watermark_back(capsys, tmp_path, monkeypatch):
  """As partitions of a topic do, each its own stream; here they are folders."""
  from tfps.join import spark_parts

  of = spark_parts.of

  def parts(session, config, log):
    found = {}
    for part in ("0", "1"):
      one = config.copy_and_resolve_references()
      one[log].folder = f"{config[log].folder}/{part}"
      found |= of(session, one, log)
    return found

  monkeypatch.setattr(spark_parts, "of", parts)
  features, actions = join_logs.make(400)
  rows = {"features": features, "actions": actions}
  for log, of_log in rows.items():
    join_logs.write_json(tmp_path / log / "0", "all", of_log[::2])
    # The other part has begun, and no more: what it has yet to give is old by then.
    join_logs.write_json(tmp_path / log / "1", "0", of_log[1::2][:20])
  join = ["join", f"--config={config_file(tmp_path, 'spark', 'wait')}", "--once"]
  first = commands.run_json(capsys, *join)
  for log, of_log in rows.items():
    join_logs.write_json(tmp_path / log / "1", "1", of_log[1::2][20:])
  metrics = commands.run_json(capsys, *join, "--close")
  samples = join_logs.read(tmp_path / "samples")
  assert first["samples"] < 60 and metrics.get("expired_features", 0) == 0
  assert len(samples) == 400 and dict(samples) == join_logs.expected(features, actions)


def test_what_is_idle_moves_on(tmp_path):
  """An idle part gets the newest time of all that came, once for each."""
  from tfps.join import spark_parts

  config = join_logs.config(tmp_path, idle=0.001)
  idle = spark_parts.Idle(None, join_logs.config(tmp_path))
  idle._config, idle._heard = config, {"[features-0]": 0.0, "[features-1]": 0.0}
  for name in idle._heard:
    spark_parts.ends(config, name)
  came = {"description": "KafkaV2[Assign[features-1]]", "numInputRows": 5}
  silent = {"description": "KafkaV2[Assign[features-0]]", "numInputRows": 0}
  config.idle = 1e9
  idle._heard["[features-0]"] = -2e9
  idle.look([{"batchId": 0, "sources": [came, silent]}], 1000)
  assert [p.name for p in (tmp_path / "state" / "idle" / "_features_0_").iterdir()] == ["1000"]
  assert not list((tmp_path / "state" / "idle" / "_features_1_").iterdir())


def test_what_spark_cannot_is_said_before_a_java_starts(capsys, tmp_path, monkeypatch):
  monkeypatch.setattr(pyspark.SparkContext, "_ensure_initialized", None)
  (tmp_path / "features").mkdir()
  config = join_logs.config_file(tmp_path, engine="spark")
  for arguments, sentence in (
    (["--config.actions.folder=/no/such"], "There is no folder /no/such"),
    (["--config.state="], "needs config.state and config.samples.folder"),
  ):
    assert sentence in commands.fails(capsys, "join", f"--config={config}", "--once", *arguments)
