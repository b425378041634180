"""Tries random inputs, and counts those that end a process or raise what is no sentence for a user.

  python -m tests.fuzz --minutes=10
  python -m tests.fuzz --target=ops --minutes=1 --seed=3

Each target runs in a process of its own, which writes down every input before it tries it: one that
ends the process is kept in --folder and counted as a crash, and the target goes on behind it. Exits
with 1 if there was one.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

TARGETS = (
  "tf_config",
  "config",
  "records",
  "streams",
  "manifests",
  "checkpoints",
  "exports",
  "ops",
)
_ROOT = pathlib.Path(__file__).resolve().parents[2]
_MOST_CRASHES = 20  # of a target; then it is given up


def fuzz(target, seconds, seed, folder, inputs=sys.maxsize):
  """Runs a target for some seconds or inputs; returns (inputs tried, [what went wrong])."""
  folder.mkdir(parents=True, exist_ok=True)
  until, tried, crashes = time.monotonic() + seconds, 0, []
  while (left := until - time.monotonic()) > 0 and tried < inputs and len(crashes) < _MOST_CRASHES:
    journal = folder / f"{target}-{seed}.txt"
    limits = [f"{left:.1f}", str(inputs - tried)]
    done = subprocess.run(
      [sys.executable, "-m", "tests.fuzz.target", target, str(seed), *limits, str(journal)],
      cwd=_ROOT,
      env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
      capture_output=True,
      text=True,
      check=False,
    )
    told = json.loads(journal.with_suffix(".json").read_text())
    tried += told["tried"]
    crashes += told["crashes"]
    if done.returncode:
      kept = journal.rename(folder / f"crash-{target}-{seed}.txt")
      last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
      crashes.append(f"{target}: ended with {done.returncode} after {kept}: {last}")
    else:
      journal.unlink(missing_ok=True)
    seed += 1_000_003
  return tried, crashes


def main(argv=None):
  parser = argparse.ArgumentParser(
    prog="python -m tests.fuzz",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--minutes", type=float, default=5, help="for all targets together")
  parser.add_argument("--target", choices=TARGETS, help="only this one")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--folder", help="for inputs that ended a process; by default a new one")
  args = parser.parse_args(argv)
  folder = pathlib.Path(args.folder or tempfile.mkdtemp(prefix="tfps-fuzz-"))
  targets = [args.target] if args.target else TARGETS
  tried, crashes = 0, []
  for target in targets:
    more, found = fuzz(target, 60 * args.minutes / len(targets), args.seed, folder)
    tried, crashes = tried + more, crashes + found
    print(f"{target:12} {more:>10,} inputs   {len(found)} crashes", flush=True)
  for crash in crashes:
    print(crash)
  print(f"{'together':12} {tried:>10,} inputs   {len(crashes)} crashes")
  return int(bool(crashes))


if __name__ == "__main__":
  sys.exit(main())
