"""What a restarted task finds, and what finds it: real processes, killed and started again."""

import json
import subprocess
import sys
import time

import pytest

from tests.patience import PATIENCE, wait_until
from tests.soak import jobs
from tfps.cli import launch
from tfps.cluster import exit_codes

# Every role. The chief makes a table and a variable on each parameter server, and then does what it
# reads.
PROGRAM = """
import os, sys, time
import tfps
from tfps.cluster import ending, members
ending._RAISE_SECONDS = float(os.environ.get("RAISE_SECONDS", ending._RAISE_SECONDS))
members._ANSWER_SECONDS = float(os.environ["PATIENCE"])
strategy = tfps.strategy()
import tensorflow as tf
from tfps import native

with strategy.scope():
  table = tfps.FeasignTable("ctr", mf_dim=2)
  totals = [tf.Variable(0.0) for _ in range(4)]
coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
keys = [tf.constant([7], tf.int64)] * table.num_servers
part = (keys[0], tf.constant([1]), tf.ones([1]), tf.zeros([1]), tf.zeros([1, 3]))

@tf.function
def pull():
  return table.pull(keys)

@tf.function
def push():
  table.push([part] * table.num_servers)
  return tf.constant(0)

@tf.function
def read():
  return tf.add_n([total.read_value() for total in totals])

on_chief = {
  "statistics": table.statistics,
  "end of day": lambda: table.end_of_day(0),
  "read the variables": lambda: [total.numpy() for total in totals],
}
on_worker = {"pull": pull, "push": push, "read on a worker": read}

def try_all():
  for name, function in on_chief.items():
    yield name, function
  for name, function in on_worker.items():
    yield name, lambda function=function: coordinator.schedule(function).fetch()

for name, function in try_all():
  function()
print("running", flush=True)
for line in sys.stdin:
  if line == "try all\\n":
    for name, function in try_all():
      try:
        function()
        print(name, "worked", flush=True)
      except Exception as error:
        print(name, "failed", type(error).__name__, flush=True)
    print("tried all", flush=True)
  elif line == "go on\\n":
    table.statistics()
    coordinator.schedule(push).fetch()
    print("went on", flush=True)
"""


class Cluster:
  """A chief, a worker and two parameter servers, each started by its own command."""

  def __init__(self, folder):
    self.folder = folder
    # Only a port that refuses connections tells that a task is lost.
    self.environment = dict(TFPS_CHIEF_LOST_SECONDS=str(PATIENCE), PATIENCE=str(PATIENCE))
    (folder / "program.py").write_text(PROGRAM)
    self.configs = {(job, i): config for job, i, config in launch._tf_configs(workers=1, ps=2)}
    self.processes = {}
    self.logs = {}

  def start(self, *task):
    self.logs[task] = self.folder / f"{task[0]}{task[1]}.{time.monotonic_ns()}.log"
    env = jobs.environment(
      TF_CONFIG=json.dumps(self.configs[task]), PYTHONUNBUFFERED="1", TF_CPP_MIN_LOG_LEVEL="3",
      **self.environment,
    )  # fmt: skip
    with open(self.logs[task], "wb") as log:
      self.processes[task] = subprocess.Popen(
        [sys.executable, str(self.folder / "program.py")],
        env=env, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
      )  # fmt: skip

  def start_all(self):
    for task in self.configs:
      self.start(*task)
    self.wait_for("running", "chief", 0)

  def tell(self, line):
    self.processes["chief", 0].stdin.write(f"{line}\n".encode())
    self.processes["chief", 0].stdin.flush()

  def said(self, *task):
    return self.logs[task].read_text(errors="replace")

  def wait_for(self, text, *task):
    wait_until(
      lambda: text in self.said(*task),
      lambda: self.processes[task].poll() is None,
      lambda: self.said(*task),
    )

  def kill(self, *task):
    self.processes[task].kill()
    self.processes[task].wait()

  def close(self):
    for process in self.processes.values():
      process.kill()
      process.communicate()


@pytest.fixture(name="cluster")
def _cluster(tmp_path):
  cluster = Cluster(tmp_path)
  yield cluster
  cluster.close()


def test_a_new_chief_does_not_take_an_old_ones_servers(cluster):
  cluster.start_all()
  cluster.kill("chief", 0)
  cluster.start("chief", 0)  # Before the others can know that theirs is lost.
  assert cluster.processes["chief", 0].wait(PATIENCE) == exit_codes.RESTART
  assert "worker 0 still serves an earlier chief, and holds that chief's rows" in cluster.said(
    "chief", 0
  )
  for task in (("worker", 0), ("ps", 0), ("ps", 1)):
    assert cluster.processes[task].wait(PATIENCE) == exit_codes.RESTART
  # And as its supervisor would: all again.
  cluster.start_all()


def test_a_restarted_parameter_server_is_no_parameter_server(cluster):
  """It is empty, at the address of one with rows: nothing makes a table there, nor trains on it."""
  # What the program does then is seen by its own means: it is not ended from outside before.
  cluster.environment["RAISE_SECONDS"] = str(PATIENCE)
  cluster.start_all()
  cluster.kill("ps", 1)
  cluster.start("ps", 1)
  cluster.wait_for("Serving at", "ps", 1)
  # A lost worker has TensorFlow connect to all that is there.
  cluster.kill("worker", 0)
  cluster.start("worker", 0)
  cluster.wait_for("Serving at", "worker", 0)
  cluster.tell("try all")
  cluster.wait_for("tried all", "chief", 0)
  assert " worked\n" not in cluster.said("chief", 0)
  cluster.tell("go on")  # Nobody catches what that raises, whatever TensorFlow calls it.
  assert cluster.processes["chief", 0].wait(PATIENCE) == exit_codes.RESTART, cluster.said(
    "chief", 0
  )
  address = cluster.configs["ps", 1]["cluster"]["ps"][1]
  assert f"tfps: ps 1 ({address}) is lost." in cluster.said("chief", 0)
  for task in (("worker", 0), ("ps", 0)):
    assert cluster.processes[task].wait(PATIENCE) == exit_codes.RESTART


def test_a_restarted_worker_rejoins_and_a_lost_server_ends_a_chief_that_is_busy_otherwise(cluster):
  cluster.environment["RAISE_SECONDS"] = "2"
  cluster.start_all()
  cluster.kill("worker", 0)
  cluster.tell("go on")
  time.sleep(1)
  cluster.start("worker", 0)
  cluster.wait_for("went on", "chief", 0)
  cluster.kill("ps", 0)  # The program waits for its input, and does not notice.
  for task in (("chief", 0), ("worker", 0), ("ps", 1)):
    assert cluster.processes[task].wait(PATIENCE) == exit_codes.RESTART, cluster.said(*task)
  assert "tfps: error: parameter server 0 at " in cluster.said("chief", 0)
