"""Resident memory per feasign, with everything it needs: key, statistics, weights, state and index.

Fills a table through the push op, in a fresh process for each case, and divides the growth of the
process's resident memory by the number of rows. The growth is measured while the table fills as
well, because an index that has just grown is emptier than one that is about to. In the end all
feasigns are evicted and as many others pushed, which must not take more: their memory is reused.
Beside it, if it is installed, TFRA's CuckooHashTable, whose rows are a key and as many floats as
a pull gives: it has no statistics, and keeps an optimizer's state in other such tables.
"""

import argparse
import importlib.util
import itertools
import json
import subprocess
import sys

import harness
import numpy as np

MF_DIM = 8
BATCH = 65_536
# Case: (create_threshold, bytes per feasign at most).
LARGE = 1e9  # no feasign here has such a score
CASES = {"unadmitted": (LARGE, 64), "admitted": (0, 112)}
TFRA = "TFRA"


def main():
  parser = harness.parser(__doc__)
  parser.add_argument("--rows", type=int, default=20_000_000, help="feasigns in each table")
  parser.add_argument(
    "--slack",
    type=float,
    default=1.0,
    help=("factor on the goals, for tables so small that what does not grow with rows weighs in"),
  )
  parser.add_argument("--fill", choices=[*CASES, TFRA], help=argparse.SUPPRESS)  # the fresh process
  flags = parser.parse_args()
  if flags.rows < 4:
    parser.error(f"--rows must be 4 or more, not {flags.rows}.")
  if flags.fill:
    filled = fill_tfra(flags.rows) if flags.fill == TFRA else fill(flags.fill, flags.rows)
    json.dump(filled, sys.stdout)
    return 0

  results, goals = [], []
  for case, (_, limit) in CASES.items():
    measured = run_fresh(case, flags.rows)
    results += measured
    for state, row in [("", measured[-2]), (", memory reused", measured[-1])]:
      goals.append(
        harness.Goal(f"{case} feasign{state}", row["bytes_per_row"], limit * flags.slack, "bytes")
      )
  if importlib.util.find_spec("tensorflow_recommenders_addons"):
    results += run_fresh(TFRA, flags.rows)
  title = f"Resident memory per feasign (mf_dim {MF_DIM}, adagrad, {flags.rows:,} feasigns)"
  return harness.report(flags, title, results, goals)


def run_fresh(case, rows):
  """Runs `fill`, or `fill_tfra`, in a process of its own."""
  command = [sys.executable, __file__, f"--fill={case}", f"--rows={rows}"]
  return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def fill(case, rows):
  """Fills a table, evicts all and fills it again.

  Returns a list of dicts, one for each quarter of the rows and one for the end.
  """
  create_threshold, _ = CASES[case]
  push_some(make_table(create_threshold), 0, 4 * BATCH)  # TensorFlow's and NumPy's own buffers
  before = resident_bytes()
  table = make_table(create_threshold)
  results = []

  def measure(name, held):
    resident = resident_bytes() - before
    statistics = read_statistics(table)
    expected = {"rows": held, "admitted": held if case == "admitted" else 0}
    if any(statistics[name] != value for name, value in expected.items()):
      raise RuntimeError(f"The table should hold {expected}, but it reports {statistics}.")
    results.append(
      {
        "case": name,
        "rows": held,
        "bytes_per_row": resident / held,
        "reported_by_the_table": statistics["bytes"] / held,
      }
    )

  for first, last in quarters(rows):
    push_some(table, first, last)
    measure(case, last)
  evict_all(table)
  push_some(table, rows, 2 * rows)
  measure(f"{case}, reused", rows)
  return results


def fill_tfra(rows):
  """The same of a table of TFRA's that grows by itself; nothing leaves it."""
  import tables

  warm_up, table = tables.Tfra(MF_DIM), tables.Tfra(MF_DIM)
  tables.fill([warm_up], 0, 4 * BATCH)
  before = resident_bytes()
  results = []
  for first, last in quarters(rows):
    tables.fill([table], first, last)
    if table.size() != last:
      raise RuntimeError(f"TFRA's table should hold {last} rows, but it holds {table.size()}.")
    bytes_per_row = (resident_bytes() - before) / last
    results.append(
      {"case": TFRA, "rows": last, "bytes_per_row": bytes_per_row, "reported_by_the_table": None}
    )
  return results


def quarters(rows):
  """Pairs of the first row and the one after the last of each quarter."""
  ends = [rows * i // 4 for i in range(5)]
  return itertools.pairwise(ends)


def make_table(create_threshold):
  from tfps import native

  options = (
    f"mf_dim={MF_DIM};accessor.create_threshold={create_threshold}"
    f";accessor.delete_threshold={LARGE}"
  )
  return native.ops.tfps_table(shared_name=f"memory_{np.random.bytes(8).hex()}", options=options)


def push_some(table, first, last):
  """Pushes the feasigns of the numbers first .. last - 1, once each, in batches."""
  from tfps import native

  for start in range(first, last, BATCH):
    n = min(BATCH, last - start)
    keys = splitmix64(np.arange(start, start + n, dtype=np.uint64)).view(np.int64)
    native.ops.tfps_push(
      table=table,
      keys=keys,
      slots=np.ones(n, np.int32),
      show=np.ones(n, np.float32),
      click=np.zeros(n, np.float32),
      gradients=np.full([n, 1 + MF_DIM], 0.01, np.float32),
    )


def evict_all(table):
  from tfps import native

  native.ops.tfps_end_of_day(table=table, day=np.int64(0))


def read_statistics(table):
  from tfps import native

  names, values = native.ops.tfps_statistics(table=table)
  return {name.decode(): float(value) for name, value in zip(names.numpy(), values.numpy())}


def splitmix64(x):
  """A bijection on uint64 arrays: distinct numbers give distinct feasigns, evenly spread."""
  x = x + np.uint64(0x9E3779B97F4A7C15)
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return x ^ (x >> np.uint64(31))


def resident_bytes():
  import resource

  with open("/proc/self/statm") as statm:
    return int(statm.read().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
  sys.exit(main())
