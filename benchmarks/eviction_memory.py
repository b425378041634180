"""Resident memory of a table whose feasigns leave and come: freed memory is used again.

Fills a table through the push op, in a fresh process for each case. Then, several times over, a
random half of the feasigns goes unseen and is evicted at a day's end, and as many new ones are
pushed. The growth of the process's resident memory is compared with what it was when the table had
just been filled.
"""

import argparse
import json
import subprocess
import sys
import time

import harness
import numpy as np
from memory_per_row import MF_DIM, read_statistics, resident_bytes, splitmix64

BATCH = 65_536
# Case: the share of feasigns that own an mf vector.
CASES = {"unadmitted": 0.0, "admitted": 1.0, "mixed": 0.5}


def main():
  parser = harness.parser(__doc__)
  parser.add_argument("--rows", type=int, default=10_000_000, help="feasigns in each table")
  parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="which tables")
  parser.add_argument("--rounds", type=int, default=3, help="how often half of them leave")
  parser.add_argument(
    "--percent",
    type=float,
    default=5,
    help=("how much higher the memory may be; small tables need more, where buffers weigh in"),
  )
  parser.add_argument("--run", choices=CASES, help=argparse.SUPPRESS)  # the fresh process
  flags = parser.parse_args()
  if flags.rows < 2 or flags.rounds < 1:
    parser.error("--rows must be 2 or more, and --rounds 1 or more.")
  if flags.run:
    json.dump(run(flags.run, flags.rows, flags.rounds), sys.stdout)
    return 0

  results, goals = [], []
  for case in flags.cases:
    measured = run_fresh(case, flags)
    results += measured
    highest = max(row["percent_higher"] for row in measured)
    goals.append(
      harness.Goal(f"{case}: memory after new ones came", highest, flags.percent, "percent higher")
    )
  title = (
    f"Resident memory of {flags.rows:,} feasigns, half of which leave and are replaced "
    f"(mf_dim {MF_DIM}, adagrad)"
  )
  return harness.report(flags, title, results, goals)


def run_fresh(case, flags):
  """Runs `run` in a process of its own."""
  size = [f"--rows={flags.rows}", f"--rounds={flags.rounds}"]
  command = [sys.executable, __file__, f"--run={case}", *size]
  return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def run(case, rows, rounds):
  """Returns a list of dicts, one for the full table and one for each round."""
  live = np.arange(rows, dtype=np.uint64)  # the numbers of the feasigns in the table
  warm_up(case)
  before = resident_bytes()
  table = make_table()
  push(table, live, case, show=True)
  full = resident_bytes() - before
  results = [result(case, "full", full, full, table, rows, seconds=0.0)]
  for round_ in range(1, rounds + 1):
    seconds = replace_half(table, live, case, round_)
    resident = resident_bytes() - before
    results.append(result(case, f"round {round_}", resident, full, table, rows, seconds))
  return results


def replace_half(table, live, case, round_):
  """Makes half of the feasigns leave and new ones come. Returns the seconds of the day's end."""
  half = len(live) // 2
  end_of_day(table, 2 * round_)
  # Now everything is a day old; one half is seen again, the other leaves.
  np.random.default_rng(round_).shuffle(live)
  leaving, staying = live[:half], live[half:]
  push(table, staying, case, show=False)
  start = time.perf_counter()
  evicted = end_of_day(table, 2 * round_ + 1)
  seconds = time.perf_counter() - start
  if evicted != half:
    raise RuntimeError(f"{half} feasigns should have left, but {evicted} did.")
  first = len(live) + (round_ - 1) * half
  leaving[:] = np.arange(first, first + half, dtype=np.uint64)
  push(table, leaving, case, show=True)
  push(table, staying, case, show=False)
  return seconds


def result(case, state, resident, full, table, rows, seconds):
  statistics = read_statistics(table)
  if statistics["rows"] != rows or abs(statistics["admitted"] / rows - CASES[case]) > 0.01:
    expected = f"{rows} feasigns, {CASES[case]:.0%} of them admitted"
    raise RuntimeError(f"The table should hold {expected}, but it reports {statistics}.")
  return {
    "case": case,
    "state": state,
    "resident_MB": resident / 1e6,
    "reported_by_the_table_MB": statistics["bytes"] / 1e6,
    "percent_higher": 100 * (resident / full - 1),
    "end_of_day_ms": 1000 * seconds,
  }


def make_table():
  from tfps import native

  # What was not seen since the last day's end leaves; two shows admit; nothing decays.
  options = (
    f"mf_dim={MF_DIM};accessor.nonclk_coeff=1;accessor.create_threshold=2"
    ";accessor.delete_threshold=-1;accessor.delete_after_unseen_days=0"
    ";accessor.decay_rate=1"
  )
  return native.ops.tfps_table(shared_name=f"eviction_{np.random.bytes(8).hex()}", options=options)


def push(table, numbers, case, show):
  """Pushes the feasigns of these numbers; without `show`, they are only seen again."""
  from tfps import native

  for start in range(0, len(numbers), BATCH):
    part = numbers[start : start + BATCH]
    n = len(part)
    keys = splitmix64(part)
    shows = np.zeros(n, np.float32)
    if show:
      shows += 1 + (keys.astype(np.float64) / 2**64 < CASES[case])
    native.ops.tfps_push(
      table=table,
      keys=keys.view(np.int64),
      slots=np.ones(n, np.int32),
      show=shows,
      click=np.zeros(n, np.float32),
      gradients=np.full([n, 1 + MF_DIM], 0.01, np.float32),
    )


def end_of_day(table, day):
  from tfps import native

  return int(native.ops.tfps_end_of_day(table=table, day=np.int64(day)))


def warm_up(case):
  """Lets TensorFlow and NumPy make their own buffers."""
  table = make_table()
  live = np.arange(8 * BATCH, dtype=np.uint64)
  push(table, live, case, show=True)
  replace_half(table, live, case, 1)


if __name__ == "__main__":
  sys.exit(main())
