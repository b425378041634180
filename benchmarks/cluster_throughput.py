"""Training on 2 workers and 2 parameter servers here, beside one process without embeddings.

The model of benchmarks/cluster_job.py: 26 slots, mf_dim 8, towers of 400-400-400, Adam, TFRecord
files. The ceiling is the same tower, input pipeline and optimizer in one process, without
embeddings but with the gradient with respect to its input. Three parts:

throughput: `tfps.Communication()` against the ceiling, in turn.
bytes: what the loopback interface carries for each step, from all measures against traffic off to
  the defaults, one after the other, and the defaults with one of them changed. Dense is what the
  cluster sends for the tower alone, sparse the rest.
straggler: one worker runs for a tenth of the time: examples per second before (examples_per_s) and
  then (straggler_per_s); the staleness of the pushes then, on average, and the largest of the run:
  updates that their server applied between a batch's pull and its push; and the most tickets that a
  push was behind the newest of its server.
"""

import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import cluster_job
import harness
from tqdm import tqdm

import tfps

ROOT = pathlib.Path(__file__).resolve().parent.parent
PARTS = ("throughput", "bytes", "straggler")
COLUMNS = (
  "part", "setting", "batch", "examples_per_s", "of_ceiling", "kB_per_step", "dense_kB",
  "sparse_kB",
  "packets_per_step", "straggler_per_s", "staleness", "staleness_max", "tickets_behind_max",
)  # fmt: skip

OFF = {
  "row_references": False,
  "dense_sync_every": 1,
  "dense_local_steps": False,
  "wire_dtype": "float32",
  "prefetch": False,
  "push_window": 1,
}
CHANGES = (
  {"dense_local_steps": False},
  {"dense_sync_every": 4},
  {"dense_sync_every": 16},
  {"wire_dtype": "bfloat16"},
  {"wire_dtype": "float16"},
  {"push_window": 4},
)
# {name: (settings, batches per ticket where they are not the flag's)}
MODES = {
  "async": ({}, None),
  "bounded 1": ({"consistency": "bounded", "max_delay": 1}, None),
  "bounded 2": ({"consistency": "bounded", "max_delay": 2}, None),
  "bounded 4": ({"consistency": "bounded", "max_delay": 4}, None),
  "sync": ({"consistency": "sync"}, None),
  "sync, tickets of 1 batch": ({"consistency": "sync"}, 1),
}
SLOWDOWN = 10


def main():
  flags = parser().parse_args()
  if len(flags.shares) != len(flags.batches):
    parser().error("--batches and --shares need as many numbers each.")
  with tempfile.TemporaryDirectory(prefix="cluster_throughput-") as folder:
    data = os.path.join(folder, "examples.tfrecord")
    cluster_job.write(data, flags.examples, flags.seed)
    with tqdm(total=runs(flags), unit=" runs") as progress:
      jobs = Jobs(data, folder, progress)
      measured = [PART_FUNCTIONS[part](flags, jobs) for part in PARTS if part in flags.parts]
  rows = [dict.fromkeys(COLUMNS) | row for rows, _ in measured for row in rows]
  goals = [goal for _, goals in measured for goal in goals]
  title = f"26 slots, towers of 400-400-400, 2 workers and 2 parameter servers, seed {flags.seed}"
  return harness.report(flags, title, rows, goals)


def parser():
  flags = harness.parser(__doc__)
  flags.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="which to measure")
  flags.add_argument("--batches", type=int, nargs="+", default=[2048, 512], help="batch sizes")
  flags.add_argument(
    "--shares", type=float, nargs="+", default=[0.8, 0.65], help="goals: of the ceiling, at least"
  )
  flags.add_argument("--batches_per_ticket", type=int, default=16, help="except for straggler")
  flags.add_argument("--examples", type=int, default=400_000, help="in the file")
  flags.add_argument("--passes", type=int, default=4, help="how often a day reads the file")
  flags.add_argument("--days", type=int, default=2, help="measured days of a run, for throughput")
  flags.add_argument("--repeats", type=int, default=3, help="runs of each, for throughput")
  flags.add_argument(
    "--ladder", choices=("ends", "all"), default="all",
    help="for bytes: only everything off and the defaults, or all between and the single changes",
  )  # fmt: skip
  flags.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="for straggler")
  flags.add_argument("--straggler_batch", type=int, default=512, help="batch size")
  flags.add_argument("--straggler_batches_per_ticket", type=int, default=4)
  flags.add_argument("--seed", type=int, default=0, help="of the data")
  return flags


def runs(flags):
  """How many jobs the parts run."""
  settings = [settings for _, settings in ladder(flags.ladder)]
  counts = {
    "throughput": 2 * len(flags.batches) * flags.repeats,
    "bytes": (len(settings) + len(set(map(dense_of, settings)))) * len(flags.batches),
    "straggler": len(flags.modes),
  }
  return sum(counts[part] for part in PARTS if part in flags.parts)


def throughput(flags, jobs):
  speeds = {}
  for _ in range(flags.repeats):
    for batch in flags.batches:
      for setting in ("ceiling", "async"):
        sizes = dict(batch_size=batch, batches_per_ticket=flags.batches_per_ticket)
        sizes |= dict(days=flags.days, passes=flags.passes)
        if setting == "ceiling":
          days = jobs.alone(f"ceiling, batch {batch}", OFF, model="ceiling", **sizes)
        else:
          days = jobs.cluster(f"async, batch {batch}", {}, **sizes)
        speed = statistics.median(day["examples"] / day["seconds"] for day in days)
        speeds.setdefault((batch, setting), []).append(speed)
  rows, goals = [], []
  for (batch, setting), values in speeds.items():
    row = {"part": "throughput", "setting": setting, "batch": batch}
    row["examples_per_s"] = harness.spread(values)
    if setting == "async":
      # Each by the ceiling of its own round: a slow moment of the machine hits both.
      shares = [mine / ceiling for mine, ceiling in zip(values, speeds[batch, "ceiling"])]
      row["of_ceiling"] = harness.spread(shares)
      limit = flags.shares[flags.batches.index(batch)]
      name = f"async at batch {batch:,}, of the ceiling"
      goals.append(harness.Goal(name, statistics.median(shares), limit, at_least=True))
    rows.append(row)
  return rows, goals


def traffic(flags, jobs):
  rows, goals = [], []
  for batch in flags.batches:
    sizes = dict(batch_size=batch, batches_per_ticket=flags.batches_per_ticket)
    sizes |= dict(days=1, passes=flags.passes)
    dense, per_step = {}, []
    for name, settings in ladder(flags.ladder):
      key = dense_of(settings)
      if key not in dense:
        (day,) = jobs.cluster(
          f"{name}, batch {batch}, dense alone", settings, model="tower", **sizes
        )
        dense[key] = day["bytes"] / day["steps"] / 1000
      (day,) = jobs.cluster(f"{name}, batch {batch}", settings, **sizes)
      per_step.append((settings, day["bytes"] / day["steps"] / 1000))
      rows.append(
        {
          "part": "bytes",
          "setting": name,
          "batch": batch,
          "examples_per_s": day["examples"] / day["seconds"],
          "kB_per_step": per_step[-1][1],
          "dense_kB": dense[key],
          "sparse_kB": per_step[-1][1] - dense[key],
          "packets_per_step": day["packets"] / day["steps"],
        }
      )
    (by_default,) = [kilobytes for settings, kilobytes in per_step if settings == defaults()]
    share = by_default / per_step[0][1]
    name = f"bytes of a step of {batch:,} by default, of those with everything off"
    goals.append(harness.Goal(name, share, 1.0))
  return rows, goals


def ladder(which="all"):
  """(name, settings) from everything off to the defaults, then the defaults with one change."""
  steps = [("everything off", OFF)]
  if which == "ends":
    return [*steps, ("the defaults", defaults())]
  for name, value in defaults().items():
    if value != OFF[name]:
      steps.append((f"+ {name}={value}", steps[-1][1] | {name: value}))
  for change in CHANGES:
    changed = defaults() | change
    if changed not in [settings for _, settings in steps]:
      (value,) = (f"{name}={value}" for name, value in change.items())
      steps.append((f"the defaults, {value}", changed))
  return steps


def defaults():
  """What a user gets who says nothing, of the fields in OFF."""
  communication = tfps.Communication()
  return {name: getattr(communication, name) for name in OFF}


def dense_of(settings):
  """The settings that the dense weights' traffic depends on, as a key."""
  return settings["dense_sync_every"], settings["dense_local_steps"]


def straggler(flags, jobs):
  rows, goals = [], []
  for name in flags.modes:
    settings, batches_per_ticket = MODES[name]
    usual, slowed = jobs.cluster(
      name,
      settings,
      batch_size=flags.straggler_batch,
      batches_per_ticket=batches_per_ticket or flags.straggler_batches_per_ticket,
      days=2,
      passes=1,
      slow_last_day=True,
    )
    found, before = slowed["statistics"], usual["statistics"]
    pushes, staleness = (found[key] - before[key] for key in ("pushes", "staleness_sum"))
    row = {
      "part": "straggler",
      "setting": name,
      "batch": flags.straggler_batch,
      "examples_per_s": usual["examples"] / usual["seconds"],
      "straggler_per_s": slowed["examples"] / slowed["seconds"],
      "staleness": staleness / pushes if pushes else None,
      "staleness_max": found["staleness_max"],
      "tickets_behind_max": found["tickets_ahead_max"],
    }
    rows.append(row)
    if "max_delay" in settings:
      what = f"{name}: tickets that a push was behind"
      goals.append(harness.Goal(what, row["tickets_behind_max"], settings["max_delay"]))
  return rows, goals


PART_FUNCTIONS = {"throughput": throughput, "bytes": traffic, "straggler": straggler}


class Jobs:
  """Runs benchmarks/cluster_job.py.

  Args:
    data: the file of examples.
    folder: where the logs go.
    progress: a tqdm bar of runs.
  """

  def __init__(self, data, folder, progress):
    self._data = data
    self._folder = pathlib.Path(folder)
    self._progress = progress
    self._runs = 0
    self._own_network = own_network()
    if not self._own_network:
      progress.write("bytes are those of all programs that use the loopback interface", sys.stderr)

  def alone(self, what, settings, **flags):
    """The measured days of a job in one process: a list of what the job prints for each."""
    return self._run(what, [sys.executable], settings, flags)

  def cluster(self, what, settings, slow_last_day=False, **flags):
    """The same on a cluster; with slow_last_day, one worker is slow on the last of them."""
    logs = self._folder / f"logs-{self._runs}"
    command = [*self._own_network, sys.executable, "-m", "tfps", "launch", "--workers=2", "--ps=2"]
    return self._run(what, [*command, f"--log-dir={logs}", "--"], settings, flags, slow_last_day)

  def _run(self, what, command, settings, flags, slow_last_day=False):
    self._progress.set_postfix_str(what)
    errors = self._folder / f"stderr-{self._runs}"
    command = [*command, cluster_job.__file__, f"--data={self._data}"]
    command += [f"--communication={json.dumps(settings)}"]
    command += [f"--{name}={value}" for name, value in flags.items()]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    environment.pop("TF_CONFIG", None)
    days, slowed = [], None
    with open(errors, "w") as stderr:
      process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=ROOT, env=environment
      )
      try:
        for line in process.stdout:
          if line.startswith("{"):
            days.append(json.loads(line))
            if slow_last_day and len(days) == flags["days"]:
              slowed = Slowed(worker_pid(self._folder / f"logs-{self._runs}"))
            elif slowed:
              slowed.end()
        code = process.wait()
      finally:
        if slowed:
          slowed.end()
        if process.poll() is None:
          process.terminate()  # `tfps launch` ends its processes.
          process.wait()
    if code or len(days) != 1 + flags["days"]:
      raise RuntimeError(f"{what} failed with {code}:\n{errors.read_text()[-3000:]}")
    self._runs += 1
    self._progress.update()
    return days[1:]


def own_network():
  """What a command begins with to have a loopback interface of its own.

  [] where that may not be.
  """
  command = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"']
  command.append("sh")
  try:
    done = subprocess.run([*command, "true"], capture_output=True)
  except FileNotFoundError:
    return []
  return [] if done.returncode else command


def worker_pid(logs):
  """The process id of worker 0, which its log begins with."""
  for line in (logs / "worker-0.log").read_text().splitlines():
    if line.startswith("Serving at ") and "(pid " in line:
      return int(line.split("(pid ")[1].split(")")[0])
  raise RuntimeError(f"{logs}/worker-0.log does not say its process id")


class Slowed:
  """Stops a process nine tenths of the time, from now on until `end`."""

  RUN_SECONDS = 0.01

  def __init__(self, pid):
    self._pid = pid
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._slow, daemon=True)
    self._thread.start()

  def _slow(self):
    try:
      while not self._ended.is_set():
        began = time.perf_counter()
        os.kill(self._pid, signal.SIGCONT)
        self._ended.wait(self.RUN_SECONDS)
        os.kill(self._pid, signal.SIGSTOP)
        self._ended.wait((time.perf_counter() - began) * (SLOWDOWN - 1))
      os.kill(self._pid, signal.SIGCONT)
    except ProcessLookupError:
      pass

  def end(self):
    self._ended.set()
    self._thread.join()


if __name__ == "__main__":
  sys.exit(main())
