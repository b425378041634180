"""Rolls a base out to running servers: writes models.config in the steps that they need.

With labels: the version is loaded beside those that are there, and once every server has it, the
labels move to it and versions without a label go. Without labels the servers change to it at once.
The command waits for every server, and ends with exit code 1 where one does not follow; if that is
before a label has moved, the config is as it was. Comments in the file are not kept.
"""

from __future__ import annotations

import argparse

from tfps.cli import delivery

NAME = "rollout"
HELP = "let running servers serve another base, by their models.config"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("config", metavar="MODELS_CONFIG", help="the file that the servers read")
  parser.add_argument("version", metavar="VERSION", type=int, help="the base's number")
  parser.add_argument(
    "--label",
    action="append",
    default=[],
    metavar="NAME",
    help="a label to move or to make, such as canary; repeat it for several; default all that "
    "the model has",
  )
  parser.add_argument(
    "--dry-run", action="store_true", help="print the steps and their configs, and change nothing"
  )
  delivery.add_server_arguments(parser)


def run(args: argparse.Namespace) -> int:
  delivery.check(args)
  from tfps.delivery import rollout

  steps = rollout.plan(rollout.read(args.config), args.model_name, args.version, args.label)
  if args.dry_run:
    for number, step in enumerate(steps, 1):
      print(f"# Step {number}: {step.does}. Wait for it on every server.\n{step.text}", flush=True)
  if not steps:
    print(f"Nothing to do: {args.config} has version {args.version} so already.", flush=True)
  if args.dry_run or not steps:
    return 0
  replicas = delivery.replicas(args)
  say = lambda line: print(line, flush=True)
  try:
    rollout.Rollout(args.config, replicas, args.timeout, say).run(steps)
  finally:
    for replica in replicas:
      replica.close()
  count = f"{len(replicas)} servers" if len(replicas) > 1 else replicas[0].address
  print(f"{args.model_name} is at version {args.version} on {count}.", flush=True)
  return 0
