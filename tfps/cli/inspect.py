"""Shows what a checkpoint holds, read from its files alone.

PATH is a checkpoint's folder, or a folder of checkpoints, of which the newest is shown. Without
--key, --value and --top: of each table and slot how many rows there are, and histograms of their
shows, scores and unseen_days.
"""

from __future__ import annotations

import argparse
import json
import re

NAME = "inspect"
HELP = "show what a checkpoint holds: tables, slots, single feasigns"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("path", metavar="PATH", help="a checkpoint, or a folder of checkpoints")
  parser.add_argument("--table", metavar="NAME", help="this table only")
  parser.add_argument("--slot", metavar="SLOT", help="this slot only; the slot of --value")
  what = parser.add_mutually_exclusive_group()
  what.add_argument(
    "--key", nargs="+", metavar="KEY", help="whole rows of these feasigns, as signed or unsigned"
  )
  what.add_argument(
    "--value", nargs="+", metavar="VALUE", help="whole rows of the feasigns of these values of SLOT"
  )
  what.add_argument("--top", type=int, metavar="N", help="the N rows of highest score")
  parser.add_argument(
    "--value-type",
    choices=("auto", "string", "int"),
    default="auto",
    help="what the values are in the data: auto (default) takes one that is written as an integer "
    "for one, and, where that feasign is absent, for a string",
  )
  parser.add_argument("--json", action="store_true", help="write JSON")


def run(args: argparse.Namespace) -> int:
  if args.value and not args.slot:
    args.parser.error("--value needs --slot: a feasign is made of both")
  if args.key and args.slot:
    args.parser.error("--key needs no --slot: the row says its slot")
  if args.top is not None and args.top < 1:
    args.parser.error(f"--top must be 1 or more, not {args.top}")
  keys = [_key(args, text) for text in args.key or ()]

  from tfps.checkpoint import reader
  from tfps.cli import inspect_rows, inspect_tables

  # For a few rows, a few shards are read: not the whole checkpoint for its checksums.
  few = bool(args.key or args.value)
  checkpoint = reader.open_checkpoint(args.path, checksums="none" if few else "not rows")
  tables = reader.choose(checkpoint, args.table, args.slot)
  if args.key:
    found = inspect_rows.of_keys(tables, keys)
  elif args.value:
    found = inspect_rows.of_values(tables, args.slot, args.value, args.value_type)
  elif args.top:
    found = inspect_rows.of_highest_score(tables, args.top, args.slot)
  else:
    found = inspect_tables.describe(checkpoint, tables, args.slot)
  if args.json:
    print(json.dumps({"checkpoint": checkpoint.path, **found}, indent=2))
  elif few:
    print("\n\n".join(map(inspect_rows.row_text, found["rows"])))
  elif args.top:
    print(inspect_rows.ranking_text(found["rows"]))
  else:
    print(inspect_tables.text(checkpoint, found))
  return int(few and not all(row["found"] for row in found["rows"]))


def _key(args: argparse.Namespace, text: str) -> int:
  """The int64 with the bits of a feasign, written as a signed or unsigned number of 64 bits."""
  try:
    key = int(text, 16 if re.match("0[xX]", text) else 10)
  except ValueError:
    key = 2**64
  if not -(2**63) <= key < 2**64:
    args.parser.error(
      f"--key: '{text}' is no number of 64 bits; --slot and --value take raw values"
    )
  return key - 2**64 if key >= 2**63 else key
