"""kill -9 of a cluster's processes at random, for an hour: the job goes on and loses nothing.

A job of 3 workers and 2 parameter servers under `tfps launch` trains day after day, with
checkpoints, days' ends, bases and deltas, while workers, parameter servers and the chief are
killed, one or several at once, and now and then the launcher with all of them, which is then
started again. In the end the rows are those of the same job on the same days without any fault, in
all their statistics; so is the AUC, nearly; and every exported artifact verifies.

  python -m tests.soak.faults --minutes=60
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from tests.patience import PATIENCE
from tests.soak import jobs
from tfps.export.artifact import ARTIFACTS
from tfps.export.checking.verify import verify
from tfps.export.fold import fold

# What is killed, and how often in a hundred times.
KINDS = {"worker": 40, "ps": 22, "chief": 22, "several": 10, "all": 6}
# When: any time, or while a checkpoint or an export is being written, or a day ends.
MOMENTS = {"anytime": 50, "checkpoint": 25, "export": 15, "day's end": 10}
TICKETS_BETWEEN = 4  # that are finished between two faults


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--minutes", type=float, default=60, help="of faults (default 60)")
  parser.add_argument("--faults", type=int, default=10**9, help="stop after so many")
  parser.add_argument("--workers", type=int, default=3)
  parser.add_argument("--ps", type=int, default=2)
  parser.add_argument("--day-examples", type=int, default=10_000, help="default 10,000")
  parser.add_argument("--base-days", type=int, default=4, help="a base every so many (default 4)")
  parser.add_argument(
    "--pause",
    type=float,
    default=2,
    help="seconds after each ticket, so that there are not too many days (default 2)",
  )
  parser.add_argument("--seed", type=int, default=0, help="of kinds and moments (default 0)")
  flags = parser.parse_args()
  print(
    f"{flags.minutes:g} minutes of faults; {flags.workers} workers, {flags.ps} parameter servers, "
    f"seed {flags.seed}",
    flush=True,
  )
  with tempfile.TemporaryDirectory(prefix="faults-") as folder:
    soak(pathlib.Path(folder), flags)


def soak(folder, flags):
  """Raises AssertionError if anything is lost."""
  with Job(folder / "faults", flags) as job:
    injected, seconds = inject(job, flags)
    job.stop()
    trained = job.finish()
    print(
      f"{sum(injected.values())} faults injected: {_counts(injected)}; {trained['days']} days "
      "trained",
      flush=True,
    )
    for kind, waited in seconds.items():
      print(
        f"  after {kind}: a ticket finished within {statistics.median(waited):.0f} s in the "
        f"median, {max(waited):.0f} s at most", flush=True)  # fmt: skip
  with Job(folder / "whole", flags, days=trained["days"]) as whole:
    expected = whole.finish()
  lost = sum(differences(folder, name) for name in ("before-last-day-ends", "checkpoints"))
  verified = verify_exports(folder)
  print(f"losses: {lost}", flush=True)
  print(f"AUC {trained['auc']:.4f}, without faults {expected['auc']:.4f}", flush=True)
  print(
    f"exports verified: {verified['bases']} bases, {verified['deltas']} deltas; failed: 0",
    flush=True,
  )
  if lost:
    raise AssertionError(f"{lost} feasigns are not what they are without faults")
  if abs(trained["auc"] - expected["auc"]) > 0.005:
    raise AssertionError("the AUC differs by more than 0.005")


def inject(job, flags):
  """Kills until the time is over.

  Returns (number of faults, [seconds until a ticket was finished]) by kind.
  """
  rng = random.Random(flags.seed)
  injected, seconds = collections.Counter(), collections.defaultdict(list)
  end = time.monotonic() + 60 * flags.minutes
  job.wait_for_tickets(TICKETS_BETWEEN)
  while time.monotonic() < end and sum(injected.values()) < flags.faults:
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    moment = rng.choices(list(MOMENTS), list(MOMENTS.values()))[0]
    job.wait_for_moment(moment)
    time.sleep(rng.uniform(0, {"anytime": 5, "export": 0.5}.get(moment, 0.05)))
    killed, begin = job.kill(kind, rng), time.monotonic()
    injected[kind] += 1
    job.wait_until_on(killed)
    waited = time.monotonic() - begin
    job.wait_for_tickets(TICKETS_BETWEEN - 1)
    seconds[kind].append(waited)
    print(
      f"  {time.strftime('%H:%M:%S')} fault {sum(injected.values())}: {', '.join(killed)} "
      f"({moment}); going on after {waited:.0f} s", flush=True)  # fmt: skip
  return injected, seconds


class Job:
  """A training job under `tfps launch`, in a folder of its own.

  Args:
    folder: is made where there is none; a job in one goes on from what it holds.
    flags: those of this program; without workers the job is one process.
    days: train so many, and without a pause; else until `stop`.
  """

  def __init__(self, folder, flags, days=None):
    self._folder = folder
    folder.mkdir(exist_ok=True)
    program = [
      str(jobs.HERE / "fault_trainer.py"), str(folder), f"--day-examples={flags.day_examples}",
      f"--base-days={flags.base_days}",
    ]  # fmt: skip
    program.append(f"--pause={flags.pause}" if days is None else f"--days={days}")
    launch = [
      "-m", "tfps", "launch", f"--workers={flags.workers}", f"--ps={flags.ps}",
      "--max-restarts=1000", f"--log-dir={folder / 'logs'}", "--",
    ]  # fmt: skip
    self._command = [sys.executable, *(launch if flags.workers else []), *program]
    self._log = folder / "log"
    self._launcher = None

  def __enter__(self):
    self._start()
    return self

  def __exit__(self, *exc_info):
    # Its children end with it.
    self._launcher.kill()
    self._launcher.wait()

  def _start(self):
    with open(self._log, "a") as log:
      self._launcher = subprocess.Popen(
        self._command, env=jobs.environment(), stdout=log, stderr=subprocess.STDOUT
      )

  def wait_for_tickets(self, count):
    """Waits until so many more tickets are finished."""
    begin, finished = time.monotonic(), self._tickets()
    while self._tickets() < finished + count:
      self._check(begin)
      time.sleep(0.05)

  def wait_for_moment(self, moment):
    """Waits, not for ever, until a file of this kind is being written."""
    begin = time.monotonic()
    patterns = {
      "checkpoint": ["checkpoints/writing-*"],
      "export": ["export/base/writing-*", "export/delta/*/writing-*"],
      "day's end": ["ending-day"],
    }
    while moment in patterns and time.monotonic() - begin < 30:
      if any(path for pattern in patterns[moment] for path in self._folder.glob(pattern)):
        return
      self._check(begin)
      time.sleep(0.002)

  def kill(self, kind, rng):
    """kill -9; returns the names of what was killed."""
    tasks = jobs.tasks_of(self._launcher.pid)
    self._newest_before, self._chief_before = self._newest(), self._chief()
    if kind == "all":
      self._launcher.kill()
      self._launcher.wait()
      self._start()
      return ["chief", "launcher and all"]
    of_kind = [task for task in tasks if kind in ("several", task[0])]
    chosen = rng.sample(of_kind, min(len(of_kind), rng.randint(2, 4) if kind == "several" else 1))
    for task in chosen:
      with contextlib.suppress(ProcessLookupError):
        os.kill(tasks[task], signal.SIGKILL)
    return [f"{job} {index}" for job, index in chosen]

  def wait_until_on(self, killed):
    """Waits until a ticket is finished after a kill; by another chief if not only workers died.

    Raises:
      AssertionError: that one went on from an older checkpoint than one that was complete.
    """
    if all(name.startswith("worker") for name in killed):
      self.wait_for_tickets(1)
      return
    begin = time.monotonic()
    while self._chief() == self._chief_before:
      self._check(begin)
      time.sleep(0.05)
    resumed = self._resumed()
    if self._newest_before and (not resumed or resumed[-1] < self._newest_before):
      raise AssertionError(
        f"checkpoint-{self._newest_before} was complete, and the job went on from {resumed[-1:]}"
      )

  def stop(self):
    """Lets the job end with the day."""
    (self._folder / "stop").touch()

  def finish(self):
    """Waits for the job's own end; returns what it says."""
    if self._launcher.wait(timeout=60 * 60) or not (self._folder / "trained.json").exists():
      raise AssertionError(f"the job failed:\n{self._log.read_text()[-5000:]}")
    return json.loads((self._folder / "trained.json").read_text())

  def _resumed(self):
    """The numbers of the checkpoints that the job has said to go on from."""
    return [
      int(number)
      for number in re.findall(r"Going on from \S*checkpoint-(\d+):", self._log.read_text())
    ]

  def _newest(self):
    paths = (self._folder / "checkpoints").glob("checkpoint-*/manifest.json")
    return max((int(path.parent.name.split("-")[1]) for path in paths), default=0)

  def _tickets(self):
    """How many were finished, those that were trained again included."""
    return len(self._progress())

  def _chief(self):
    """The process that finished the last one."""
    return self._progress()[-1:]

  def _progress(self):
    with contextlib.suppress(FileNotFoundError):
      return (self._folder / "progress").read_text().split()
    return []

  def _check(self, begin):
    if self._launcher.poll() is not None or time.monotonic() - begin > PATIENCE:
      raise AssertionError(f"the job did not go on:\n{self._log.read_text()[-5000:]}")


def differences(folder, name):
  """How many feasigns of the job with faults are missing, too many, or other than without faults.

  Args:
    folder: with the folders of both jobs.
    name: of the folder of checkpoints in each of these.
  """
  found, expected = (jobs.Rows(folder / job / name) for job in ("faults", "whole"))
  both, here, there = np.intersect1d(found.keys, expected.keys, return_indices=True)
  different = np.zeros(len(both), bool)
  for column in ("slots", "unseen_days", "finished_day"):
    different |= found.columns[column][here] != expected.columns[column][there]
  show_click = [
    rows.columns["statistics"][order, :2] for rows, order in ((found, here), (expected, there))
  ]
  # Counts of a feasign that never decayed are whole numbers, on both sides.
  exact = np.all(show_click[1] == np.round(show_click[1]), axis=1)
  close = np.all(np.isclose(*show_click, rtol=1e-9, atol=1e-9), axis=1)
  different |= np.where(exact, np.any(show_click[0] != show_click[1], axis=1), ~close)
  print(f"{name}: {len(expected.keys):,} feasigns, {exact.sum():,} of them undecayed", flush=True)
  return len(found.keys) + len(expected.keys) - 2 * len(both) + int(different.sum())


def verify_exports(folder):
  """Verifies every base and, folded into its base, every delta.

  Raises ExportError at the first that does not.
  """
  export = folder / "faults" / "export"
  verified = collections.Counter()
  for base in ARTIFACTS.numbers(str(export / "base")):
    verify(str(export / "base" / str(base)))
    verified["bases"] += 1
    deltas = ARTIFACTS.numbers(str(export / "delta" / str(base)))
    if deltas:
      paths = [str(export / "delta" / str(base) / str(delta)) for delta in deltas]
      verify(
        fold(str(export / "base" / str(base)), paths, str(folder / f"folded-{base}")),
        load_only=True,
      )
      verified["deltas"] += len(deltas)
  return verified


def _counts(counter):
  return ", ".join(f"{count} of {kind}" for kind, count in counter.items())


if __name__ == "__main__":
  main()
