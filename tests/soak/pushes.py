"""kill -9 of a worker in the middle of its pushes, over and over: each is applied exactly once.

A job with two workers and two parameter servers trains. One worker after the other is killed while
it is in the middle of a ticket, which then runs again, from its beginning, on the other one; the
killed worker is started again. In the end every feasign has the shows and clicks of what was
trained, to the last one, and the dense weights have taken as many steps.

  python -m tests.soak.pushes --kills=20
"""

import argparse
import collections
import contextlib
import itertools
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import numpy as np

from tests.patience import PATIENCE, wait_until
from tests.soak import jobs, push_trainer
from tfps.cli import launch

WORKERS = 2


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--kills", type=int, default=20, help="default 20")
  parser.add_argument(
    "--consistency", default="async", choices=["async", "bounded", "sync"], help="default async"
  )
  parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
  flags = parser.parse_args()
  print(f"{flags.kills} kills of a worker; {flags.consistency}, seed {flags.seed}")
  with tempfile.TemporaryDirectory(prefix="pushes-") as folder:
    soak(pathlib.Path(folder), flags)


def soak(folder, flags):
  rng = random.Random(flags.seed)
  with Job(folder, flags.consistency) as job:
    for kill in range(1, flags.kills + 1):
      worker = kill % WORKERS
      ticket = job.kill_within_a_ticket(worker, rng)
      print(f"  kill {kill} of {flags.kills}: worker {worker} in ticket {ticket}", flush=True)
      job.start("worker", worker)
    # Where all kills were between the pushes of two tickets, there are more.
    while not job.has_repeated(within_tickets=4 * WORKERS):
      job.kill_within_a_ticket(0, rng)
      job.start("worker", 0)
    # Both have trained since.
    for worker in range(WORKERS):
      job.wait_for_ticket(worker)
    trained = job.finish()
  check(folder, trained, flags.consistency)
  print(
    f"{flags.kills} kills: {trained['tickets']:,} tickets; "
    f"{trained['repeated_pushes']:,.0f} pushes came again and were dropped, lost or doubled: none"
  )


class Job:
  """The processes of a cluster, of which workers can be killed and started again."""

  def __init__(self, folder, consistency, program="push_trainer.py"):
    self._folder = folder
    self._program = program
    self._consistency = consistency
    self._configs = {
      (job, index): config for job, index, config in launch._tf_configs(workers=WORKERS, ps=2)
    }
    self._processes = {}
    self._logs = {}
    self._starts = collections.Counter()

  def __enter__(self):
    for task in self._configs:
      self.start(*task)
    return self

  def __exit__(self, *exc_info):
    for process in self._processes.values():
      process.kill()
      process.wait()

  def start(self, *task):
    env = jobs.environment(TF_CONFIG=json.dumps(self._configs[task]))
    self._starts[task] += 1
    self._logs[task] = self._folder / "{}-{}.{}.log".format(*task, self._starts[task])
    program = [str(jobs.HERE / self._program), str(self._folder)]
    with open(self._logs[task], "w") as log:
      self._processes[task] = subprocess.Popen(
        [sys.executable, *program, f"--consistency={self._consistency}"],
        env=env, stdout=log, stderr=subprocess.STDOUT,
      )  # fmt: skip

  def wait_for_ticket(self, worker, more_than=0):
    """The last ticket that the worker has begun since its start, once it has begun enough."""
    log, deadline = self._logs["worker", worker], time.monotonic() + PATIENCE
    while len(begun := log.read_text().split("Ticket ")[1:]) <= more_than:
      if self._processes["chief", 0].poll() is not None or time.monotonic() > deadline:
        raise AssertionError(f"the job did not go on:\n{self._log_of_chief()[-3000:]}")
      time.sleep(0.001)
    return begun[-1].split()[0], len(begun)

  def kill_within_a_ticket(self, worker, rng):
    """kill -9 at a random moment after the worker has begun one.

    Returns the ticket's number in the calendar.
    """
    # Not in its first, which takes long to begin: TensorFlow still sends it what it is to do.
    _, begun = self.wait_for_ticket(worker, more_than=rng.randint(1, 4))
    ticket, _ = self.wait_for_ticket(worker, more_than=begun)
    time.sleep(rng.uniform(0, 0.1))
    self._processes["worker", worker].kill()
    self._processes["worker", worker].wait()
    return ticket

  def has_repeated(self, within_tickets):
    """Whether a push came twice before so many more tickets are finished."""
    last = self._progress()[0] + within_tickets
    wait_until(
      lambda: self._progress()[0] >= last or self._progress()[1],
      lambda: self._processes["chief", 0].poll() is None,
      self._log_of_chief,
    )
    return self._progress()[1] > 0

  def _progress(self):
    with contextlib.suppress(FileNotFoundError):
      return [int(number) for number in (self._folder / "progress").read_text().split()]
    return [0, 0]

  def finish(self):
    """Lets the job come to its end; returns what the chief says about it."""
    (self._folder / "stop").touch()
    with contextlib.suppress(subprocess.TimeoutExpired):
      self._processes["chief", 0].wait(PATIENCE)
    if self._processes["chief", 0].poll() != 0:
      raise AssertionError(f"the job failed:\n{self._log_of_chief()[-3000:]}")
    return json.loads((self._folder / "trained.json").read_text())

  def _log_of_chief(self):
    return self._logs["chief", 0].read_text()


def check(folder, trained, consistency):
  """Raises AssertionError unless rows and dense weights hold each trained ticket exactly once."""
  shows, clicks = counts(push_trainer.source(), trained["tickets"])
  rows = jobs.Rows(folder / "checkpoints")
  keys = np.array(sorted(shows), np.int64)
  np.testing.assert_array_equal(rows.keys, keys, "the feasigns differ")
  for column, expected in enumerate((shows, clicks)):
    np.testing.assert_array_equal(
      rows.columns["statistics"][:, column],
      [expected[key] for key in keys.tolist()],
      ["shows", "clicks"][column] + " differ",
    )
  steps = trained["tickets"] * push_trainer.BATCHES_PER_TICKET
  if consistency == "sync":
    # Each round has a ticket for each worker; a day holds an even number of them.
    steps = -(-trained["tickets"] // WORKERS)
  if trained["iterations"] != steps:
    raise AssertionError(f"the dense weights took {trained['iterations']} steps instead of {steps}")
  if trained["repeated_pushes"] == 0:
    raise AssertionError(
      "no push came twice: the kills were not in the middle of any ticket's pushes"
    )


def counts(source, tickets):
  """({feasign: shows}, {feasign: clicks}) of the calendar's first tickets, added up in NumPy."""
  shows, clicks = collections.Counter(), collections.Counter()
  for ticket in itertools.islice(source.tickets(), tickets):
    for x, y in source.open(ticket).as_numpy_iterator():
      ids = np.concatenate([feature.reshape(len(y), -1) for feature in x.values()], axis=1)
      labels = np.broadcast_to(y, ids.shape)[ids != 0]
      keys, inverse, show = np.unique(ids[ids != 0], return_inverse=True, return_counts=True)
      click = np.bincount(inverse, labels, len(keys))
      shows.update(dict(zip(keys.tolist(), show.tolist())))
      clicks.update(dict(zip(keys.tolist(), click.tolist())))
  return shows, clicks


if __name__ == "__main__":
  main()
