"""`tfps launch` starts again what dies, and not what fails: processes that need no TensorFlow."""

import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from tests.patience import PATIENCE, wait_until
from tests.soak import jobs
from tfps.cluster import exit_codes

# Each task says how often it was started, and then does what the file `<name>.<start>` says: leave
# with a code, or wait for a file. It runs until the file `done` is there.
PROGRAM = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
task = json.loads(os.environ["TF_CONFIG"])["task"]
name = f"{task['type']}-{task['index']}"
start = 1 + len(list(folder.glob(f"{name}.started.*")))
if (folder / f"{name}.finishes").exists():
  signal.signal(signal.SIGTERM, lambda *_: (folder / "done").touch())
(folder / f"{name}.started.{start}").write_text(str(os.getpid()))
print("start", start, flush=True)
for plan in (folder / f"{name}.{start}", folder / f"{name}.always"):
  if plan.exists():
    print("the reason", file=sys.stderr, flush=True)
    sys.exit(int(plan.read_text()))
while not (folder / "done").exists():
  time.sleep(0.05)
if (folder / f"{name}.finishes").exists():
  time.sleep(2)
"""


class Cluster:
  """A launcher of PROGRAM with one worker and one parameter server."""

  def __init__(self, folder, *arguments):
    self.folder = folder
    program = folder / "program.py"
    program.write_text(PROGRAM)
    self.errors = folder / "errors"
    command = ["launch", "--workers=1", "--ps=1", f"--log-dir={folder}/logs", *arguments]
    with open(self.errors, "wb") as errors:
      self.process = subprocess.Popen(
        [sys.executable, "-m", "tfps", *command, "--", str(program), str(folder)],
        env=jobs.environment(), stdout=subprocess.DEVNULL, stderr=errors,
      )  # fmt: skip

  def starts(self):
    """{task: how often it was started}."""
    found = [path.name.split(".started.")[0] for path in self.folder.glob("*.started.*")]
    return {name: found.count(name) for name in set(found)}

  def pid(self, name, start):
    """The process of a task's n-th start, once it has begun."""
    path = self.folder / f"{name}.started.{start}"
    return int(self.wait_until(lambda: path.exists() and path.read_text()))

  def wait_until(self, condition):
    return wait_until(condition, lambda: self.process.poll() is None, self.errors.read_text)

  def finish(self):
    (self.folder / "done").touch()
    return self.process.wait(PATIENCE), self.errors.read_text()


@pytest.fixture(name="start")
def _start(tmp_path):
  started = []

  def start(*arguments):
    started.append(Cluster(tmp_path, *arguments))
    return started[-1]

  yield start
  for cluster in started:
    cluster.process.kill()
    cluster.process.wait()


def test_a_worker_is_started_again_alone(start):
  cluster = start()
  for name in ("chief-0", "ps-0"):
    cluster.pid(name, 1)
  os.kill(cluster.pid("worker-0", 1), signal.SIGKILL)
  cluster.pid("worker-0", 2)
  code, errors = cluster.finish()
  assert code == 0
  assert cluster.starts() == {"chief-0": 1, "ps-0": 1, "worker-0": 2}
  assert (
    "worker 0 ended with signal SIGKILL; starting it again in 1 s (restart 1 of at most 10 in a "
    "row).\n" in errors
  )
  # One log for all of its processes.
  assert (cluster.folder / "logs" / "worker-0.log").read_text() == "start 1\nstart 2\n"


@pytest.mark.parametrize("lost", ["chief-0", "ps-0"])
def test_with_the_chief_or_a_parameter_server_all_start_again(start, lost):
  cluster = start()
  first = [cluster.pid(name, 1) for name in ("chief-0", "ps-0", "worker-0")]
  os.kill(cluster.pid(lost, 1), signal.SIGKILL)
  for name in ("chief-0", "ps-0", "worker-0"):
    assert cluster.pid(name, 2) not in first
  assert not any(
    pathlib.Path(f"/proc/{pid}").exists() for pid in first
  )  # No old one beside a new one.
  code, errors = cluster.finish()
  assert code == 0
  assert cluster.starts() == {"chief-0": 2, "ps-0": 2, "worker-0": 2}
  assert "chief, workers and parameter servers start again in 1 s" in errors


def test_a_chief_that_asks_for_it_is_started_again(start, tmp_path):
  (tmp_path / "chief-0.1").write_text(str(exit_codes.RESTART))
  cluster = start()
  cluster.pid("chief-0", 2)
  assert cluster.finish()[0] == 0


@pytest.mark.parametrize("failing", ["chief-0", "worker-0", "ps-0"])
def test_a_program_that_fails_is_not_started_again(start, tmp_path, failing):
  (tmp_path / f"{failing}.1").write_text("1")
  cluster = start()
  if failing == "chief-0":
    (tmp_path / "done").touch()
  assert cluster.process.wait(PATIENCE) == 1
  assert set(cluster.starts().values()) == {1}
  assert "again" not in cluster.errors.read_text()


@pytest.mark.parametrize("failing", ["chief-0", "worker-0", "ps-0"])
def test_it_gives_up_what_ends_at_once_again_and_again(start, tmp_path, failing):
  (tmp_path / f"{failing}.always").write_text("139")  # as a shell says SIGSEGV
  cluster = start("--max-restarts=2")
  assert cluster.process.wait(PATIENCE) == (139 if failing == "chief-0" else 1)
  assert cluster.starts()[failing] == 3
  errors = cluster.errors.read_text()
  pauses = re.findall(r"again in (\d+) s \(restart (\d) of at most 2 in a row\)", errors)
  assert pauses == [("1", "1"), ("2", "2")]
  name = failing.removesuffix("-0") if failing == "chief-0" else failing.replace("-", " ")
  assert f"{name} ended with exit code 139; {tmp_path}/logs/" in errors
  assert "\n  the reason\n" in errors
  assert (
    "Giving up: started again 2 times in a row (--max-restarts), without running for 60 s.\n"
    in errors
  )


def test_an_evaluator_is_started_again_and_given_up_alone(start, tmp_path):
  (tmp_path / "evaluator-0.always").write_text("137")
  cluster = start("--evaluator", "--max-restarts=1")
  cluster.pid("evaluator-0", 2)
  cluster.wait_until(lambda: "Giving up" in cluster.errors.read_text())
  assert cluster.finish()[0] == 0
  assert cluster.starts() == {"chief-0": 1, "ps-0": 1, "worker-0": 1, "evaluator-0": 2}


def test_a_chief_may_finish_on_sigterm(start, tmp_path):
  (tmp_path / "chief-0.finishes").touch()
  cluster = start()
  for name in ("chief-0", "ps-0", "worker-0"):
    cluster.pid(name, 1)
  cluster.process.send_signal(signal.SIGTERM)
  assert cluster.process.wait(PATIENCE) == 0
  errors = cluster.errors.read_text()
  assert "Ending the cluster: SIGTERM." in errors and "ended with" not in errors
