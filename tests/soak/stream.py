"""kill -9 of join and trainer at random, over and over: each sample is trained exactly once.

Logs keep arriving, `tfps join` makes samples of them, and `tfps train` trains on these, in one
process and on a cluster. Both are killed and started again. In the end every feasign has the shows
and clicks of what was logged, to the last one.

  python -m tests.soak.stream --kills=20
"""

import argparse
import collections
import contextlib
import heapq
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

import tfps
from tests.patience import PATIENCE
from tests.soak import jobs

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE_SECONDS = 0.4  # between two files of the logs
BEGIN = 1_700_000_000  # event time of the first show; one each second
DAY_SECONDS = 400
SETTINGS = [
  "--config.batch_size=32", "--config.batches_per_ticket=2", "--config.table.num_shards=16",
  "--config.model.args.hidden=(4,)", "--config.accessor.delete_threshold=0",
  "--config.accessor.decay_rate=1.0",
  "--config.accessor.delete_after_unseen_days=65534",
  "--config.checkpoint.every_tickets=7", "--config.checkpoint.every_minutes=0.05",
  f"--config.stream.day_seconds={DAY_SECONDS}.0", "--config.stream.past_samples=3",
  "--config.stream.poll_seconds=0.05", "--config.stream.report_seconds=0.5",
]  # fmt: skip


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    "--kills", type=int, default=20, help="of join and trainer in one process (default 20)"
  )
  parser.add_argument(
    "--cluster-kills", type=int, default=4, help="of join and trainer on a cluster (default 4)"
  )
  parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
  flags = parser.parse_args()
  print(
    f"{flags.kills} kills in one process, {flags.cluster_kills} on a cluster; seed {flags.seed}"
  )
  with tempfile.TemporaryDirectory(prefix="stream-") as folder:
    soak(pathlib.Path(folder), flags)


def soak(folder, flags):
  rng = random.Random(flags.seed)
  for name, kills, cluster in (
    ("one process", flags.kills, False),
    ("a cluster", flags.cluster_kills, True),
  ):
    if kills:
      home = folder / name.split()[-1]
      home.mkdir()
      logs = Logs(home, rng.randrange(2**31))
      with logs, Join(home) as join, Trainer(home, cluster) as trainer:
        for kill in range(1, kills + 1):
          victim = (join, trainer)[kill % 2]
          victim.kill_at_random(rng)
          victim.start()
          print(
            f"  kill {kill} of {kills}: the {victim.name}, after {logs.shows:,} shows", flush=True
          )
        trainer.wait_until_it_trains()
        logs.end()
        trainer.finish(join.finish())
      days = check(home / "checkpoints", logs.shows)
      print(
        f"{name}: {kills} kills of join and trainer, {trainer.resumed} times on from a "
        f"checkpoint; {logs.shows:,} samples and {days} days, lost or doubled: none",
        flush=True,
      )


class Logs:
  """Files of both logs that keep arriving, in a thread, until `end`. Show n is in second n.

  Every third has a click.

  Attributes:
    shows: how many there are so far.
  """

  def __init__(self, home, seed):
    self._folders = {log: home / log for log in ("features", "actions")}
    for folder in self._folders.values():
      folder.mkdir()
    self._rng = random.Random(seed)
    self._clicks = []  # (when, request)
    self._files = 0
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._run)
    self.shows = 0

  def __enter__(self):
    self._thread.start()
    return self

  def __exit__(self, *exc_info):
    self.end()

  def end(self):
    if not self._ended.is_set():
      self._ended.set()
      self._thread.join()
      self._write(0, until=float("inf"))

  def _run(self):
    while not self._ended.wait(FILE_SECONDS):
      self._write(self._rng.choice([0, 1, 5, 40, 90, 200]))

  def _write(self, shows, until=None):
    features, actions = [], []
    for number in range(self.shows, self.shows + shows):
      features.append(self._record(number, BEGIN + number, user_id=f"u{number}"))
      if number % 3 == 0:
        when = BEGIN + number + self._rng.uniform(0, 25)
        heapq.heappush(self._clicks, (when, number))
    if shows < 10:  # within the disorder that the join allows
      self._rng.shuffle(features)
    self.shows += shows
    while self._clicks and self._clicks[0][0] <= (until or BEGIN + self.shows):
      when, number = heapq.heappop(self._clicks)
      actions.append(self._record(number, when, action="click"))
    for log, records in (("features", features), ("actions", actions)):
      hidden = self._folders[log] / f".{self._files:08d}.jsonl"
      hidden.write_text("".join(json.dumps(record) + "\n" for record in records))
      hidden.rename(self._folders[log] / hidden.name[1:])
    self._files += 1

  def _record(self, number, when, **more):
    return {"request_id": f"r{number}", "item_id": f"i{number % 50}", "time": when, **more}


class Process:
  """A command of tfps that can be killed and started again, with what it says since its start."""

  name = ""

  def __init__(self, home):
    self._home = home
    self._process = self._log = None
    self._starts = 0

  def __enter__(self):
    self.start()
    return self

  def __exit__(self, *exc_info):
    self._kill_group()

  def start(self, *more):
    env = jobs.environment(PYTHONUNBUFFERED="1")
    self._starts += 1
    self._log = self._home / f"{self.name}-{self._starts}.log"
    with open(self._log, "w") as log:
      self._process = subprocess.Popen(
        [sys.executable, "-m", "tfps", *self._command(), *more],
        env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
      )  # fmt: skip

  def _command(self):
    raise NotImplementedError

  def _output(self):
    return self._log.read_text()

  def _wait(self, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
      if self._process.poll() is not None or time.monotonic() > deadline:
        raise AssertionError(f"the {self.name} did not go on:\n{self._output()[-3000:]}")
      time.sleep(0.01)

  def _wait_for_end(self):
    if self._process.wait(timeout=PATIENCE) != 0:
      raise AssertionError(f"the {self.name} did not end with 0:\n{self._output()[-3000:]}")

  def _kill_group(self):
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self._process.pid, signal.SIGKILL)
    self._process.wait()


class Join(Process):
  """`tfps join` from the logs to the folder `<home>/samples`."""

  name = "join"

  def kill_at_random(self, rng):
    """kill -9 at a random moment once it has joined."""
    before, more = self._files(), rng.randint(1, 3)
    self._wait(lambda: self._files() >= before + more)
    time.sleep(rng.uniform(0, 0.5))
    self._kill_group()

  def finish(self):
    """Ends it, joins what is left, and returns the name of the last file of samples."""
    self._process.send_signal(signal.SIGTERM)
    self._wait_for_end()
    self.start("--once", "--close")
    self._wait_for_end()
    return max(path.name for path in (self._home / "samples").glob("samples-*"))

  def _command(self):
    return [
      "join", f"--config={ROOT / 'tests' / 'soak' / 'stream_join.py'}",
      f"--config.features.folder={self._home / 'features'}",
      f"--config.actions.folder={self._home / 'actions'}",
      f"--config.state={self._home / 'state'}", f"--config.samples.folder={self._home / 'samples'}",
    ]  # fmt: skip

  def _files(self):
    return len(list((self._home / "samples").glob("samples-*")))


class Trainer(Process):
  """`tfps train` on the folder `<home>/samples`.

  Attributes:
    resumed: how often it went on from a checkpoint.
  """

  name = "trainer"

  def __init__(self, home, cluster):
    super().__init__(home)
    self._cluster = cluster
    self._went_on = set()  # Which of its starts did.

  @property
  def resumed(self):
    return len(self._went_on)

  def kill_at_random(self, rng):
    """kill -9 at a random moment once it trains.

    Of a cluster to any one of its processes, then to what is left.
    """
    self.wait_until_it_trains()
    saved, more = self._newest(), rng.randint(1, 3)
    self._wait(lambda: self._newest() >= saved + more)
    time.sleep(rng.uniform(0, 0.5))
    if self._cluster:
      with contextlib.suppress(ProcessLookupError):
        os.kill(rng.choice(jobs.children_of(self._process.pid)), signal.SIGKILL)
      time.sleep(rng.uniform(0, 1))
    self._kill_group()

  def wait_until_it_trains(self):
    self._wait(lambda: "so far" in self._output())
    if re.search(r"Going on from \S*checkpoint-\d+:", self._output()):
      self._went_on.add(self._starts)

  def finish(self, last_file):
    """Waits until a checkpoint has trained the last file, and ends the trainer by SIGTERM."""
    self._wait(lambda: last_file in self._trained_files())
    self._process.send_signal(signal.SIGTERM)
    self._wait_for_end()

  def _command(self):
    command = ["train", f"--config={ROOT / 'configs' / 'stream.py'}", *SETTINGS]
    command += [f"--config.data.folder={self._home / 'samples'}"]
    command += [f"--config.checkpoint.folder={self._home / 'checkpoints'}"]
    if self._cluster:
      launch = ["launch", "--workers=1", "--ps=2", f"--log-dir={self._home / 'logs'}", "--"]
      command = [*launch, *command]
    return command

  def _trained_files(self):
    manifest = self._home / "checkpoints" / f"checkpoint-{self._newest()}" / "manifest.json"
    try:
      return json.loads(manifest.read_text())["calendar"]["cursor"]["arrivals"]["done"]
    except FileNotFoundError:  # There is a newer one by now.
      return []

  def _newest(self):
    paths = (self._home / "checkpoints").glob("checkpoint-*/manifest.json")
    return max((int(path.parent.name.split("-")[1]) for path in paths), default=0)


def check(checkpoints, shows):
  """Raises AssertionError unless every feasign has the shows and clicks of what was logged.

  Returns how many days ended.
  """
  expected = collections.defaultdict(lambda: np.zeros(2))
  numbers = np.arange(shows)
  counts = np.stack([np.ones(shows), numbers % 3 == 0], axis=1)
  for slot, texts in (
    ("user_id", [f"u{number}" for number in numbers]),
    ("item_id", [f"i{number % 50}" for number in numbers]),
  ):
    for key, count in zip(tfps.feasign(slot, texts).numpy().tolist(), counts):
      expected[key] += count
  rows = jobs.Rows(checkpoints)
  keys = sorted(expected)
  np.testing.assert_array_equal(rows.keys, keys, "the feasigns differ")
  for column, what in enumerate(("shows", "clicks")):
    wanted = [expected[key][column] for key in keys]
    np.testing.assert_array_equal(rows.columns["statistics"][:, column], wanted, f"{what} differ")
  return int(rows.columns["finished_day"].max()) + 1


if __name__ == "__main__":
  main()
