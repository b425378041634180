"""Evicts from a checkpoint, as a day's end would now, without training.

PATH is a checkpoint's folder, or a folder of checkpoints, of which the newest is taken. A new, full
checkpoint without the rows that are due is written beside it, from which training goes on. Nothing
else of the rows changes: no day ends. A folder that a job writes to is refused.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfps.cli import output

if TYPE_CHECKING:
  from tfps.checkpoint.evict import Evicted

NAME = "evict"
HELP = "write a checkpoint without the feasigns that are due to leave, or say which are"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("path", metavar="PATH", help="a checkpoint, or a folder of checkpoints")
  parser.add_argument("--dry-run", action="store_true", help="say what would leave, write nothing")
  parser.add_argument("--table", metavar="NAME", help="evict from this table only")
  parser.add_argument(
    "--set",
    action="append",
    default=[],
    metavar="SETTING",
    help="decide by another setting than the checkpoint's: accessor.NAME=VALUE, or "
    "SLOT.accessor.NAME=VALUE; it may be repeated",
  )
  parser.add_argument(
    "--output", metavar="FOLDER", help="the folder of checkpoints to write to; PATH's by default"
  )
  parser.add_argument("--json", action="store_true", help="write JSON")


def run(args: argparse.Namespace) -> None:
  from tfps.checkpoint import evict, reader

  checkpoint = reader.open_checkpoint(args.path)
  tables = reader.choose(checkpoint, args.table)
  layouts = evict.layouts_with(tables, args.set)
  if args.dry_run:
    written = None
    counts = {
      table.name: evict.count(
        table, layouts[table.name], output.progress(table.shards(), table.num_shards)
      )
      for table in tables
    }
  else:
    written, counts = evict.write(checkpoint, layouts, args.output, output.progress)
  if args.json:
    print(
      json.dumps({"checkpoint": checkpoint.path, "written": written, "tables": counts}, indent=2)
    )
  else:
    print(_text(checkpoint.path, written, counts))


def _text(path: str, written: str | None, counts: Mapping[str, Mapping[str, Evicted]]) -> str:
  cells = [("table", "slot", "rows", "would leave" if written is None else "left")]
  for table, slots in counts.items():
    for slot, counted in slots.items():
      leaving = output.share(counted["evicted"], counted["rows"])
      cells.append((table, slot, f"{counted['rows']:,}", leaving))
  lines = [path, *output.columns(cells, right=(2, 3))]
  return "\n".join(lines if written is None else [*lines, f"Written: {written}"])
