"""Speed and memory of saving and restoring checkpoints, beside writing the same bytes to a file.

Fills a table of one process, half of its feasigns with an mf vector, and saves full checkpoints and
increments of it, each in turn with a plain file of as many bytes as a full one; both end with
fsync. Then fresh processes restore the last one, its files dropped from the page cache before. The
extra memory is the most that was resident meanwhile beyond the table itself.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import harness
import numpy as np
from memory_per_row import BATCH, MF_DIM, resident_bytes, splitmix64

TOUCHED = 0.01  # share of the rows, before an increment
BLOCK = bytes(8 << 20)


def main():
  parser = harness.parser(__doc__)
  parser.add_argument("--rows", type=int, default=20_000_000, help="feasigns in the table")
  parser.add_argument("--repeats", type=int, default=3, help="of each measurement")
  parser.add_argument(
    "--folder", default=".", help="a folder on the disk to measure; needs four times the table"
  )
  parser.add_argument("--speed", type=float, default=0.5, help="goal: share of sequential writing")
  parser.add_argument(
    "--percent", type=float, default=5, help="goal: extra memory in percent of the table"
  )
  parser.add_argument("--run", choices=["save", "restore"], help=argparse.SUPPRESS)
  flags = parser.parse_args()
  if flags.rows < 100 or flags.repeats < 1:
    parser.error("--rows must be 100 or more, and --repeats 1 or more.")
  if flags.run:
    json.dump(globals()[flags.run](flags), sys.stdout)
    return 0

  with tempfile.TemporaryDirectory(prefix="checkpoint_speed-", dir=flags.folder) as folder:
    measured = run_fresh("save", folder, flags)
    for _ in range(flags.repeats):
      for row in run_fresh("restore", folder, flags):
        measured.append(row)
  results = summarise(measured)
  sequential = next(row for row in results if row["what"] == "sequential write")["MB_per_s"]
  goals = []
  for row in results:
    if row["what"] in ("save", "restore"):
      share = row["MB_per_s"].median / sequential.median
      row["of_sequential"] = share
      goals.append(
        harness.Goal(f"{row['what']}: share of sequential writing", share, flags.speed, "", True)
      )
      goals.append(
        harness.Goal(
          f"{row['what']}: extra memory", row["extra_memory_percent"], flags.percent, "%"
        )
      )
  title = (
    f"Checkpoints of {flags.rows:,} feasigns, half of them admitted (mf_dim {MF_DIM}, adagrad), "
    "one process"
  )
  return harness.report(flags, title, results, goals)


def summarise(measured):
  """One row for each kind of measurement."""
  results = []
  for what in dict.fromkeys(row["what"] for row in measured):
    rows = [row for row in measured if row["what"] == what]
    extra = [row["extra_percent"] for row in rows if row["extra_percent"] is not None]
    results.append(
      {
        "what": what,
        "MB": statistics.median(row["bytes"] for row in rows) / 1e6,
        "seconds": harness.spread([row["seconds"] for row in rows]),
        "MB_per_s": harness.spread([row["bytes"] / 1e6 / row["seconds"] for row in rows]),
        "of_sequential": None,
        "extra_memory_percent": max(extra) if extra else None,
      }
    )
  return results


def run_fresh(what, folder, flags):
  """Runs `save` or `restore` in a process of its own."""
  command = [sys.executable, __file__, f"--run={what}", f"--folder={folder}"]
  command += [f"--rows={flags.rows}", f"--repeats={flags.repeats}"]
  return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def save(flags):
  """Full checkpoints, increments and plain files in turn; a list of dicts."""
  table, manager = make_table(), None
  push(table, 0, flags.rows)
  measured = []
  for round_ in range(flags.repeats):
    manager = manager or make_manager(flags.folder, table)
    measured.append(measure("save", table, lambda: manager.save({})))
    size = measured[-1]["bytes"] = files_bytes(manager.latest())
    measured.append(measure("sequential write", table, lambda: write_plain(flags.folder, size)))
    measured[-1].update(bytes=size, extra_percent=None)
    first = int(flags.rows * TOUCHED) * round_
    push(table, first, first + int(flags.rows * TOUCHED))
    what = f"increment, {TOUCHED:.0%} touched"
    measured.append(measure(what, table, lambda: manager.save({}, incremental=True)))
    measured[-1]["bytes"] = files_bytes(manager.latest())
  manager.save({})
  return measured


def restore(flags):
  """Restores the newest checkpoint; a list of one dict."""
  warm_up = make_table()
  push(warm_up, 0, BATCH)
  table = make_table()
  manager = make_manager(flags.folder, table)
  path = pathlib.Path(manager.latest())
  for file in path.rglob("*"):
    if file.is_file():
      drop_from_cache(file)
  row = measure("restore", table, manager.restore)
  if table.statistics()["rows"] != flags.rows:
    raise RuntimeError(f"{flags.rows} rows were saved, but {table.statistics()['rows']} came back.")
  return [row | {"bytes": files_bytes(path)}]


def measure(what, table, function):
  """Seconds, and the most memory beyond what the table takes afterwards."""
  size_before = table.statistics()["bytes"]
  pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
  before = resident_bytes()
  start = time.perf_counter()
  function()
  seconds = time.perf_counter() - start
  size = table.statistics()["bytes"]
  extra = peak_bytes() - before - (size - size_before)
  return {"what": what, "seconds": seconds, "extra_percent": 100 * extra / size}


def peak_bytes():
  """The most memory that was resident since the peak was last cleared."""
  with open("/proc/self/status") as lines:
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def write_plain(folder, size):
  """Writes `size` bytes to one file, as fast as the disk takes them."""
  path = os.path.join(folder, "plain")
  with open(path, "wb", buffering=0) as file:
    for start in range(0, size, len(BLOCK)):
      file.write(BLOCK[: size - start])
    os.fsync(file.fileno())
  os.remove(path)


def drop_from_cache(path):
  with open(path, "rb") as file:
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def files_bytes(path):
  return sum(file.stat().st_size for file in pathlib.Path(path).rglob("*") if file.is_file())


def make_manager(folder, table):
  from tfps.checkpoint import CheckpointManager

  return CheckpointManager(folder, None, [table], keep=1)


def make_table():
  import tfps

  accessor = tfps.CtrAccessor(create_threshold=1, delete_threshold=0)
  return tfps.FeasignTable("speed", mf_dim=MF_DIM, accessor=accessor)


def push(table, first, last):
  """Pushes the feasigns of the numbers first .. last - 1.

  A click, for every other one, admits it.
  """
  for start in range(first, last, BATCH):
    numbers = np.arange(start, min(start + BATCH, last), dtype=np.uint64)
    n = len(numbers)
    gradients = np.random.default_rng(start).normal(size=[n, 1 + MF_DIM]).astype(np.float32)
    keys = splitmix64(numbers).view(np.int64)
    click = (numbers % 2).astype(np.float32)
    table.push([(keys, np.ones(n, np.int32), np.ones(n, np.float32), click, gradients)])


if __name__ == "__main__":
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  sys.exit(main())
