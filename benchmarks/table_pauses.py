"""How long a pull takes while the table grows, saves and evicts, beside a quiet table.

A table of --rows feasigns answers pulls of one batch after the other. Meanwhile a thread of the
same process does nothing; pushes --grown new feasigns; saves a checkpoint; ends a day, at which the
new ones leave. Each round has a table of its own. The pulls run in a graph that takes their times,
so that Python does not show in them.
"""

import concurrent.futures
import os
import sys
import tempfile
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import harness
import numpy as np
import tables
import tensorflow as tf
from tqdm import tqdm

import tfps
from tfps import native
from tfps.checkpoint import CheckpointManager

MF_DIM = 8
QUIET = "quiet"
_PULLS = 50  # of one call of the graph
_LIMIT = 3  # times the quiet 99th percentile, at most
_KEPT, _LEAVING = 1000.0, 1.0  # shows


def main():
  flags = harness.parser(__doc__)
  flags.add_argument("--rows", type=int, default=5_000_000, help="feasigns that stay")
  flags.add_argument("--grown", type=int, default=5_000_000, help="feasigns that come and leave")
  flags.add_argument("--batch", type=int, default=8192, help="keys of a pull and of a push")
  flags.add_argument("--seconds", type=float, default=2.0, help="of pulls from the quiet table")
  flags.add_argument("--repeats", type=int, default=3, help="rounds, each with a new table")
  flags.add_argument("--folder", help="where checkpoints are written; a temporary one by default")
  flags = flags.parse_args()
  rounds = []
  for _ in tqdm(range(flags.repeats), unit=" rounds"):
    with tempfile.TemporaryDirectory(dir=flags.folder) as folder:
      rounds.append(run_round(flags, folder))
  results, goals = summarise(rounds)
  title = (
    f"Pulls of {flags.batch:,} keys from {flags.rows:,} feasigns (mf_dim {MF_DIM}) while "
    f"{flags.grown:,} others come, all are saved, and the others leave"
  )
  return harness.report(flags, title, results, goals)


def run_round(flags, folder):
  """{what is done meanwhile: (seconds of each pull, seconds that it took)}."""
  table = tfps.FeasignTable("pauses", mf_dim=MF_DIM, accessor=tfps.CtrAccessor(create_threshold=0))
  manager = CheckpointManager(folder, None, [table], keep=1)
  push_all(table, batches(flags, 0, flags.rows, _KEPT))
  new = batches(flags, flags.rows, flags.rows + flags.grown, _LEAVING)
  numbers = tables.numbers("uniform", flags.rows, [_PULLS, flags.batch], seed=0)
  keys = tf.constant(tables.key_of(numbers))
  pull_some(table.servers[0].handle, keys)  # traces it
  found = {QUIET: pull_during(table, keys, lambda: time.sleep(flags.seconds))}
  found["growth"] = pull_during(table, keys, lambda: push_all(table, new))
  check_rows(table, flags.rows + flags.grown)
  found["saving"] = pull_during(table, keys, lambda: manager.save({}))
  found["eviction"] = pull_during(table, keys, lambda: table.end_of_day(0))
  check_rows(table, flags.rows)
  return found


def pull_during(table, keys, work):
  """Returns the seconds of each pull that ran beside `work`'s thread, and the seconds of `work`."""
  pulling = threading.Event()

  def timed():
    pulling.wait()
    began = time.time()
    work()
    return began, time.time()

  calls = []
  with concurrent.futures.ThreadPoolExecutor(1) as thread:
    working = thread.submit(timed)
    while not working.done():
      calls.append(pull_some(table.servers[0].handle, keys).numpy())
      pulling.set()
  first, last = working.result()
  began, ended = np.concatenate(calls).T
  return (ended - began)[(ended >= first) & (began < last)], last - first


@tf.function
def pull_some(handle, keys):
  """Pulls each line of keys [k, n] in turn; returns float64 [k, 2]: when each began and ended."""
  times = tf.TensorArray(tf.float64, keys.shape[0])
  for i in tf.range(keys.shape[0]):
    batch = keys[i]
    with tf.control_dependencies([batch]):
      began = tf.timestamp()
    with tf.control_dependencies([began]):
      rows = native.ops.tfps_pull(table=handle, keys=batch, row_width=1 + MF_DIM)
    with tf.control_dependencies([rows]):
      times = times.write(i, tf.stack([began, tf.timestamp()]))
  return times.stack()


def batches(flags, first, last, shows):
  """What push_all pushes, made ahead: the feasigns of the numbers first .. last - 1."""
  made, shared = [], {}
  for begin in range(first, last, flags.batch):
    n = min(flags.batch, last - begin)
    if n not in shared:
      slots, show, click = tf.ones([n], tf.int32), tf.fill([n], shows), tf.zeros([n])
      shared[n] = slots, show, click, tf.fill([n, 1 + MF_DIM], 0.01)
    made.append((tf.constant(tables.key_of(np.arange(begin, begin + n))), *shared[n]))
  return made


def push_all(table, parts):
  for part in parts:
    table.push([part])


def check_rows(table, expected):
  if (rows := table.statistics()["rows"]) != expected:
    raise RuntimeError(f"The table should hold {expected:,} rows, but it holds {rows:,}.")


def summarise(rounds):
  """The report's rows and goals."""
  rows, goals = [], []
  for name in rounds[0]:
    pulls = [found[name][0] for found in rounds]
    if not all(map(len, pulls)):
      raise RuntimeError(f"No pull fell into '{name}': it needs more rows.")
    p99 = milliseconds(pulls, 99)
    # Each by the quiet table of its own round.
    quiet = milliseconds([found[QUIET][0] for found in rounds], 99)
    of_quiet = harness.spread([mine / its for mine, its in zip(p99, quiet)])
    rows.append(
      {
        "meanwhile": name,
        "seconds": harness.spread([found[name][1] for found in rounds]),
        "pulls": sum(map(len, pulls)),
        "median_ms": harness.spread(milliseconds(pulls, 50)),
        "p99_ms": harness.spread(p99),
        "longest_ms": harness.spread(milliseconds(pulls, 100)),
        "p99_of_quiet": None if name == QUIET else of_quiet,
      }
    )
    if name != QUIET:
      goals.append(harness.Goal(f"p99 of a pull during {name}, of quiet", of_quiet.median, _LIMIT))
  return rows, goals


def milliseconds(rounds, percent):
  """The percentile of each round's seconds."""
  return [1e3 * float(np.percentile(seconds, percent)) for seconds in rounds]


if __name__ == "__main__":
  sys.exit(main())
