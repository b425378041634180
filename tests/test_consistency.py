"""The modes of consistency on a real cluster, where one ticket takes as long as the test wants."""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

from tests.patience import PATIENCE, wait_until
from tfps.cli import launch

ROOT = pathlib.Path(__file__).resolve().parent.parent
TICKETS = 120
SLOW = 60  # number in its day of the ticket that takes long
MAX_DELAY = 3
PER_STEP = 4

# The chief tells what its schedule does.
SCRIPT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import tensorflow as tf, tfps
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

class Stream(tfps.data.ClickStream):
  # Its slow ticket does not end as long as the file is there.
  def reading(self, ticket):
    def wait(x, y):
      looks = 0
      if ticket.sequence == {SLOW}:
        # By way of `looks`, or TensorFlow would look once for all.
        while tf.size(tf.io.matching_files(path_after(looks))) > 0:
          looks += 1
      # Added to the labels, for otherwise the loop would be left out.
      return x, y + tf.cast(tf.minimum(looks, 0), y.dtype)

    reading = super().reading(ticket)
    return reading._replace(batches=reading.batches.map(wait))

def path_after(looks):
  return tf.strings.regex_replace(tf.strings.as_string(looks), "^.*$", sys.argv[1])

source = Stream(days=1, examples_per_day={TICKETS * 30}, batch_size=10, batches_per_ticket=3)
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
    self._hold = folder / "hold"
    self.hold()
    env = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(ROOT)]))
    self.processes = {}
    for job, index, config in launch._tf_configs(workers=2, ps=1):
      with open(folder / f"{job}{index}.txt", "wb") as out:
        self.processes[job, index] = subprocess.Popen(
          [sys.executable, script, self._hold], stdout=out, stderr=subprocess.STDOUT,
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
    wait_until(
      lambda: condition(self.events(mode)),
      lambda: self.processes["chief", 0].poll() is None,
      lambda: self.output()[-3000:],
    )
    return self.events(mode)

  def hold(self):
    """From now on the slow ticket does not end, once it has begun."""
    self._hold.touch()

  def release(self):
    self._hold.unlink()

  def wait_for_straggler(self, mode, number, last):
    """The events once all tickets up to `last` but `number` are finished and nothing else comes."""
    done = set(range(number - SLOW, last + 1)) - {number}
    events = self.wait(mode, lambda events: set(finished(events)) >= done)
    time.sleep(1)
    assert self.events(mode) == events and running(events) == {number}
    assert set(finished(events)) == done
    return events


def finished(events):
  return [number for name, number in events if name == "finish"]


def running(events):
  return {number for name, number in events if name == "begin"} - set(finished(events))


def ahead(events):
  """By how much each ticket's number was larger than the smallest one running when it began."""
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


def test_the_modes_while_one_ticket_takes_long(cluster):
  # async: the other worker goes on with all the rest.
  events = cluster.wait("async", lambda events: len(finished(events)) == TICKETS - 1)
  assert running(events) == {SLOW}
  cluster.release()
  events = cluster.wait("async", lambda events: events[-1][0] == "ended")
  cluster.hold()
  assert sorted(finished(events)) == list(range(TICKETS)) and finished(events)[-1] == SLOW
  shows = events[-1][1]

  # bounded: the others go as far ahead as they may.
  slow = TICKETS + SLOW
  cluster.wait_for_straggler("bounded", slow, slow + MAX_DELAY)
  cluster.release()
  events = cluster.wait("bounded", lambda events: events[-1][0] == "ended")
  cluster.hold()
  assert sorted(finished(events)) == list(range(TICKETS, 2 * TICKETS))
  assert max(ahead(events)) == MAX_DELAY
  assert events[-1][1] == 2 * shows

  # sync: the step waits; when a worker dies, its ticket runs on the other.
  slow = 2 * TICKETS + SLOW
  cluster.wait_for_straggler("sync", slow, slow + PER_STEP - 1)
  cluster.processes["worker", 0].kill()
  cluster.release()
  assert cluster.processes["chief", 0].wait(PATIENCE) == 0, cluster.output()[-3000:]
  names = [name for name, number in cluster.events("sync")]
  assert names == [*["begin"] * PER_STEP, *["finish"] * PER_STEP, "step"] * (
    TICKETS // PER_STEP
  ) + ["ended"]
  assert sorted(finished(cluster.events("sync"))) == list(range(2 * TICKETS, 3 * TICKETS))
