"""A cluster's life: real processes, real TF_CONFIG, started by `tfps launch` or one by one."""

import ast
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.patience import PATIENCE, Clock, wait_until
from tests.soak import jobs
from tfps.cli import launch, supervisor
from tfps.cluster import exit_codes, failures, liveness, tf_config
from tfps.errors import ConfigError

CHIEF_LOST_SECONDS = 4

# What every role runs; the chief does what the first argument says.
PROGRAM = """
import sys
import tfps.cluster

strategy = tfps.cluster.strategy(connect_timeout=float(sys.argv[2]))
import tensorflow as tf

assert tfps.cluster.strategy() is strategy
with strategy.scope():
  totals = [tf.Variable(0.0) for _ in range(2)]
coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)

@tf.function
def step(index):
  for total in totals:
    total.assign_add(1.0, use_locking=True)
  return tf.gather([1.0, 2.0], index)

def run(count, index=0):
  for _ in range(count):
    coordinator.schedule(step, args=(tf.constant(index),))
  coordinator.join()

if sys.argv[1] == "count":
  for i in range(3):
    run(10)
    print(f"\\r{i + 1}/3", end="", flush=True)
  print()
  print("totals", [float(total.read_value()) for total in totals], flush=True)
elif sys.argv[1] == "fail":
  run(1, index=7)
elif sys.argv[1] == "loop":
  run(1)
  print("looping", flush=True)
  while True:
    run(20)
"""


@pytest.fixture(name="program", scope="module")
def _program(tmp_path_factory):
  path = tmp_path_factory.mktemp("program") / "program.py"
  path.write_text(PROGRAM)
  return str(path)


def _environment(**more):
  settings = dict(TFPS_CHIEF_LOST_SECONDS=str(CHIEF_LOST_SECONDS), TF_CPP_MIN_LOG_LEVEL="3")
  return jobs.environment(**{**settings, **more})


def _text(path):
  return path.read_text(errors="replace") if path.exists() else ""


@contextlib.contextmanager
def _launched(*arguments, log_dir):
  """Runs `tfps launch` in the background; its output goes to out.txt and err.txt in `log_dir`."""
  log_dir.mkdir()
  with open(log_dir / "out.txt", "wb") as out, open(log_dir / "err.txt", "wb") as err:
    process = subprocess.Popen(
      [sys.executable, "-m", "tfps", "launch", f"--log-dir={log_dir}", *arguments],
      stdout=out,
      stderr=err,
      env=_environment(),
      # Where the tests run in the background, SIGINT may be ignored, and that is inherited.
      preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
  try:
    yield process
  finally:
    process.kill()
    process.wait()


@contextlib.contextmanager
def _roles(program, mode, workers, ps, folder):
  """Runs every role without a launcher; yields {name: process}, with output in NAME.txt each."""
  processes = {}
  try:
    for job, index, config in launch._tf_configs(workers, ps):
      with open(folder / f"{job}{index}.txt", "wb") as out:
        processes[f"{job}{index}"] = subprocess.Popen(
          [sys.executable, program, mode, str(PATIENCE)],
          stdout=out,
          stderr=subprocess.STDOUT,
          env=_environment(TF_CONFIG=json.dumps(config)),
        )
    yield processes
  finally:
    for process in processes.values():
      process.kill()
      process.wait()


def test_normal_end(program, tmp_path):
  with _launched("--", program, "count", str(PATIENCE), log_dir=tmp_path / "logs") as launcher:
    assert launcher.wait(PATIENCE) == 0, _text(tmp_path / "logs" / "err.txt")
  out = (tmp_path / "logs" / "out.txt").read_bytes().decode()
  err = _text(tmp_path / "logs" / "err.txt")
  assert out == "\r1/3\r2/3\r3/3\ntotals [30.0, 30.0]\n"
  logs = tmp_path / "logs"
  assert "totals [30.0, 30.0]" in _text(logs / "chief.log")
  assert f"logs in {logs}" in err
  # Everyone ended by itself with 0: the launcher says so where it is otherwise.
  assert "ended with" not in err and "Ending" not in err
  for name in ("worker 0", "worker 1", "ps 0", "ps 1"):
    assert f"[{name}] Serving at 127.0.0.1:" in err
    assert "ending with exit code 0" in _text(logs / f"{name.replace(' ', '-')}.log")


def test_exception_on_the_chief_ends_all_and_says_its_cause(program, tmp_path):
  with _roles(program, "fail", workers=1, ps=1, folder=tmp_path) as processes:
    assert processes["chief0"].wait(PATIENCE) == 1
    for name in ("worker0", "ps0"):
      assert processes[name].wait(PATIENCE) == 1, _text(tmp_path / f"{name}.txt")
  lines = _text(tmp_path / "chief0.txt").splitlines()
  sentence = next(line for line in lines if line.startswith("tfps: "))
  assert re.fullmatch(
    r"tfps: indices = 7 is not in \[0, 2\) \(InvalidArgumentError in GatherV2 at .*program.py:"
    r"\d+ on worker 0 at 127.0.0.1:\d+\)",
    sentence,
  )
  # The coordinator's own log of it, with all traces, is not there.
  assert not any(line.startswith("ERROR:tensorflow") for line in lines)


def test_lost_parameter_server_is_named_by_the_chief(program, tmp_path):
  logs = tmp_path / "logs"
  arguments = ["--workers=1", "--ps=2", "--max-restarts=0", "--", program, "loop", str(PATIENCE)]
  with _launched(*arguments, log_dir=logs) as launcher:
    wait_until(lambda: "looping" in _text(logs / "out.txt"), lambda: launcher.poll() is None)
    address, pid = re.search(r"Serving at (\S+) \(pid (\d+)\)", _text(logs / "ps-1.log")).groups()
    os.kill(int(pid), signal.SIGKILL)
    assert launcher.wait(PATIENCE) == exit_codes.RESTART
  err = _text(logs / "err.txt")
  assert f"tfps: Parameter server 1 at {address} is lost (" in err
  assert "ps 1 ended with signal SIGKILL" in err


def test_lost_chief_ends_the_others(program, tmp_path):
  with _roles(program, "loop", workers=1, ps=1, folder=tmp_path) as processes:
    chief = processes["chief0"]
    wait_until(lambda: "looping" in _text(tmp_path / "chief0.txt"), lambda: chief.poll() is None)
    # Training goes on for longer than the limit: the probes find the chief, and do it no harm.
    time.sleep(CHIEF_LOST_SECONDS + 2)
    assert all(process.poll() is None for process in processes.values())
    chief.kill()
    for name in ("worker0", "ps0"):
      assert processes[name].wait(PATIENCE) == exit_codes.RESTART
      assert re.search(r"The chief at 127.0.0.1:\d+ is lost", _text(tmp_path / f"{name}.txt"))


# The launcher itself, with a program that needs no TensorFlow.
PLAIN = """
import json, os, sys, time
task = json.loads(os.environ["TF_CONFIG"])["task"]
name = f"{task['type']} {task['index']}"
print("pid", os.getpid(), flush=True)
if name == sys.argv[1]:
  while sys.argv[3:] and not os.path.exists(sys.argv[3]):
    time.sleep(0.02)
  print("the reason", file=sys.stderr)
  sys.exit(int(sys.argv[2]))
time.sleep(10_000)
"""


@pytest.fixture(name="plain", scope="module")
def _plain(tmp_path_factory):
  path = tmp_path_factory.mktemp("plain") / "plain.py"
  path.write_text(PLAIN)
  return str(path)


def _pids(logs):
  names = ("chief", "worker-0", "ps-0")
  # The line may come in parts.
  wait_until(lambda: all(re.search(r"pid \d+\n", _text(logs / f"{n}.log")) for n in names))
  return [int(_text(logs / f"{n}.log").split()[1]) for n in names]


def _alive(pid):
  try:
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
  except OSError:
    return False


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nobody_outlives_the_launcher(plain, tmp_path, signum):
  logs = tmp_path / "logs"
  arguments = ("--workers=1", "--ps=1", "--", plain, "nobody")
  with _launched(*arguments, log_dir=logs) as launcher:
    pids = _pids(logs)
    assert all(_alive(pid) for pid in pids)
    launcher.send_signal(signum)
    code = launcher.wait(PATIENCE)
    wait_until(lambda: not any(_alive(pid) for pid in pids))
  assert code == (-signum if signum == signal.SIGKILL else 128 + signum)


def test_task_that_fails_early_is_named(plain, tmp_path):
  logs, all_run = tmp_path / "logs", tmp_path / "all_run"
  arguments = ("--workers=1", "--ps=1", "--", plain, "worker 0", "7", str(all_run))
  with _launched(*arguments, log_dir=logs) as launcher:
    pids = _pids(logs)
    all_run.touch()
    assert launcher.wait(PATIENCE) == 1
    assert not any(_alive(pid) for pid in pids)
  err = _text(logs / "err.txt")
  assert "[worker 0] the reason" in err
  assert f"worker 0 ended with exit code 7; {logs}/worker-0.log ends with:" in err
  assert "\n  the reason\n" in err


def _launch_here(*arguments):
  """Runs `tfps launch` in this process; its exit code."""
  from tfps.cli import main

  handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
  try:
    return main.main(["launch", *arguments])
  finally:
    for signum, handler in handlers.items():
      signal.signal(signum, handler)


def test_exit_code_is_the_chiefs(plain, tmp_path, monkeypatch, capfd):
  monkeypatch.setattr(supervisor, "_OTHERS_END_SECONDS", 1.0)
  arguments = ["--workers=1", "--ps=1", f"--log-dir={tmp_path}", "--", plain]
  assert _launch_here(*arguments, "chief 0", "5") == 5
  assert "Ending worker 0, ps 0: still running 1 s after the chief." in capfd.readouterr().err


def test_workers_and_parameter_servers_share_the_cores(tmp_path, monkeypatch):
  names = ["TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"]
  program = tmp_path / "program.py"
  program.write_text(f"import os\nprint([os.environ.get(name) for name in {names}])\n")
  monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)))

  def threads():
    arguments = ["--workers=2", "--ps=3", "--evaluator", f"--log-dir={tmp_path}", "--"]
    assert _launch_here(*arguments, str(program)) == 0
    return {path.stem: ast.literal_eval(_text(path)) for path in tmp_path.glob("*.log")}

  for name in names:
    monkeypatch.delenv(name, raising=False)
  worker, ps, other = ["6", "6"], ["4", "4"], [None, None]
  expected = {"chief": other, "evaluator": other}
  expected |= {"worker-0": worker, "worker-1": worker, "ps-0": ps, "ps-1": ps, "ps-2": ps}
  assert threads() == expected
  monkeypatch.setenv(names[0], "3")
  assert threads() == {name: ["3", inter] for name, (_, inter) in expected.items()}


# The parts, in this process.


def _listening():
  server = socket.create_server(("127.0.0.1", 0))
  return server, f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(name="clock")
def _clock(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(liveness, "time", clock)
  return clock


def test_waiting_names_what_is_missing(clock):
  server, there = _listening()
  absent, missing = _listening()
  absent.close()
  cluster = tf_config.Cluster(chief=("a:1",), worker=(there,), ps=(missing,))
  lines = []
  with server, pytest.raises(TimeoutError) as raised:
    liveness.wait_for_servers(cluster, 1.0, lines.append, report_seconds=0.5)
  assert f"ps 0 ({missing})" in str(raised.value) and there not in str(raised.value)
  assert lines and set(lines) == {f"Waiting for ps 0 ({missing})."}


def test_chief_watch(clock):
  server, address = _listening()
  watch = liveness.ChiefWatch(address, lost_seconds=30)
  with server:
    clock.sleep(50)
    assert watch.poll() is None
  clock.sleep(10)
  assert watch.poll() is None  # unreachable, but not for long
  clock.sleep(30)
  assert f"The chief at {address} is lost" in watch.poll()
  never = liveness.ChiefWatch(address, lost_seconds=10, appear_seconds=40)
  clock.sleep(20)
  assert never.poll() is None
  clock.sleep(30)
  assert "did not appear" in never.poll()


def test_chief_lost_seconds_must_be_a_number(monkeypatch):
  monkeypatch.setenv("TFPS_CHIEF_LOST_SECONDS", "soon")
  with pytest.raises(ConfigError, match="TFPS_CHIEF_LOST_SECONDS is 'soon'"):
    liveness.ChiefWatch("a:1")


def test_explain_real_errors_of_one_process():
  import tensorflow as tf

  @tf.function
  def gather(index):
    return tf.gather([1.0], index)

  @tf.function
  def read():
    return next(iter(tf.data.TFRecordDataset(["/no/such/file"])))

  def explained(function, *arguments):
    with pytest.raises(tf.errors.OpError) as raised:
      function(*arguments)
    assert failures.is_tensorflow_error(raised.value)
    return failures.explain(raised.value)

  assert explained(gather, tf.constant(3)).startswith(
    "indices = 3 is not in [0, 1) (InvalidArgumentError in GatherV2"
  )
  assert explained(read).startswith("/no/such/file; No such file or directory (NotFoundError")
  assert failures.explain(ValueError("two\n  lines")) == "two lines"
  assert failures.explain(KeyError()) == "KeyError"
