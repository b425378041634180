"""Keeps running servers up to date: sends every delta soon after it is exported.

It follows the folder until it gets SIGTERM or SIGINT, then ends with exit code 0, or with 1 if a
server is not up to date then, which it names. A line is printed
for every delta that a server has applied, with the lag: the seconds between the copy of its rows
at the trainer and their being served. A server that goes on with an older base gets that base's
deltas; one that is away is asked again; one that restarted is brought up to date from its base.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from tfps.cli import delivery

NAME = "sync"
HELP = "keep running servers up to date with the deltas in a folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  delivery.add_arguments(parser)
  parser.add_argument(
    "--poll",
    type=float,
    default=1.0,
    metavar="SECONDS",
    help="how often to look for new deltas and bases, default 1",
  )
  parser.add_argument(
    "--tensorboard", metavar="FOLDER", help="write the lag at each server for TensorBoard"
  )


def run(args: argparse.Namespace) -> int:
  delivery.check(args)
  stop = threading.Event()
  for signum in (signal.SIGTERM, signal.SIGINT):
    signal.signal(signum, lambda *_: stop.set())
  from tfps.delivery.sync import Sync
  from tfps.export.delta_folder import ExportFolder

  replicas = delivery.replicas(args)
  folder = ExportFolder(args.folder)
  behind = Sync(replicas, folder, args.chunk_bytes, args.poll, args.tensorboard).run(stop)
  for sentence in behind:
    print(f"tfps: error: {sentence}", file=sys.stderr, flush=True)
  return 1 if behind else 0
