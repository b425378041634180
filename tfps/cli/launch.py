"""Runs a whole cluster on this machine: a chief, workers, parameter servers, perhaps an evaluator.

What follows -- is what every role runs: a command of tfps (train --config=...), or a program of
your own (script.py with its arguments) that calls tfps.strategy(). Every process finds its role in
TF_CONFIG and writes a log of its own. The chief's output appears as it is, the others' lines with
their names before them. The exit code is the chief's."""

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

from tfps.cli import processes
from tfps.cluster import resources
from tfps.cluster.server import CHIEF_LOST
from tfps.cluster.tf_config import ConfigError

NAME = "launch"
HELP = "run a cluster of processes on this machine"

_CHIEF_MAY_EXPLAIN_SECONDS = 5.0  # what the chief has to end by itself after another has failed
_OTHERS_END_SECONDS = 20.0  # what the others have to end by themselves after the chief
_TERMINATE_SECONDS = 5.0  # from SIGTERM to SIGKILL
_SINGLE = ("chief", "evaluator")  # of which there is one


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.usage = (
    "tfps launch [--workers=N] [--ps=N] [--evaluator] [--log-dir=DIR] [--verbose] -- COMMAND ..."
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
  received = []
  for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(signum) != signal.SIG_IGN:  # as under nohup
      signal.signal(signum, lambda number, frame: received.append(number))
  children = []
  try:
    for job, index, tf_config in _tf_configs(args.workers, args.ps, args.evaluator):
      name = job if job in _SINGLE else f"{job} {index}"
      log = log_dir / f"{name.replace(' ', '-')}.log"
      env = {**os.environ, "TF_CONFIG": json.dumps(tf_config), "PYTHONUNBUFFERED": "1"}
      if job in ("worker", "ps"):
        env |= resources.share_of_cores(args.workers if job == "worker" else args.ps)
      children.append(processes.Child(name, program, env, log, foreground=job == "chief"))
    stream = processes.Stream(children)
    roles = f"A chief, {args.workers} workers and {args.ps} parameter servers"
    roles += ", and an evaluator" if args.evaluator else ""
    stream.say(f"{roles}; logs in {log_dir}")
    cluster = [child for child in children if child.name != "evaluator"]
    evaluators = children[len(cluster) :]
    code = _follow(cluster, evaluators, stream, received)
    if code == 0:
      code = _follow_evaluators(evaluators, stream, received)
    _end(children, stream)
    stream.drain()
    return code
  finally:
    for child in children:
      child.send(signal.SIGKILL)
      child.process.wait()
      child.log_file.close()


def _follow(cluster: list, evaluators: list, stream: processes.Stream, received: list[int]) -> int:
  """Follows the cluster until it is to be ended; returns the exit code.

  An evaluator that fails is reported, and nothing else.
  """
  chief, *others = cluster
  reported = set()
  first_failure = None
  while chief.exit_code() is None:
    stream.pump(0.2)
    if received:
      stream.say(f"Ending the cluster: {signal.Signals(received[0]).name}.")
      return 128 + received[0]
    _report_failures(evaluators, stream, reported, expected={0})
    if not any(child.exit_code() for child in others):
      continue
    # A chief that ends now ends the others too: only one that goes on is told about.
    now = time.monotonic()
    first_failure = first_failure or now
    if now - first_failure > 1.0:
      _report_failures(others, stream, reported, expected={0})
    if now - first_failure > _CHIEF_MAY_EXPLAIN_SECONDS:
      stream.say("Ending the cluster, because not all of it runs.")
      return 1
  code = chief.exit_code()
  stream.drain()
  if code < 0:
    stream.say(f"The chief ended by {processes.describe_exit(code)}.")
    code = 128 - code
  deadline = time.monotonic() + _OTHERS_END_SECONDS
  while any(child.exit_code() is None for child in others):
    stream.pump(0.1)
    if received:
      return 128 + received[0]
    if time.monotonic() > deadline:
      names = ", ".join(child.name for child in others if child.exit_code() is None)
      stream.say(f"Ending {names}: still running {_OTHERS_END_SECONDS:.0f} s after the chief.")
      break
  _report_failures(others, stream, reported, {0} if code == 0 else {0, 1, code, CHIEF_LOST})
  return code


def _follow_evaluators(evaluators: list, stream: processes.Stream, received: list[int]) -> int:
  """Waits until they have evaluated what the ended training has left; returns the exit code."""
  running = [child for child in evaluators if child.exit_code() is None]
  if running:
    stream.say("Training has ended; waiting for the evaluator.")
  while any(child.exit_code() is None for child in running):
    stream.pump(0.1)
    if received:
      return 128 + received[0]
  _report_failures(running, stream, set(), expected={0})
  return 0


def _report_failures(others, stream, reported: set, expected: set[int]) -> None:
  for child in others:
    code = child.exit_code()
    if code is not None and code not in expected and child.name not in reported:
      reported.add(child.name)
      stream.drain()
      stream.say(f"{child.name} ended with {processes.describe_exit(code)}; {child.log} ends with:")
      for line in child.last_lines():
        stream.say(f"  {line}")


def _end(children: list, stream: processes.Stream) -> None:
  """Ends those that still run."""
  for child in children:
    if child.exit_code() is None:
      child.send(signal.SIGTERM)
  deadline = time.monotonic() + _TERMINATE_SECONDS
  while time.monotonic() < deadline and any(child.exit_code() is None for child in children):
    stream.pump(0.1)


def _program(command: list[str]) -> list[str]:
  """What every process runs; settings that are wrong are found here, once."""
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


def _tf_configs(workers: int, ps: int, evaluator: bool = False):
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
  ports = []
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
