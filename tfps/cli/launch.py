"""Runs a whole cluster on this machine: a chief, workers, parameter servers, perhaps an evaluator.

What follows -- is what every role runs: a command of tfps (train --config=...), or a program of
your own (script.py with its arguments) that calls tfps.strategy(). Every process finds its role in
TF_CONFIG and writes a log of its own. The chief's output appears as it is, the others' lines with
their names before them. The exit code is the chief's.

A process that dies is started again: a worker or evaluator alone; after the chief or a parameter
server all of them, which go on from the last checkpoint. A program that fails is not.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import signal
import socket
import sys
import time
from collections.abc import Iterator

from tfps.cli import supervisor
from tfps.cluster import resources
from tfps.errors import ConfigError

NAME = "launch"
HELP = "run a cluster of processes on this machine"

_SINGLE = ("chief", "evaluator")  # of which there is one


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.usage = (
    "tfps launch [--workers=N] [--ps=N] [--evaluator] [--max-restarts=N] [--log-dir=DIR] "
    "[--verbose] -- COMMAND ..."
  )
  parser.add_argument("--workers", type=_count, default=2, metavar="N", help="default 2")
  parser.add_argument(
    "--ps", type=_count, default=2, metavar="N", help="parameter servers, default 2"
  )
  parser.add_argument(
    "--evaluator",
    action="store_true",
    help="one more process, which evaluates the checkpoints; its failure does not end the others",
  )
  parser.add_argument(
    "--max-restarts",
    type=_restarts,
    default=10,
    metavar="N",
    help="give up when processes were started again so often in a row, none running for a minute; "
    "default 10, 0: start nothing again",
  )
  parser.add_argument(
    "--log-dir",
    type=pathlib.Path,
    metavar="DIR",
    help="where chief.log, worker-0.log, ps-0.log, ... go; default runs/TIME/logs",
  )
  parser.add_argument(
    "command",
    nargs="+",
    metavar="COMMAND",
    help="a command of tfps, or a Python script, with its arguments",
  )


def run(args: argparse.Namespace) -> int:
  program = _program(args.command)
  log_dir = args.log_dir or _new_run_folder() / "logs"
  log_dir.mkdir(parents=True, exist_ok=True)
  received: list[int] = []
  for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(signum) != signal.SIG_IGN:  # as under nohup
      signal.signal(signum, lambda number, frame: received.append(number))
  tasks = []
  for job, index, tf_config in _tf_configs(args.workers, args.ps, args.evaluator):
    name = job if job in _SINGLE else f"{job} {index}"
    env = {**os.environ, "TF_CONFIG": json.dumps(tf_config), "PYTHONUNBUFFERED": "1"}
    if job in ("worker", "ps"):
      env |= resources.share_of_cores(args.workers if job == "worker" else args.ps)
    log = log_dir / f"{name.replace(' ', '-')}.log"
    log.write_bytes(b"")
    tasks.append(supervisor.Task(name, env, log))
  cluster = supervisor.Supervisor(program, tasks, args.max_restarts, received)
  roles = f"A chief, {args.workers} workers and {args.ps} parameter servers"
  roles += ", and an evaluator" if args.evaluator else ""
  cluster.stream.say(f"{roles}; logs in {log_dir}")
  try:
    return cluster.run()
  finally:
    cluster.kill()


def _program(command: list[str]) -> list[str]:
  """Returns the program of every process; wrong settings are found here, once."""
  from tfps.cli import main

  names = [module.NAME for module in main.COMMANDS if module.NAME != NAME]
  if command[0].endswith(".py"):
    if not pathlib.Path(command[0]).is_file():
      raise ConfigError(f"There is no file {command[0]}; give the path of a Python script.")
    return [sys.executable, *command]
  if command[0] not in names:
    raise ConfigError(
      f"{command[0]!r} is neither a command of tfps ({', '.join(names)}) nor a script ending in "
      ".py; write tfps launch -- train --config=..."
    )
  args = main.parse(command)
  if hasattr(args.command_module, "check"):
    args.command_module.check(args)
  return [sys.executable, "-m", "tfps", *command]


def _tf_configs(workers: int, ps: int, evaluator: bool = False) -> Iterator[tuple[str, int, dict]]:
  """Yields (task type, index, TF_CONFIG) of every process, the chief first, the evaluator last."""
  addresses = iter([f"127.0.0.1:{port}" for port in _free_ports(1 + workers + ps)])
  counts = {"chief": 1, "worker": workers, "ps": ps}
  cluster = {job: [next(addresses) for _ in range(count)] for job, count in counts.items()}
  for job, count in counts.items():
    for index in range(count):
      yield job, index, {"cluster": cluster, "task": {"type": job, "index": index}}
  if evaluator:
    yield "evaluator", 0, {"cluster": cluster, "task": {"type": "evaluator", "index": 0}}


def _free_ports(count: int) -> list[int]:
  """Finds ports that nobody listens on, below those that the system gives to outgoing calls."""
  ports: list[int] = []
  candidates = random.SystemRandom().sample(range(20000, 32000), 2000)
  for port in candidates:
    if len(ports) == count:
      break
    with socket.socket() as probe:
      try:
        probe.bind(("127.0.0.1", port))
      except OSError:
        continue
    ports.append(port)
  return ports


def _new_run_folder() -> pathlib.Path:
  base = pathlib.Path("runs", time.strftime("%Y%m%d-%H%M%S"))
  folder, number = base, 1
  while folder.exists():
    number += 1
    folder = base.with_name(f"{base.name}-{number}")
  return folder


def _count(text: str) -> int:
  count = int(text)
  if not 1 <= count <= 1000:
    raise argparse.ArgumentTypeError("must be from 1 to 1000")
  return count


def _restarts(text: str) -> int:
  count = int(text)
  if count < 0:
    raise argparse.ArgumentTypeError("must be 0 or more")
  return count
