"""kill -9 of a trainer on a stream at random moments, over and over: each sample is trained exactly once.

Samples keep arriving in a folder while `tfps train` is killed and started again, in one process and on a cluster. In the
end, every feasign has the shows and clicks of what arrived, to the last one, and the stream's days have ended.

  python -m tests.soak.stream --kills=20
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
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import tfps

from tests import streams
from tests.soak import crashes

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_SECONDS = 600  # in which a restarted trainer must have got on
FILE_SECONDS = 0.15  # between two files
DAY_SECONDS = 400  # of event time: a sample each second
SETTINGS = [
  "--config.batch_size=32", "--config.batches_per_ticket=2", "--config.table.num_shards=16",
  "--config.model.args.hidden=(4,)", "--config.accessor.delete_threshold=0", "--config.accessor.decay_rate=1.0",
  "--config.checkpoint.every_tickets=7", "--config.checkpoint.every_minutes=0.05",
  f"--config.stream.day_seconds={DAY_SECONDS}.0", "--config.stream.past_samples=3",
  "--config.stream.poll_seconds=0.05", "--config.stream.report_seconds=0.5",
]  # fmt: skip


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--kills", type=int, default=20, help="in one process (default 20)")
  parser.add_argument("--cluster-kills", type=int, default=4, help="on a cluster (default 4)")
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
    if not kills:
      continue
    home = folder / name.split()[-1]
    with (
      Arrivals(home / "samples", rng.randrange(2**31)) as arrivals,
      Trainer(home, cluster) as trainer,
    ):
      for kill in range(1, kills + 1):
        trainer.kill_at_random(rng)
        trainer.start()
        print(f"  kill {kill} of {kills}: after {arrivals.samples:,} samples", flush=True)
      trainer.wait_until_resumed()
      arrivals.end()
      trainer.finish(arrivals.last_file)
    days = check(home / "checkpoints", arrivals.samples)
    print(
      f"{name}: {kills} kills, {trainer.resumed} times on from a checkpoint; {arrivals.samples:,} samples in "
      f"{arrivals.files} files and {days} days, lost or doubled: none",
      flush=True,
    )


class Arrivals:
  """Sample files that keep arriving, in a thread, until `end`. Sample n has event time n; some come in disorder.

  Attributes:
    samples, files: how many there are so far.
    last_file: name of the last file that holds samples.
  """

  def __init__(self, folder, seed):
    self._folder = folder
    self._rng = random.Random(seed)
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._run)
    self.samples = self.files = 0
    self.last_file = None

  def __enter__(self):
    self._thread.start()
    return self

  def __exit__(self, *exc_info):
    self.end()

  def end(self):
    self._ended.set()
    self._thread.join()

  def _run(self):
    while not self._ended.wait(FILE_SECONDS):
      size = self._rng.choice([0, 1, 5, 40, 90, 200])
      numbers = list(range(self.samples, self.samples + size))
      self._rng.shuffle(numbers)
      times = [1.7e9 + number for number in numbers]
      name = f"samples-{self.files:012d}.tfrecord"
      streams.write(self._folder, name, numbers, times, streams.joined)
      self.samples, self.files = self.samples + size, self.files + 1
      self.last_file = name if size else self.last_file


class Trainer:
  """`tfps train` on the folder `<home>/samples`, which can be killed and started again.

  Attributes:
    resumed: how often it went on from a checkpoint.
  """

  def __init__(self, home, cluster):
    self._home = home
    self._cluster = cluster
    self._process = None
    self._starts = 0
    self.resumed = 0

  def __enter__(self):
    self.start()
    return self

  def __exit__(self, *exc_info):
    self._kill_group()

  def start(self):
    command = [sys.executable, "-m", "tfps"]
    if self._cluster:
      command += ["launch", "--workers=1", "--ps=2", f"--log-dir={self._home / 'logs'}", "--"]
    command += ["train", f"--config={ROOT / 'configs' / 'stream.py'}", *SETTINGS]
    command += [f"--config.data.folder={self._home / 'samples'}"]
    command += [f"--config.checkpoint.folder={self._home / 'checkpoints'}"]
    env = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    env |= {"PYTHONUNBUFFERED": "1"}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    self._starts += 1
    self._log = self._home / f"log-{self._starts}"
    self._home.mkdir(exist_ok=True)
    with open(self._log, "w") as log:
      self._process = subprocess.Popen(
        command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
      )

  def kill_at_random(self, rng):
    """kill -9 at a random moment once it trains; of a cluster to any one of its processes, then to what is left."""
    self.wait_until_resumed()
    saved, more = self._newest(), rng.randint(0, 3)
    self._wait(lambda: self._newest() >= saved + more)
    time.sleep(rng.uniform(0, 0.5))
    if self._cluster:
      with contextlib.suppress(ProcessLookupError):
        os.kill(rng.choice(crashes.children_of(self._process.pid)), signal.SIGKILL)
      time.sleep(rng.uniform(0, 1))
    self._kill_group()

  def wait_until_resumed(self):
    """Waits until it has trained since its start."""
    self._wait(lambda: "so far" in self._output())
    if self._starts > 1:
      went_on = re.search(r"Going on from \S*checkpoint-(\d+):", self._output())
      self.resumed += went_on is not None

  def finish(self, last_file):
    """Waits until a checkpoint has trained the last file, and ends the trainer by SIGTERM."""
    self._wait(lambda: last_file in self._trained_files())
    chief = self._process.pid
    if self._cluster:
      chief = crashes.children_of(self._process.pid)[0]
    os.kill(chief, signal.SIGTERM)
    if self._process.wait(timeout=START_SECONDS) != 0:
      raise AssertionError(f"it did not end with 0:\n{self._output()[-3000:]}")

  def _trained_files(self):
    manifest = self._home / "checkpoints" / f"checkpoint-{self._newest()}" / "manifest.json"
    try:
      return json.loads(manifest.read_text())["calendar"]["cursor"]["arrivals"]["done"]
    except FileNotFoundError:  # There is a newer one by now.
      return []

  def _output(self):
    return self._log.read_text()

  def _newest(self):
    paths = (self._home / "checkpoints").glob("checkpoint-*/manifest.json")
    return max((int(path.parent.name.split("-")[1]) for path in paths), default=0)

  def _wait(self, condition):
    deadline = time.monotonic() + START_SECONDS
    while not condition():
      if self._process.poll() is not None or time.monotonic() > deadline:
        raise AssertionError(f"the trainer did not go on:\n{self._output()[-3000:]}")
      time.sleep(0.01)

  def _kill_group(self):
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self._process.pid, signal.SIGKILL)
    self._process.wait()


def check(checkpoints, samples):
  """Raises AssertionError unless every feasign has the shows and clicks of all samples; returns how many days ended."""
  expected = collections.defaultdict(lambda: np.zeros(2))
  numbers = np.arange(samples)
  counts = np.stack([np.ones(samples), numbers % 3 == 0], axis=1)
  for slot, texts in (
    ("user_id", [f"u{number}" for number in numbers]),
    ("item_id", [f"i{number % 50}" for number in numbers]),
  ):
    for key, count in zip(tfps.feasign(slot, texts).numpy().tolist(), counts):
      expected[key] += count
  rows = crashes.Rows(checkpoints)
  keys = sorted(expected)
  np.testing.assert_array_equal(rows.keys, keys, "the feasigns differ")
  for column, what in enumerate(("shows", "clicks")):
    np.testing.assert_array_equal(
      rows.columns["statistics"][:, column],
      [expected[key][column] for key in keys],
      f"{what} differ",
    )
  return int(rows.columns["finished_day"].max()) + 1


if __name__ == "__main__":
  main()
