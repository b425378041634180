"""The command `tfps`.

A subcommand is a module with
  NAME: its name, and HELP: one line that says what it does;
  add_arguments(parser): declares its options;
  run(args): does the work and returns the exit code, None for 0.
It may also have
  OVERRIDES = True: options of the form --config.field=value are handed to it in args.overrides;
  check(args): raises what `run` would about the settings, before anything is started.
Importing it must not import TensorFlow, so that --help is there at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from tfps.cli import (
  evict,
  export,
  fold,
  importance,
  inspect,
  join,
  launch,
  pin,
  push_delta,
  rebalance,
  replay,
  rollback,
  rollout,
  sync,
  train,
  verify_export,
)
from tfps.cluster import ending, failures

COMMANDS = (
  train, join, launch, inspect, importance, evict, rebalance, export, fold, verify_export,
  replay, push_delta, sync, rollout, rollback, pin,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one subcommand.

  Returns 0, or an exit code after one sentence on stderr about what went wrong.

  It is 1, or `cluster.exit_codes.RESTART` where a lost task of the cluster is the cause.
  """
  args = parse(argv)
  if args.verbose:
    os.environ["TFPS_DEBUG"] = "1"
  # 3 hides the lines that TensorFlow logs at level "error" in every start and end; what really
  # fails is raised, and explained below.
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if os.environ.get("TFPS_DEBUG") else "3")
  # Keras 2 is what tfps is built on. With Keras 3 as tf.keras, TensorFlow takes half as long again
  # to import.
  os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
  try:
    code = args.command_module.run(args) or 0
  except SystemExit as leaving:
    ending.end(leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None))
    raise
  except KeyboardInterrupt:
    print("tfps: interrupted", file=sys.stderr)
    code = 130
  except Exception as error:  # Anything: it is told to the user, and to the cluster.
    _report(error)
    code = ending.code_after(error)
  sys.stdout.flush()
  sys.stderr.flush()
  ending.end(code)
  return code


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Parses a command line; ends with exit code 2 and the usage where it is wrong."""
  common = argparse.ArgumentParser(add_help=False)
  common.add_argument(
    "--verbose",
    action="store_true",
    help="show the whole trace of an error and TensorFlow's own log (or set TFPS_DEBUG=1)",
  )
  parser = argparse.ArgumentParser(
    prog="tfps",
    description="Trains click models whose sparse features live in feasign tables on parameter "
    "servers. `tfps COMMAND --help` explains a command.",
  )
  subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
  for module in COMMANDS:
    subparser = subparsers.add_parser(
      module.NAME,
      parents=[common],
      help=module.HELP,
      description=module.__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter,
      allow_abbrev=False,
    )
    module.add_arguments(subparser)
    subparser.set_defaults(command_module=module, parser=subparser)
  args, rest = parser.parse_known_args(argv)
  if getattr(args.command_module, "OVERRIDES", False):
    args.overrides, rest = _split_overrides(rest)
  if rest:
    args.parser.error(f"unrecognized arguments: {' '.join(rest)}")
  return args


def _split_overrides(rest: list[str]) -> tuple[list[str], list[str]]:
  """Splits into --config.field=value (or --config.field value) and what is none of these."""
  overrides, others = [], []
  value_may_follow = False
  for argument in rest:
    is_override = argument.startswith(("--config.", "--noconfig."))
    if is_override or (value_may_follow and not argument.startswith("--")):
      overrides.append(argument)
      value_may_follow = is_override and "=" not in argument
    else:
      others.append(argument)
      value_may_follow = False
  return overrides, others


def _report(error: Exception) -> None:
  if os.environ.get("TFPS_DEBUG"):
    traceback.print_exception(error)
  elif not isinstance(error, (OSError, ValueError, ImportError)) and not (
    failures.is_tensorflow_error(error)
  ):
    traceback.print_exception(error)  # A fault in a program, not in what it was given.
    return
  sentence = failures.explain(error)
  if type(error) is ValueError or failures.is_tensorflow_error(error):
    sentence = sentence.rstrip(".") + "; --verbose shows the trace."
  print(f"tfps: error: {sentence}", file=sys.stderr)
