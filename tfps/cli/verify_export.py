"""Checks an exported model: its checksums, and that it serves what the trainer predicted.

The model is loaded in TensorFlow's C++ session loader, the path that TensorFlow Serving takes, in a
process that knows stock ops only. There the examples run that were put into the export, and their
predictions are compared with the trainer's own from that moment. Those were made with the rows that
the export holds: feasigns below the thresholds of the accessor are not served. An export without
examples fails the check, as nothing was compared, unless --load-only allows it.
"""

from __future__ import annotations

import argparse

NAME = "verify-export"
HELP = "check that an exported model serves what the trainer predicted"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.usage = (
    "tfps verify-export PATH [--examples=FILE] [--tolerance=X] [--load-only] [--verbose]"
  )
  parser.add_argument("path", metavar="PATH", help="the export, such as export/base/3")
  parser.add_argument(
    "--examples",
    metavar="FILE",
    help="other examples than those in the export: a file of the same form as its "
    "assets.extra/tfps_examples.npz",
  )
  parser.add_argument(
    "--tolerance",
    type=float,
    default=1e-6,
    metavar="X",
    help="the largest difference at which two predictions count as equal, default 1e-6",
  )
  parser.add_argument(
    "--load-only",
    action="store_true",
    help="let a base pass that loads and has no examples, such as a folded one",
  )


def run(args: argparse.Namespace) -> None:
  from tfps.export.checking.verify import verify

  result = verify(args.path, args.examples, args.tolerance, args.load_only)
  manifest = result["manifest"]
  rows = ", ".join(f"{table.rows:,} rows of {name}" for name, table in manifest.tables.items())
  compared = "it loads, and no prediction was compared"
  if result["examples"]:
    compared = f"{result['examples']} examples differ by {result['difference']:.2g} at most"
  print(
    f"{args.path}: version {manifest.version} of lineage {manifest.lineage}, {rows}; "
    f"{len(manifest.files)} files are whole; {compared}."
  )
