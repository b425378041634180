"""Proposes which parameter server should have which virtual shards, by the load in a checkpoint.

Where one server bears more than 20 percent above the mean of rows, bytes or pulls, few shards are
moved so that all come within 10 percent of it where that is possible. PATH is a checkpoint's
folder, or a folder of checkpoints, of which the newest is taken.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfps.cli import output

if TYPE_CHECKING:
  from tfps.checkpoint.rebalance import Proposal

NAME = "rebalance"
HELP = "propose a more even assignment of shards to servers, and write it to a checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("path", metavar="PATH", help="a checkpoint, or a folder of checkpoints")
  parser.add_argument("--table", metavar="NAME", help="this table only")
  parser.add_argument(
    "--servers", type=int, metavar="N", help="propose for N servers; as many as now by default"
  )
  parser.add_argument(
    "--apply", action="store_true", help="write it to the checkpoint; the next restore takes it"
  )
  parser.add_argument("--json", action="store_true", help="write JSON")


def run(args: argparse.Namespace) -> None:
  if args.servers is not None and args.servers < 1:
    args.parser.error(f"--servers must be 1 or more, not {args.servers}")

  from tfps.checkpoint import reader, rebalance

  checkpoint = reader.open_checkpoint(args.path, checksums="none")
  tables = reader.choose(checkpoint, args.table)
  proposals = {table.name: rebalance.propose(table.saved, args.servers) for table in tables}
  applied = args.apply and any(proposal.changes for proposal in proposals.values())
  if applied:
    rebalance.apply(checkpoint, proposals)
  if args.json:
    described = {name: _describe(proposal) for name, proposal in proposals.items()}
    print(
      json.dumps({"checkpoint": checkpoint.path, "applied": applied, "tables": described}, indent=2)
    )
    return
  lines = [checkpoint.path]
  for name, proposal in proposals.items():
    lines += ["", *_lines(name, proposal)]
  if applied:
    lines += ["", "Applied: the next restore of this checkpoint places the rows so."]
  print("\n".join(lines))


def _describe(proposal: Proposal) -> dict:
  return {
    "moved_shards": int(proposal.moved.sum()),
    **{f"moved_{name}": int(load[proposal.moved].sum()) for name, load in proposal.loads.items()},
    **{
      when: {name: sums.tolist() for name, (sums, _) in proposal.of_servers(after).items()}
      for when, after in (("before", False), ("after", True))
    },
    "assignment": proposal.after.tolist(),
  }


def _lines(name: str, proposal: Proposal) -> list[str]:
  now = proposal.of_servers(after=False)
  worst = max(now, key=lambda measure: now[measure][1].max())
  server = int(now[worst][1].argmax())
  lines = [
    f"table {name} on {proposal.servers_before} servers: at most "
    f"{now[worst][1].max() - 1:.0%} above the mean, by {worst} on server {server}"
  ]
  if not proposal.changes:
    return [*lines, *_table([now]), "Nothing is to be moved."]
  moved = proposal.moved
  rows, bytes_ = (proposal.loads[measure] for measure in ("rows", "bytes"))
  return [
    *lines,
    *_table([now, proposal.of_servers(after=True)]),
    f"{moved.sum():,} of {moved.size:,} shards move, with "
    f"{output.share(int(rows[moved].sum()), int(rows.sum()))} rows and "
    f"{output.size(bytes_[moved].sum())}.",
  ]


def _table(sides: Sequence[Mapping[str, Any]]) -> list[str]:
  """A line for each server: what it bears now and, where there are two sides, then."""
  header, lines = ["server"], []
  for side, suffix in zip(sides, ("", " then")):
    header += [f"{measure}{suffix}" for measure in side]
  for server in range(max(len(next(iter(side.values()))[0]) for side in sides)):
    cells = [str(server)]
    for side in sides:
      for sums, relative in side.values():
        there = server < len(sums)
        cells.append(f"{sums[server]:,} ({relative[server] - 1:+.0%})" if there else "-")
    lines.append(cells)
  return output.columns([header, *lines], right=range(1, len(header)))
