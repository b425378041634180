"""Folds deltas into their base: a new version for TensorFlow Serving, made without training.

BASE is like export/base/3, DELTAS are like export/delta/3/1 export/delta/3/2: all from the base's
first on, without gaps. The new version holds what a server does that loaded the base and took the
deltas, and takes the deltas that follow. It is written to FOLDER/base/<version>/; refused while
another process exports to FOLDER.
"""

from __future__ import annotations

import argparse

NAME = "fold"
HELP = "make a new base version of a base and its deltas"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("base", metavar="BASE", help="the base, such as export/base/3")
  parser.add_argument("deltas", metavar="DELTA", nargs="+", help="such as export/delta/3/1")
  parser.add_argument(
    "--output", metavar="FOLDER", help="the folder of exports; the base's by default"
  )


def run(args: argparse.Namespace) -> None:
  from tfps.export.fold import fold

  print(f"Folded into {fold(args.base, args.deltas, args.output)}.")
