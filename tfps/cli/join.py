"""Joins a log of features with a log of actions to labelled samples.

It reads what arrives in both logs without end; SIGTERM (or Ctrl-C) ends it after the step that
runs, with exit code 0. Started again, also after kill -9, it goes on where it was: no sample is
lost or written twice. docs/join.md has the whole story.

Fields of the config are overridden like --config.policy=early; --print-config shows them all.
"""

from __future__ import annotations

import argparse
import json

from tfps.cli import config as config_lib
from tfps.errors import ConfigError

NAME = "join"
HELP = "join logs of features and actions to labelled samples"
OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.usage = (
    "tfps join --config=FILE [--config.FIELD=VALUE ...] [--once [--close]] "
    "[--report [--plot FILE]] [--print-config] [--verbose]"
  )
  parser.add_argument(
    "--config",
    required=True,
    metavar="FILE",
    help="Python file with get_config(), the join's settings",
  )
  parser.add_argument(
    "--print-config",
    action="store_true",
    help="print the config with its overrides as JSON, and join nothing",
  )
  parser.add_argument(
    "--once",
    action="store_true",
    help="end when all that is there is read; records whose window is open wait for the next run",
  )
  parser.add_argument(
    "--close",
    action="store_true",
    help="with --once: close all windows at the end, so that nothing waits",
  )
  parser.add_argument(
    "--report",
    action="store_true",
    help="join nothing; say from the logs how late actions come and what each window costs",
  )
  parser.add_argument(
    "--plot", metavar="FILE", help="with --report: draw it too, as PNG, SVG or PDF"
  )
  parser.add_argument(
    "--json", action="store_true", help="write the metrics, or the report, as JSON"
  )


def run(args: argparse.Namespace) -> None:
  if args.close and not args.once:
    args.parser.error("--close needs --once: windows are closed when all is read")
  if args.plot and not args.report:
    args.parser.error("--plot needs --report")
  _, config = config_lib.load(args.config, args.overrides)
  if args.print_config:
    print(json.dumps(config.to_dict(), indent=2, default=str))
    return
  try:
    import google_crc32c  # noqa: F401
    import pyarrow  # noqa: F401
  except ImportError as error:
    raise ConfigError(
      f"tfps join needs {error.name}, which is not installed: pip install 'tfps[join]'."
    ) from error
  if args.report:
    from tfps.join import report

    report.run(config, args.plot, args.json)
    return
  if config.engine == "spark":
    from tfps.join import spark

    metrics = spark.run(config, args.once, args.close)
  else:
    from tfps.join.run import Run

    metrics = Run(config, args.once, args.close).run()
  print(
    json.dumps(metrics, indent=2)
    if args.json
    else "\n".join(f"{name:24} {_text(value)}" for name, value in metrics.items())
  )


def _text(value: float | None) -> str:
  return "-" if value is None else f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
