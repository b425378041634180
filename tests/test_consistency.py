"""The modes of consistency on a real cluster, one of whose workers does not answer for a while."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from tfps.cli import launch

ROOT = pathlib.Path(__file__).resolve().parent.parent
TICKETS = 100
MAX_DELAY = 3
PER_STEP = 4

# The chief tells what its schedule does.
SCRIPT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import tfps
from tfps.training.schedule import Schedule
from tests import test_tickets

def told(name):
  method = getattr(Schedule, name)
  def tell(self, *arguments):
    result = method(self, *arguments)
    print(mode, name, *(arguments or [result]), flush=True)
    return result
  setattr(Schedule, name, tell)

for name in ("begin", "finish", "step"):
  told(name)
strategy = tfps.strategy()
with strategy.scope():
  table, model = test_tickets.make_model()
source = test_tickets.stream(days=1, examples_per_day={TICKETS * 30})
for mode, settings in {{
  "async": {{}}, "bounded": dict(max_delay={MAX_DELAY}), "sync": dict(tickets_per_step={PER_STEP})
}}.items():
  model.fit(source, communication=tfps.Communication(mode, **settings), verbose=0)
  print(mode, "ended", table.statistics()["show"], flush=True)
"""


class Cluster:
  """A chief, two workers and a parameter server that run the script."""

  def __init__(self, folder):
    self._folder = folder
    script = folder / "script.py"
    script.write_text(SCRIPT)
    env = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(ROOT)]))
    self.processes = {}
    for job, index, config in launch._tf_configs(workers=2, ps=1):
      with open(folder / f"{job}{index}.txt", "wb") as out:
        self.processes[job, index] = subprocess.Popen(
          [sys.executable, script], stdout=out, stderr=subprocess.STDOUT,
          env=env | {"TF_CONFIG": json.dumps(config)},
        )  # fmt: skip

  def output(self):
    return (self._folder / "chief0.txt").read_text()

  def events(self, mode):
    """[("begin", 0), ("finish", 0), ...] of what the schedule has done so far."""
    whole = self.output().rpartition("\n")[0].splitlines()
    lines = [line.split()[1:] for line in whole if line.startswith(f"{mode} ")]
    return [(name, None if value == "None" else float(value)) for name, value in lines]

  def wait(self, mode, condition):
    """The events once `condition` holds of them."""
    deadline = time.monotonic() + 120
    while not condition(events := self.events(mode)):
      assert time.monotonic() < deadline, self.output()[-3000:]
      assert self.processes["chief", 0].poll() in (None, 0), self.output()[-3000:]
      time.sleep(0.02)
    return events

  def wait_for_straggler(self, mode):
    """The events once only one ticket runs, and for a second nothing else happens."""
    events = self.wait(mode, lambda events: len(running(events)) == 1)
    time.sleep(1)
    assert self.events(mode) == events
    return events

  def signal(self, signal_number):
    self.processes["worker", 0].send_signal(signal_number)


def finished(events):
  return [number for name, number in events if name == "finish"]


def running(events):
  return {number for name, number in events if name == "begin"} - set(finished(events))


def ahead(events):
  """For each ticket by how much its number was larger than the smallest one running when it began."""
  result, now = [], set()
  for name, number in events:
    if name == "begin":
      now.add(number)
      result.append(number - min(now))
    elif name == "finish":
      now.remove(number)
  return result


@pytest.fixture(name="cluster")
def _cluster(tmp_path):
  cluster = Cluster(tmp_path)
  yield cluster
  for process in cluster.processes.values():
    process.kill()
    process.wait()


def test_the_modes_while_a_worker_does_not_answer(cluster):
  # async: the other worker goes on, for as long as it takes.
  cluster.wait("async", lambda events: len(finished(events)) >= 5)
  cluster.signal(signal.SIGSTOP)
  stopped = len(finished(cluster.events("async")))
  events = cluster.wait("async", lambda events: len(finished(events)) >= stopped + 30)
  assert max(finished(events)) - min(running(events)) >= 25
  cluster.signal(signal.SIGCONT)
  events = cluster.wait("async", lambda events: events[-1][0] == "ended")
  assert sorted(finished(events)) == list(range(TICKETS)) != finished(events)
  shows = events[-1][1]

  # bounded: the others stop where they are as far ahead as they may be.
  cluster.wait("bounded", lambda events: len(finished(events)) >= 5)
  cluster.signal(signal.SIGSTOP)
  events = cluster.wait_for_straggler("bounded")
  last_begun = max(number for name, number in events if name == "begin")
  assert last_begun - min(running(events)) == MAX_DELAY
  cluster.signal(signal.SIGCONT)
  events = cluster.wait("bounded", lambda events: events[-1][0] == "ended")
  assert sorted(finished(events)) == list(range(TICKETS, 2 * TICKETS))
  assert max(ahead(events)) == MAX_DELAY
  assert events[-1][1] == 2 * shows

  # sync: the step waits; when the worker dies, its tickets run on the other.
  cluster.wait("sync", lambda events: len(finished(events)) >= 5)
  cluster.signal(signal.SIGSTOP)
  events = cluster.wait_for_straggler("sync")
  assert events[-1][0] == "finish"
  cluster.signal(signal.SIGKILL)
  assert cluster.processes["chief", 0].wait(120) == 0, cluster.output()[-3000:]
  events = cluster.events("sync")
  assert sorted(finished(events)) == list(range(2 * TICKETS, 3 * TICKETS))
  begins, steps = (
    [i for i, event in enumerate(events) if event[0] == kind] for kind in ("begin", "step")
  )
  assert len(steps) == TICKETS // PER_STEP
  for step in range(len(steps)):
    end = len(events) if step + 1 == len(steps) else begins[PER_STEP * (step + 1)]
    round_of = events[begins[PER_STEP * step] : steps[step]]
    assert len(finished(round_of)) == PER_STEP and not running(round_of) and steps[step] < end
