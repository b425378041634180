"""The benchmarks run, and keep their goals on sizes that a test can afford."""

import importlib.util
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

import tfps
from benchmarks import harness
from tests.patience import PATIENCE, wait_until
from tests.test_configs import write_ratings

ROOT = pathlib.Path(__file__).resolve().parent.parent
HAS_TFRA = importlib.util.find_spec("tensorflow_recommenders_addons") is not None


def run(program, *flags, home=None):
  # Those that measure pandas need it; see tests/conftest.py.
  before = "" if program in ("input.py", "join_speed.py") else os.environ.get("PYTHONPATH", "")
  environment = os.environ | {"PYTHONPATH": f"{ROOT}:{before}", "TF_CPP_MIN_LOG_LEVEL": "2"}
  environment |= {"HOME": str(home)} if home else {}
  return subprocess.run(
    [sys.executable, ROOT / "benchmarks" / program, *flags],
    env=environment,
    text=True,
    stdout=subprocess.PIPE,
    timeout=PATIENCE,
  )


OLD = (
  "# Benchmarks\n\n<!-- figures of memory_per_row -->\nold\n<!-- end of figures -->\n\nThe end.\n"
)


@pytest.fixture(name="reported", scope="module")
def _reported(tmp_path_factory):
  """(the report of memory_per_row, the page with its figures), by report.py."""
  folder = tmp_path_factory.mktemp("reported")
  page = folder / "page.md"
  page.write_text(OLD)
  done = run("report.py", "memory_per_row", "--quick", f"--page={page}", f"--results={folder}")
  report = json.loads((folder / "memory_per_row.json").read_text())
  assert done.returncode == 0, report
  return report, page.read_text()


def test_memory_per_row(reported):
  report, _ = reported
  assert all(goal["met"] for goal in report["goals"])
  assert len(report["goals"]) == 4 and report["machine"]["tensorflow"].startswith("2.16")
  full = [row for row in report["results"] if row["rows"] == 1_000_000]
  peers = [row for row in full if row["case"] == "TFRA"]
  assert len(peers) == HAS_TFRA and len(full) == 4 + HAS_TFRA
  for row in full:
    # What the table reports of itself is what the process holds, but for some MB of buffers. A row
    # of TFRA's has a key and 9 floats.
    reported = row["reported_by_the_table"]
    as_expected = (
      (44 < row["bytes_per_row"] < 200)
      if row in peers
      else abs(row["bytes_per_row"] - reported) < 18
    )
    assert as_expected, row


def test_eviction_memory():
  done = run(
    "eviction_memory.py", "--rows=1000000", "--cases=mixed", "--percent=30", "--json", "--check"
  )
  report = json.loads(done.stdout)
  assert done.returncode == 0, report
  assert len(report["goals"]) == 1 and len(report["results"]) == 4
  for row in report["results"]:
    assert abs(row["resident_MB"] - row["reported_by_the_table_MB"]) < 20, row


def test_checkpoint_speed(tmp_path):
  done = run(
    "checkpoint_speed.py", "--rows=200000", "--repeats=1", f"--folder={tmp_path}", "--speed=0",
    "--percent=100", "--json", "--check",
  )  # fmt: skip
  report = json.loads(done.stdout)
  assert done.returncode == 0, report
  megabytes = {row["what"]: row["MB"] for row in report["results"]}
  assert megabytes["restore"] == pytest.approx(megabytes["save"], rel=0.01)
  assert megabytes["save"] > 10 > 10 * megabytes["increment, 1% touched"]
  assert len(report["goals"]) == 4 and not list(tmp_path.iterdir())


def test_delta_lag():
  # A few requests say nothing of how much slower they are: that goal is not tested here.
  done = run(
    "delta_lag.py", "--rows", "20000", "--lags", str(PATIENCE), "--repeats", "4", "--quiet=0.5",
    "--rate=200", "--slowdown=1e6", "--json", "--check",
  )  # fmt: skip
  report = json.loads(done.stdout)
  assert done.returncode == 0, report
  (row,) = report["results"]
  assert row["quiet_requests"] > 0 and 0 < row["sending_s"]["median"] < row["lag_s"]["high"]


def test_cluster_throughput():
  # So few examples say nothing of speed: those goals are not tested here.
  done = run(
    "cluster_throughput.py", "--parts", "throughput", "straggler", "--modes", "bounded 2",
    "--examples=3000", "--passes=1", "--days=1", "--repeats=1", "--batches", "64", "--shares", "0",
    "--straggler_batch=64", "--straggler_batches_per_ticket=2", "--json", "--check",
  )  # fmt: skip
  report = json.loads(done.stdout)
  assert done.returncode == 0, report
  rows = {row["setting"]: row for row in report["results"]}
  assert list(rows) == ["ceiling", "async", "bounded 2"] and len(report["goals"]) == 2
  assert all(rows["bounded 2"][speed] > 0 for speed in ("examples_per_s", "straggler_per_s"))


def test_end_to_end():
  # So few examples say nothing of speed: those goals are not tested here.
  models = ["tfps", "keras", "ceiling"] + ["tfra"] * HAS_TFRA
  done = run(
    "end_to_end.py", "--examples=2000", "--repeats=1", "--batches", "128", "--shares", "0",
    "--buckets=5000", "--models", *models, "--json",
  )  # fmt: skip
  report = json.loads(done.stdout)
  assert done.returncode == 0, report
  assert [row["model"] for row in report["results"]] == models
  assert all(row["examples_per_s"]["median"] > 0 for row in report["results"])
  assert len(report["goals"]) == len(models) - 1 and report["goals"][0]["met"]


@pytest.mark.skipif(not HAS_TFRA, reason="TFRA is not installed")
def test_table_speed(tmp_path):
  # So few rows say nothing of speed: the goals are not tested here.
  plot = tmp_path / "images" / "speed.png"
  flags = ["--rows", "20000", "40000", "4000000000", "--mf-dims", "8", "16", "--batches", "4096"]
  done = run("table_speed.py", *flags, "--keys=8192", "--repeats=1", f"--plot={plot}", "--json")
  report = json.loads(done.stdout)
  assert done.returncode == 0, report
  cases = [(row["mf_dim"], row["rows"], row["keys"]) for row in report["results"]]
  kinds = ("uniform", "zipf")
  assert cases == [
    (dim, rows, kind) for dim in (8, 16) for rows in (20000, 40000) for kind in kinds
  ]
  assert (
    "left out for lack of memory: mf_dim 8 with 4,000,000,000 rows, mf_dim 16" in report["title"]
  )
  goals = {goal["name"]: goal["value"] for goal in report["goals"]}
  assert len(goals) == 2 * (4 + 2)
  assert goals["mf_dim 8, push / TFRA"] == min(row["push / TFRA"] for row in report["results"][:4])
  growths = [
    small["pull, M/s"] / large["pull, M/s"]
    for small, large in zip(report["results"][4:6], report["results"][6:])
  ]
  found = goals["mf_dim 16, pull, time per key at 40,000 rows, of that at 20,000"]
  assert found == pytest.approx(max(growths), abs=0.01)
  assert plot.read_bytes().startswith(b"\x89PNG")


def test_table_pauses():
  done = run(
    "table_pauses.py", "--rows=100000", "--grown=100000", "--seconds=0.3", "--repeats=1", "--json"
  )
  report = json.loads(done.stdout)
  assert done.returncode == 0, report
  rows = {row["meanwhile"]: row for row in report["results"]}
  assert list(rows) == ["quiet", "growth", "saving", "eviction"] and len(report["goals"]) == 3
  assert rows["quiet"]["seconds"]["median"] >= 0.3
  for row in rows.values():
    assert 0 < row["median_ms"]["median"] <= row["p99_ms"]["median"] <= row["longest_ms"]["median"]


def test_pulls_are_timed_while_the_work_runs(monkeypatch):
  monkeypatch.syspath_prepend(ROOT / "benchmarks")
  import table_pauses

  table = tfps.FeasignTable("timed", mf_dim=table_pauses.MF_DIM)
  keys = tf.range(1, 500_001, dtype=tf.int64)
  table_pauses.pull_some(table.servers[0].handle, keys[:50, None])  # traces it
  # A pull adds to what the table counts when it has read its rows.
  pulled = lambda: table.statistics()["pulled_keys"]
  three_pulls = 3 * keys.shape[0] // 50

  def work():
    before = pulled()
    wait_until(lambda: pulled() >= before + three_pulls)

  taken, seconds = table_pauses.pull_during(table, tf.reshape(keys, [50, -1]), work)
  assert seconds > 0 and taken.min() > 0
  # One after the other: all but the first and the last ran as long as the work did.
  assert 0 < taken[1:-1].sum() <= seconds


@pytest.mark.parametrize("name", ["tfps", "keras", "ceiling"])
def test_the_ceiling_computes_the_matrix_products_of_the_models(monkeypatch, name):
  monkeypatch.syspath_prepend(ROOT / "benchmarks")
  import cluster_job
  import end_to_end

  flags = end_to_end.parser().parse_args(["--buckets=100"])
  data = ({slot: np.arange(8) for slot in cluster_job.SLOTS}, np.zeros([8, 1], np.float32))
  # Four layers: forward, and gradients of their weights and of their inputs.
  assert matrix_products(end_to_end.make_model(name, flags), data) == 3 * 4


def test_the_report_replaces_the_figures_of_what_was_run(reported):
  report, written = reported
  assert "old" not in written and written.endswith("<!-- end of figures -->\n\nThe end.\n")
  for part in (report["title"], report["machine"]["cpu"], "other programs used", ": met)"):
    assert part in written
  assert written.count("| ") > len(report["results"])


def test_a_slowed_process_has_a_tenth_of_the_time(monkeypatch):
  monkeypatch.syspath_prepend(ROOT / "benchmarks")
  import cluster_throughput

  # It says how much of a processor it has had, whenever it is asked.
  code = "import sys, threading, time\n"
  code += "def busy():\n  while True: pass\n"
  code += "threading.Thread(target=busy, daemon=True).start()\n"
  code += "for _ in sys.stdin: print(time.process_time(), flush=True)"
  pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
  with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:

    def had():
      process.stdin.write("?\n")
      return float(process.stdout.readline())

    try:
      had()
      slowed = cluster_throughput.Slowed(process.pid)
      began, before = time.monotonic(), had()
      share = lambda: (had() - before) / (time.monotonic() - began)
      time.sleep(1)
      # Now and then a busy machine lets it run for longer, and then it rests for longer.
      wait_until(lambda: 0 < share() < 0.15)
      slowed.end()
      assert had() > before  # It runs again: one that is stopped would not answer.
    finally:
      process.kill()


def test_traffic_is_measured_from_everything_off_to_the_defaults(monkeypatch):
  monkeypatch.syspath_prepend(ROOT / "benchmarks")
  import cluster_throughput

  steps = [settings for _, settings in cluster_throughput.ladder()]
  assert steps[0] == cluster_throughput.OFF and cluster_throughput.defaults() in steps
  for before, after in itertools.pairwise(steps[: 1 + steps.index(cluster_throughput.defaults())]):
    assert sum(before[name] != after[name] for name in before) == 1
  assert cluster_throughput.ladder("ends")[-1][1] == cluster_throughput.defaults()


def test_the_ceiling_computes_the_gradient_of_its_input(monkeypatch):
  monkeypatch.syspath_prepend(ROOT / "benchmarks")
  import cluster_job

  features = {slot: np.arange(8) for slot in cluster_job.SLOTS}
  model = cluster_job.MODELS["ceiling"](None)
  model.compile("adam", "binary_crossentropy")
  # Four layers: forward, and gradients of their weights and of their inputs, dropped if nobody uses
  # them.
  assert matrix_products(model, (features, np.zeros([8, 1], np.float32))) == 3 * 4


def matrix_products(model, data):
  """How many of them TensorFlow computes in a train step on `data`."""
  model.build_for(Batch(data))
  step = tf.function(model.train_step, autograph=False)
  context.enable_run_metadata()
  # Drops those of eager operations before this, as of making the variables.
  context.export_run_metadata()
  step(data)
  runs = context.export_run_metadata().function_graphs
  context.disable_run_metadata()
  nodes = [node for run_ in runs for graph in run_.partition_graphs for node in graph.node]
  return sum("MatMul" in node.op for node in nodes)


class Batch:
  """What build_for wants of a source."""

  def __init__(self, data):
    self.element_spec = tf.nest.map_structure(tf.type_spec_from_value, data)


def test_models(tmp_path):
  write_ratings(tmp_path, 5)
  flags = [f"--data={tmp_path}", "--rows=500", "--seeds=1", "--models", "DIN", "ESMM", "--json"]
  ways = ["--ways", "FTRL 0.1 of sums", "Adagrad of sums"]
  done = run("models.py", *flags, *ways, home=tmp_path)
  report = json.loads(done.stdout)
  assert [row["model"] for row in report["results"]] == ["DIN", "ESMM"]
  # Nothing was trained on before the only part was tested.
  assert all(abs(row["AUC"] - 0.5) < 0.2 and row["lines"] > 20 for row in report["results"])
  assert len(report["goals"]) == 2 and done.returncode == 0


def test_history_length():
  flags = ["--batch_size=16", "--lengths", "5", "50", "--distinct=40", "--repeats=1", "--json"]
  done = run("history_length.py", *flags)
  rows = json.loads(done.stdout)["results"]
  # A pushed feasign that the items have, too, is there for both readers.
  assert [row["pulled_keys"] for row in rows] == [40, 40, 400]
  assert rows[0]["pushed_keys"] == rows[1]["pushed_keys"] == 40 and rows[2]["pushed_keys"] == 400
  short, long, more = (
    [row[f"{what}_bytes"] for what in ("asked", "pulled", "pushed")] for row in rows
  )
  assert short == long and min(np.array(more) / np.array(short)) > 5


def test_din(tmp_path):
  write_ratings(tmp_path, 5)
  flags = [f"--data={tmp_path}", "--parts=2", "--part=300", "--seeds=1", "--json"]
  done = run("din.py", *flags, "--ways", "tfps, shared, Adagrad 0.3", home=tmp_path)
  (row,) = json.loads(done.stdout)["results"]
  assert 0.3 < row["AUC, part 2"] <= 1


def test_two_towers(tmp_path):
  write_ratings(tmp_path, 5)
  flags = [f"--data={tmp_path}", "--rows=500", "--part=250", "--seeds=1", "--json"]
  done = run("two_towers.py", *flags, home=tmp_path)
  report = json.loads(done.stdout)
  assert [row["model"] for row in report["results"]] == ["tfps", "twin", "most popular"]
  # There are 30 movies.
  assert all(row["recall@50"] == 1 for row in report["results"])
  assert report["goals"][1]["met"], report


def test_consistency_auc(tmp_path):
  (tmp_path / "ml-1m").mkdir()
  write_ratings(tmp_path / "ml-1m", 5)
  done = run(
    "consistency_auc.py", f"--data={tmp_path}", "--days=2", "--settings", "async", "--seeds", "1",
    "--json", "--check", home=tmp_path,
  )  # fmt: skip
  report = json.loads(done.stdout)
  assert [row["setting"] for row in report["results"]] == ["single process", "async"]
  by_name = {goal["name"]: goal["met"] for goal in report["goals"]}
  assert len(by_name) == 2 and by_name["shows that any setting lost or counted twice"], report
  # Two days of 35 examples, two genres each, one feasign in each of the other 11 slots.
  assert report["results"][0]["shows"] == 35 * 13


@pytest.mark.parametrize(
  "flags, limit, exit_code",
  [
    ([], 2.0, 0),
    ([], 0.5, 0),
    (["--check"], 2.0, 0),
    (["--check"], 0.5, 1),
    (["--check", "--json"], 0.5, 1),
  ],
)
def test_check_fails_when_a_goal_is_missed(capsys, flags, limit, exit_code):
  flags = harness.parser("").parse_args(flags)
  goals = [harness.Goal("a", 1.0, 1.0), harness.Goal("b", 1.0, limit)]
  assert harness.report(flags, "title", [{"case": "x", "bytes": 1.0}], goals) == exit_code
  printed = capsys.readouterr().out
  if flags.json:
    assert [goal["met"] for goal in json.loads(printed)["goals"]] == [True, False]
  else:
    assert ("MISSED" in printed) == (limit < 1)


def test_goals():
  assert harness.Goal("a", 1.0, 1.0).met and not harness.Goal("a", 1.1, 1.0).met
  assert harness.Goal("a", 1.1, 1.0, at_least=True).met
  assert str(harness.Goal("AUC", 0.7, 0.75, at_least=True)) == (
    "goal MISSED: AUC 0.7, at least 0.75"
  )


def test_table_has_one_column_for_each_key():
  rows = [
    {"name": "x", "rows_held": 1000, "time": harness.spread([2.0, 1.0, 9.0])},
    {"name": "longer", "rows_held": 5, "time": harness.spread([1.0])},
  ]
  assert harness.table(rows).splitlines()[2:] == [
    "x           1,000  2 [1 .. 9]",
    "longer          5  1 [1 .. 1]",
  ]


def test_input():
  for values in ("integers", "texts"):
    done = run("input.py", "--records=2000", "--repeats=1", f"--values={values}", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0 and len(report["results"]) == 7 and len(report["goals"]) == 2


def test_join_speed():
  done = run(
    "join_speed.py", "--records=100000", "--batch=20000", "--repeats=1", "--speed=0",
    "--files-speed=0", "--slack=1.2", "--json", "--check",
  )  # fmt: skip
  report = json.loads(done.stdout)
  assert done.returncode == 0, report
  assert len(report["goals"]) == 3 and len(report["results"]) == 6
