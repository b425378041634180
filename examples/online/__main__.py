"""The whole circle on one machine: users, logs, join, trainer, deltas, server and users again.

Users click on what the served model ranks highest for them, and some on random items to compare
with. Their logs are joined to samples, on which a trainer trains as they come, and its exports go
to the server. In the middle the users' taste changes: how soon does the circle follow?

  python -m examples.online                     # deltas every 10 seconds, for ten minutes
  python -m examples.online --deltas=none       # base exports at days' ends only
    python -m examples.online --compare           # every 10 seconds, every minute, and none
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import tempfile
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from examples.online import report


def main() -> None:
  parser = argparse.ArgumentParser(
    prog="python -m examples.online", description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter
  )  # fmt: skip
  parser.add_argument(
    "--deltas", default="10s", choices=["10s", "1min", "none"], help="default 10s"
  )
  parser.add_argument("--compare", action="store_true", help="run all three, one after the other")
  parser.add_argument("--minutes", type=float, default=10.0, help="of a run, default 10")
  parser.add_argument(
    "--change", type=float, help="the minute at which taste changes; half of it by default"
  )
  parser.add_argument("--day", type=float, default=4.0, help="minutes of a day, default 4")
  parser.add_argument("--rate", type=float, default=40.0, help="requests per second, default 40")
  parser.add_argument(
    "--random-share", type=float, default=0.25, help="of the requests, default 0.25"
  )
  parser.add_argument("--seed", type=int, default=1, help="default 1")
  parser.add_argument(
    "--folder", type=pathlib.Path, help="where everything goes; a temporary one by default"
  )
  parser.add_argument("--plot", type=pathlib.Path, default="online.png", help="default online.png")
  flags = parser.parse_args()
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  if flags.change is None:
    flags.change = flags.minutes / 2
  if not 0 < flags.change < flags.minutes:
    parser.error(
      f"--change is {flags.change}, which is not within the {flags.minutes} minutes of a run"
    )
  with tempfile.TemporaryDirectory(prefix="online-") as temporary:
    folder = flags.folder or pathlib.Path(temporary)
    run_all(flags, folder)


def run_all(flags: argparse.Namespace, folder: pathlib.Path) -> list[report.Result]:
  """Runs the circle once or three times; prints and plots what came of it.

  Returns the `report.Result`s.
  """
  from examples.online import report

  results = []
  for deltas in ("10s", "1min", "none") if flags.compare else (flags.deltas,):
    results.append(run(flags, folder / f"deltas-{deltas}", deltas))
    results[-1].save(folder / f"deltas-{deltas}" / "result.json")
  print()
  for result in results:
    print(result.line())
  try:
    report.plot(results, flags.plot)
    print(f"The plot is {flags.plot}.")
  except ImportError:
    print("There is no plot: pip install tfps[plot].", file=sys.stderr)
  return results


def run(flags: argparse.Namespace, folder: pathlib.Path, deltas: str) -> report.Result:
  """Runs the circle once; returns its `report.Result`."""
  from examples.online import report
  from examples.online.circle import Circle
  from examples.online.traffic import Traffic
  from examples.online.world import World

  folder.mkdir(parents=True)
  seconds, change = 60 * flags.minutes, 60 * flags.change
  day = 60 * flags.day
  minutes = {"10s": 1 / 6, "1min": 1.0, "none": 0.0}[deltas]
  print(
    f"\nDeltas {deltas}; everything is in {folder}. The first minute passes before a model is "
    "served.",
    flush=True,
  )
  world = World(flags.seed)
  counts = report.Counts(seconds)
  # A day begins with the run.
  settings = [
    f"--config.stream.day_seconds={day}",
    f"--config.stream.offset_seconds={time.time() % day}",
    f"--config.export.delta_every_minutes={minutes}",
  ]
  with Circle(folder, settings, deltas != "none") as circle:
    traffic = Traffic(world, folder, circle.rank, flags.rate, flags.random_share, flags.seed)
    began, minute = time.time(), 0

    def seen(kind: str, shows: int, clicks: int, perfect: float) -> None:
      nonlocal minute
      now = time.time() - began
      world.changed = now >= change
      counts.add(now, kind, shows, clicks, perfect)
      while now >= 60 * (minute + 1):
        print(report.minute_line(counts, minute, 60 * (minute + 1) > change), flush=True)
        circle.check()
        minute += 1

    traffic.run(seconds, seen)
    print(report.minute_line(counts, minute, True), flush=True)
  log = folder / "sync.log"
  served = report.seconds_to_served(log.read_text()) if log.exists() else float("nan")
  result = report.Result(deltas, counts, change, seconds, served)
  print(result.line(), flush=True)
  return result


if __name__ == "__main__":
  main()
