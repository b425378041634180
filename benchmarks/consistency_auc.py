"""Progressive AUC of how workers and servers agree, on MovieLens 1M beside the single process.

Each day is tested before it is trained on, in one pass over configs/movielens.py. The single
process trains batch by batch; the clusters are 2 workers and 2 parameter servers of this machine,
with the defaults but for what a setting's name says. Single process and defaults (async) run with
every seed, which shows the noise, the other settings with the first.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import harness
from tqdm import tqdm

ROOT = pathlib.Path(__file__).resolve().parent.parent
MOST_DIFFERENCE = 0.002  # of the defaults' AUC from the single process's, either way

SINGLE = "single process"
ONE_BY_ONE = {
  "wire_dtype": "float32",
  "row_references": False,
  "dense_sync_every": 1,
  "dense_local_steps": False,
  "prefetch": False,
  "push_window": 1,
}
# {setting: fields of the config}; a ticket of one batch makes a synchronous step one batch of each
# worker.
SETTINGS = {
  "async": {},
  "bounded-0": {"consistency": "bounded", "max_delay": 0},
  "bounded-2": {"consistency": "bounded", "max_delay": 2},
  "sync": {"consistency": "sync", "batches_per_ticket": 1},
  # Whose joined batch is the single process's.
  "sync-half-batches": {"consistency": "sync", "batches_per_ticket": 1, "batch_size": 256},
  "float32": {"wire_dtype": "float32"},
  "bfloat16": {"wire_dtype": "bfloat16"},
  "float16": {"wire_dtype": "float16"},
}
for _every in (1, 4, 16):
  # A ticket's batches are the most that can be merged.
  _dense = {"batches_per_ticket": 16, "dense_sync_every": _every}
  SETTINGS[f"dense-{_every}"] = _dense | {"dense_local_steps": False}
  SETTINGS[f"dense-{_every}-local"] = _dense | {"dense_local_steps": True}
SETTINGS["prefetch"] = {"prefetch": True}
SETTINGS["no-prefetch"] = {"prefetch": False}


def main():
  flags = harness.parser(__doc__)
  flags.add_argument("--data", default="data", help="folder that holds the folder ml-1m")
  flags.add_argument("--days", type=int, default=0, help="only the first so many; 0: all")
  flags.add_argument(
    "--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="of the cluster"
  )
  flags.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of all weights")
  args = flags.parse_args()
  runs = [(SINGLE, ONE_BY_ONE, seed) for seed in args.seeds]
  for setting in args.settings:
    seeds = args.seeds if setting == "async" else args.seeds[:1]
    runs += [(setting, SETTINGS[setting], seed) for seed in seeds]
  rows = []
  with tqdm(runs, unit=" runs") as progress:
    for setting, fields, seed in progress:
      progress.set_postfix_str(f"{setting}, seed {seed}")
      rows.append(row(args, setting, fields, seed))
  alone = [row["AUC"] for row in rows if row["setting"] == SINGLE]
  for row_ in rows:
    row_["off_single"] = row_["AUC"] - statistics.median(alone)
    row_["shows_missing"] = rows[0]["shows"] - row_["shows"]
  title = (
    "Progressive AUC on MovieLens 1M, DeepFM, one pass; seeds alone move the single process's by"
  )
  return harness.report(args, f"{title} {max(alone) - min(alone):.4f}", rows, goals_of(rows))


def row(args, setting, fields, seed):
  """Trains once. What compares the row with the single process's is left open."""
  overrides = {"data.folder": os.path.join(args.data, "ml-1m"), "data.days": args.days}
  overrides |= {"seed": seed, "table.seed": seed} | fields
  began = time.monotonic()
  summary = train(setting, overrides)
  total, table = summary["total"], summary["table"]
  pushes = table["pushes"] if setting != SINGLE else 0
  return {
    "setting": setting,
    "seed": seed,
    "AUC": total["auc"],
    "off_single": None,
    "log_loss": total["log_loss"],
    "calibration": total["calibration"],
    "staleness": table["staleness_sum"] / pushes if pushes else None,
    "staleness_max": table["staleness_max"] if pushes else None,
    "examples_per_s": summary["examples_per_second"],
    "seconds": time.monotonic() - began,
    "shows": table["show"],
    "shows_missing": None,
  }


def train(setting, overrides):
  """Runs `tfps train`, in one process or by `tfps launch`; returns its summary."""
  path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
  environment = os.environ | {"PYTHONPATH": path}
  environment.pop("TF_CONFIG", None)
  with tempfile.TemporaryDirectory(prefix="consistency_auc-") as folder:
    command = [sys.executable, "-m", "tfps"]
    if setting != SINGLE:
      command += ["launch", "--workers=2", "--ps=2", f"--log-dir={folder}/logs", "--"]
    command += ["train", f"--config={ROOT}/configs/movielens.py"]
    command += [f"--config.{name}={value}" for name, value in overrides.items()]
    command.append(f"--config.summary_file={folder}/summary.json")
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
      raise RuntimeError(f"{setting} failed with {done.returncode}:\n{done.stderr[-3000:]}")
    with open(f"{folder}/summary.json") as file:
      return json.load(file)


def goals_of(rows):
  goals = []
  off = [row["off_single"] for row in rows if row["setting"] == "async"]
  if off:
    name = "AUC of the defaults off the single process, medians"
    goals.append(harness.Goal(name, abs(statistics.median(off)), MOST_DIFFERENCE))
  missing = max(abs(row["shows_missing"]) for row in rows)
  goals.append(harness.Goal("shows that any setting lost or counted twice", missing, 0))
  return goals


if __name__ == "__main__":
  sys.exit(main())
