"""Sends running servers the deltas that they miss, and ends.

Every replica is asked how far it is, and gets what is missing of the deltas of each base that it
serves: in order, each once, in small chunks between which it goes on answering. A replica that
restarted is brought up to date from its base. Other servers go on where one fails, is busy for too
long, or does not serve the newest base; then the exit code is 1.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from concurrent import futures
from typing import TYPE_CHECKING

from tfps.cli import delivery

if TYPE_CHECKING:
  from tfps.delivery.replica import Replica
  from tfps.export.delta_folder import ExportFolder
  from tfps.export.delta_reader import Chunk, Delta

NAME = "push-delta"
HELP = "send running servers the deltas that they miss"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  delivery.add_arguments(parser)
  parser.add_argument(
    "--base",
    type=int,
    metavar="N",
    help="the base that the servers are to serve, such as after a roll-back; default the newest",
  )


def run(args: argparse.Namespace) -> int:
  delivery.check(args)
  from tfps.export.delta_folder import ExportFolder

  folder = ExportFolder(args.folder)
  replicas = delivery.replicas(args)
  with futures.ThreadPoolExecutor(len(replicas)) as pool:
    done = list(
      pool.map(
        lambda line, replica: _push(line, replica, folder, args), itertools.count(), replicas
      )
    )
  return 0 if all(done) else 1


def _push(line: int, replica: Replica, folder: ExportFolder, args: argparse.Namespace) -> bool:
  import tensorflow as tf

  from tfps.delivery.catch_up import catch_up

  progress = _Progress(replica.address, line)
  try:
    reached = catch_up(replica, folder, args.chunk_bytes, progress)
    if not reached:
      raise ValueError(f"{replica.address} has no version of '{args.model_name}' ready to serve.")
  except (ValueError, OSError, tf.errors.OpError) as error:
    progress.close()
    sentence = " ".join(str(error).split())
    if replica.address not in sentence:
      sentence = f"{replica.address}: {sentence}"
    print(f"tfps: error: {sentence}", file=sys.stderr, flush=True)
    return False
  finally:
    progress.close()
    replica.close()
  for version, status in reached.items():
    folded = "" if version == status.base else f", folded into version {version},"
    print(
      f"{replica.address}: base {status.base}{folded} is at delta {status.sequence}; sent "
      f"{progress.deltas.get(version, 0)} now, {progress.entries:,} entries{_busy(replica)}.",
      flush=True,
    )
  if lacks := folder.what_lacks(reached.values(), args.base):
    print(
      f"tfps: error: {replica.address} is not up to date: {lacks}; let it load that base, or name "
      "the one that it is to serve with --base.",
      file=sys.stderr,
      flush=True,
    )
  return lacks is None


def _busy(replica: Replica) -> str:
  """Says how long a replica was busy, if it was."""
  return f", busy for {replica.busy_seconds:.1f} s" if replica.busy_seconds else ""


class _Progress:
  """A bar on stderr where that is a terminal, and the counts of what was sent."""

  def __init__(self, address: str, line: int) -> None:
    import tqdm

    self.entries = 0
    self.deltas: dict[int, int] = {}
    self._bar = tqdm.tqdm(
      total=0, desc=address, unit=" entries", unit_scale=True, position=line, leave=False,
      disable=None,
    )  # fmt: skip

  def begun(self, delta: Delta, entries: int) -> None:
    self._bar.total = self.entries + entries
    self._bar.refresh()

  def sent(self, chunk: Chunk) -> None:
    self.entries += chunk.entries
    self._bar.update(chunk.entries)

  def applied(self, version: int, delta: Delta) -> None:
    self.deltas[version] = self.deltas.get(version, 0) + 1

  def close(self) -> None:
    self._bar.close()
