"""kill -9 at random moments, over and over: nothing is lost, and nothing is counted twice.

A job trains day after day and is killed: while it writes a checkpoint, while a day ends, and
between. Whoever restarts it finds a complete checkpoint, and the job that was killed all the time
ends with the rows of one that was not: bit for bit in one process, and in all counts on a cluster,
where the process that is killed is any of the job's.

  python -m tests.soak.crashes --kills=30
"""

import argparse
import collections
import contextlib
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

from tests.patience import PATIENCE
from tests.soak import jobs

KINDS = ["checkpoint", "day's end", "between"]
# Whoever restarts the job, it is not the launcher: all of it is killed.
CLUSTER = ["-m", "tfps", "launch", "--workers=1", "--ps=2", "--max-restarts=0"]


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--kills", type=int, default=30, help="in one process (default 30)")
  parser.add_argument("--cluster-kills", type=int, default=6, help="on a cluster (default 6)")
  parser.add_argument("--days", type=int, default=40, help="days to train (default 40)")
  parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
  flags = parser.parse_args()
  print(
    f"{flags.kills} kills in one process, {flags.cluster_kills} on a cluster; seed {flags.seed}"
  )
  with tempfile.TemporaryDirectory(prefix="crashes-") as folder:
    soak(pathlib.Path(folder), flags)


def soak(folder, flags):
  rng = random.Random(flags.seed)
  whole = Job(folder / "whole", flags.days)
  whole.start()
  expected = whole.finish()
  for name, kills, cluster in (
    ("one process", flags.kills, False),
    ("a cluster", flags.cluster_kills, True),
  ):
    if kills:
      job = Job(folder / name.split()[-1], flags.days, cluster)
      happened = collections.Counter(crash(job, kills, rng))
      state = job.finish()
      jobs.compare(expected, state, exactly=not cluster)
      counts = ", ".join(f"{count} at {kind}" for kind, count in happened.items())
      print(f"{name}: {kills} kills ({counts}); {len(state.keys):,} rows, lost or doubled: none")


def crash(job, kills, rng):
  """Kills the job again and again; yields at what moment it was each time."""
  order = [KINDS[i % len(KINDS)] for i in range(kills)]
  rng.shuffle(order)
  job.start()
  for number, kind in enumerate(order, 1):
    moment = job.kill_at(kind, rng)
    before = job.newest
    job.start()
    print(f"  kill {number} of {kills}: {moment}; going on from checkpoint-{before}", flush=True)
    yield moment


class Job:
  """A training job in its own folder, in one process or on a cluster, and its process group."""

  def __init__(self, folder, days, cluster=False):
    self._folder = folder
    self._days = days
    self._cluster = cluster
    self._process = None
    self._log = None
    self.newest = 0
    folder.mkdir()

  def start(self):
    program = [str(jobs.HERE / "trainer.py"), str(self._folder), f"--days={self._days}"]
    command = [sys.executable, *program]
    if self._cluster:
      logs = self._folder / "logs"
      command = [sys.executable, *CLUSTER, f"--log-dir={logs}", "--", *program]
    self._log = self._folder / "log"
    with open(self._log, "w") as log:
      self._process = subprocess.Popen(
        command,
        env=jobs.environment(),
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
      )

  def kill_at(self, kind, rng):
    """kill -9 at a random moment of this kind, once the job has gone on from where it was."""
    try:
      self._wait(lambda: self._resumed_from() is not None)
      if self._resumed_from() != self.newest:
        raise AssertionError(
          f"checkpoint-{self.newest} was complete, and the job went on from {self._resumed_from()}"
        )
      target = self.newest + rng.randint(1, 3)
      self._wait(lambda: self._newest() >= target)
      if kind == "checkpoint":
        self._wait(self._is_saving)
        time.sleep(rng.uniform(0, 0.03))
      elif kind == "day's end":
        self._wait((self._folder / "ending-day").exists)
        time.sleep(rng.uniform(0, 0.1))
      else:
        time.sleep(rng.uniform(0, 0.3))
    finally:
      self._kill(rng)
    self.newest = self._newest()
    if self._is_saving():
      return "checkpoint"
    return "day's end" if (self._folder / "ending-day").exists() else "between"

  def finish(self):
    """Waits for the job's own end; returns the rows of its last checkpoint."""
    try:
      if self._process.wait(timeout=PATIENCE) or not (self._folder / "done").exists():
        raise AssertionError(f"the job failed:\n{self._log.read_text()[-3000:]}")
    finally:
      self._kill_group()
    return jobs.Rows(self._folder / "checkpoints")

  def _resumed_from(self):
    """The number of the checkpoint that the job says it goes on from; 0 where there is none."""
    if not self.newest:
      return 0
    found = re.search(r"Going on from \S*checkpoint-(\d+):", self._log.read_text())
    return int(found[1]) if found else None

  def _newest(self):
    numbers = [
      int(path.parent.name.split("-")[1])
      for path in (self._folder / "checkpoints").glob("checkpoint-*/manifest.json")
    ]
    return max(numbers, default=0)

  def _is_saving(self):
    return any((self._folder / "checkpoints").glob("writing-checkpoint-*"))

  def _wait(self, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
      if self._process.poll() is not None or time.monotonic() > deadline:
        raise AssertionError(f"the job did not go on:\n{self._log.read_text()[-3000:]}")
      time.sleep(0.001)

  def _kill(self, rng):
    """kill -9 to the process.

    Of a cluster to any one of its processes, and a second later to what is left.
    """
    if self._cluster:
      os.kill(rng.choice(jobs.children_of(self._process.pid)), signal.SIGKILL)
      with contextlib.suppress(subprocess.TimeoutExpired):
        self._process.wait(timeout=1)
    self._kill_group()

  def _kill_group(self):
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self._process.pid, signal.SIGKILL)
    self._process.wait()


if __name__ == "__main__":
  main()
