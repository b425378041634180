"""`tfps train` on a stream: SIGTERM ends it with a checkpoint and 0, also on a cluster."""

import collections
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import tfps
from tests import streams
from tests.patience import PATIENCE, wait_until
from tests.soak import jobs
from tfps.checkpoint.folder import CHECKPOINTS
from tfps.errors import CheckpointError

ROOT = pathlib.Path(__file__).resolve().parent.parent
SMALL = [
  "--config.batch_size=16", "--config.batches_per_ticket=2", "--config.table.num_shards=16",
  "--config.model.args.hidden=(4,)", "--config.stream.poll_seconds=0.05",
  "--config.stream.report_seconds=0.5",
  "--config.accessor.delete_threshold=0", "--config.accessor.decay_rate=1.0",
]  # fmt: skip


class Run:
  """`tfps train --config=configs/stream.py` as processes, with its output as it comes.

  On a cluster with so many workers.
  """

  def __init__(self, folder, *arguments, cluster=0):
    self._log = folder / f"log-{len(list(folder.glob('log-*')))}"
    command = [sys.executable, "-m", "tfps"]
    if cluster:
      command += [
        "launch",
        f"--workers={cluster}",
        "--ps=1",
        f"--log-dir={folder / 'logs'}",
        "--",
        "train",
      ]
    else:
      command += ["train"]
    command += [f"--config={ROOT / 'configs' / 'stream.py'}", *SMALL]
    command += [f"--config.data.folder={folder / 'samples'}", *arguments]
    command += [f"--config.checkpoint.folder={folder / 'checkpoints'}"]
    environment = jobs.environment(PYTHONUNBUFFERED="1")
    with open(self._log, "w") as log:
      self.process = subprocess.Popen(
        command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder,
        start_new_session=True
      )  # fmt: skip

  def __enter__(self):
    return self

  def __exit__(self, *exc_info):
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.process.pid, signal.SIGKILL)
    self.process.wait()

  @property
  def output(self):
    return self._log.read_text()

  def wait_for(self, pattern):
    return self.wait_until(lambda: re.search(pattern, self.output))

  def wait_until(self, condition):
    return wait_until(condition, lambda: self.process.poll() is None, lambda: self.output[-3000:])

  def end(self, signum=None):
    """The exit code, after a signal if one is given."""
    if signum is not None:
      self.process.send_signal(signum)
    return self.process.wait(timeout=PATIENCE)


def write(folder, number, samples, times=None):
  numbers = range(number * 100, number * 100 + samples)
  times = [1.7e9 + n for n in numbers] if times is None else times
  streams.write(
    folder / "samples", f"samples-{number:012d}.tfrecord", numbers, times, streams.joined
  )


def check(folder, files):
  """Asserts that every sample of the files was trained once: each feasign's shows and clicks."""
  numbers = [i * 100 + n for i, samples in enumerate(files) for n in range(samples)]
  expected = collections.Counter()
  for number in numbers:
    for slot, text in (("user_id", f"u{number}"), ("item_id", f"i{number % 50}")):
      expected[int(tfps.feasign(slot, [text])[0])] += np.array([1, number % 3 == 0])
  rows = jobs.Rows(folder / "checkpoints")
  assert rows.keys.tolist() == sorted(expected)
  found = rows.columns["statistics"][:, :2].tolist()
  assert found == [expected[key].tolist() for key in sorted(expected)]


def trained_offsets(folder):
  """The sum of the offsets in the newest checkpoint's cursor."""
  try:
    newest = max(CHECKPOINTS.numbers(str(folder)), default=0)
    calendar = CHECKPOINTS.read(CHECKPOINTS.path_of(str(folder), newest)).calendar
  except CheckpointError:  # There is a newer one by now.
    return 0
  return sum(calendar["cursor"]["arrivals"]["offsets"].values())


@pytest.mark.parametrize("cluster, later", [(0, 0), (2, 1)], ids=["one process", "cluster"])
def test_sigterm_ends_with_a_checkpoint_and_the_run_goes_on(cluster, later, tmp_path):
  write(tmp_path, 0, 70)
  with Run(tmp_path, cluster=cluster) as run:
    run.wait_for("so far 70")
    write(tmp_path, 1, 50)
    run.wait_for("so far 120")
    assert run.end(signal.SIGTERM) == 0, run.output
    assert "total shows                 240" in run.output
    assert re.search(r"event to trained +[\d,.]+  s on average", run.output)
  check(tmp_path, [70, 50])
  # What is trained and saved may be removed.
  (tmp_path / "samples" / "samples-000000000000.tfrecord").unlink()
  write(tmp_path, 2, 30)
  with Run(tmp_path, "--config.stream.stop_after_idle=1", cluster=later) as run:
    assert run.end() == 0, run.output
    assert "Going on from" in run.output and "so far 30," in run.output
  check(tmp_path, [70, 50, 30])


def test_a_topic_on_a_cluster_is_trained_once_over_a_restart(tmp_path):
  """Killed in the middle.

  Messages that come then, and those after the last checkpoint, are trained by one process.
  """
  kafka = pytest.importorskip("confluent_kafka")
  producer = kafka.Producer(
    {"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 1, "log_level": 3}
  )
  (broker,) = producer.list_topics(timeout=PATIENCE).brokers.values()
  topic = [
    f"--config.data.brokers={broker.host}:{broker.port}", "--config.data.topic=samples",
    f"--config.data.spool={tmp_path / 'spool'}", "--config.checkpoint.every_tickets=1",
  ]  # fmt: skip

  def send(numbers):
    for number in numbers:
      value = streams.joined(number, int(1e3 * (1.7e9 + number)))
      producer.produce("samples", value, partition=number % 3)
    assert producer.flush(PATIENCE) == 0

  send(range(600))
  with Run(tmp_path, *topic, cluster=1) as run:
    # Most of what is fetched is not trained when it is killed.
    run.wait_until(lambda: list((tmp_path / "checkpoints").glob("checkpoint-*/manifest.json")))
    send(range(600, 610))
  send(range(610, 640))
  (tmp_path / "spool" / "samples-of-the-dead.tfrecord").write_bytes(b"what was not trained")
  with Run(tmp_path, *topic) as run:
    run.wait_until(lambda: trained_offsets(tmp_path / "checkpoints") == 640)
    assert run.end(signal.SIGTERM) == 0, run.output
    assert "Going on from" in run.output
  check(tmp_path, [640])
  assert not list((tmp_path / "spool").iterdir())
