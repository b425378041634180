"""The machine's clock may jump: whatever lasts is measured with one that does not."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
TFPS = ROOT / "tfps"
# What compares moments of several machines or of the data, and only reports it.
REPORTS = {
  "delivery/sync.py": 1,  # the lag between a trainer's capture and a server
  "export/exporter.py": 1,  # when that capture was
  "training/freshness.py": 1,  # the age of samples
  "join/files.py": 1,  # the age of a file
  "join/run.py": 1,  # the lag behind events
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
