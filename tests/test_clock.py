"""The machine's clock may jump: whatever lasts is measured with one that does not."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

from tests.patience import PATIENCE

ROOT = pathlib.Path(__file__).resolve().parents[1]
TFPS = ROOT / "tfps"
# What compares moments of several machines or of the data, and only reports it.
REPORTS = {
  "delivery/sync.py": 1,  # the lag between a trainer's capture and a server
  "export/exporter.py": 1,  # when that capture was
  "callbacks/freshness.py": 1,  # the age of samples
  "join/files.py": 1,  # the age of a file
  "join/run.py": 1,  # the lag behind events
  "join/spark.py": 1,  # the same
}


def test_durations_do_not_use_the_clock_of_the_day():
  used = {}
  for path in TFPS.rglob("*.py"):
    if count := len(re.findall(r"\btime\.time\(\)|datetime\.now\(|utcnow\(", path.read_text())):
      used[str(path.relative_to(TFPS))] = count
  assert used == REPORTS


def test_the_ops_do_not_use_it_either():
  files = [path for path in (ROOT / "ops").rglob("*") if path.suffix in (".cc", ".h")]
  clocks = (
    r"system_clock|gettimeofday|CLOCK_REALTIME|Now(Nanos|Micros|Seconds)|\btime\((nullptr|NULL)\)"
  )
  used = [path.name for path in files if re.search(clocks, path.read_text())]
  assert len(files) > 100 and used == []


def test_a_run_does_not_notice_that_the_clock_jumps(tmp_path):
  """By days on and back, between tickets, days, checkpoints and exports."""
  compiler = shlex.split(os.environ.get("CXX", "g++"))
  clock, source = tmp_path / "clock.so", ROOT / "tests" / "jumping_clock.cc"
  subprocess.run([*compiler, "-shared", "-fPIC", "-o", clock, source], check=True)
  trained = subprocess.run(
    [sys.executable, "-m", "tests.clock_trainer", tmp_path],
    cwd=ROOT, env={**os.environ, "LD_PRELOAD": str(clock)}, capture_output=True, text=True,
    timeout=PATIENCE, check=False,
  )  # fmt: skip
  assert trained.returncode == 0, trained.stdout[-2000:] + trained.stderr[-4000:]
  assert "as if no clock had jumped" in trained.stdout
