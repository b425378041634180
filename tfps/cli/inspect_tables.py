"""`tfps inspect` without a feasign: tables and slots."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfps.checkpoint import summary
from tfps.cli import output
from tfps.training.position import Position

if TYPE_CHECKING:
  from tfps.checkpoint.reader import SavedCheckpoint, SavedTable

_BAR = 20  # The length of the fullest bucket's.
_TITLES = {"shows": "shows", "scores": "scores", "unseen_days": "unseen days"}


def describe(
  checkpoint: SavedCheckpoint, tables: Sequence[SavedTable], slot: str | None = None
) -> dict:
  """Returns the content of `--json`: the checkpoint, its tables, their slots and histograms.

  A histogram is {"edges": [k], "counts": [k]}: bucket i holds the values from edges[i] (null: from
  minus infinity) to below edges[i + 1]; the last one has no end.
  """
  described = {}
  for table in tables:
    shards = output.progress(table.shards(), table.num_shards)
    number = None if slot is None else table.slots[slot]
    slots, removals = summary.summarise(table, shards, number)
    described[table.name] = {
      "num_shards": table.num_shards,
      "num_servers": table.saved.num_servers,
      "bytes": sum(table.saved.load["bytes"]),
      "file_bytes": table.file_bytes,
      "rows": sum(slot.rows for slot in slots.values()),
      "admitted": sum(slot.admitted for slot in slots.values()),
      "served": sum(slot.served for slot in slots.values()),
      "pending_removals": removals,
      "slots": {table.slot_name(number): _slot(counted) for number, counted in slots.items()},
    }
  return {
    "chain": checkpoint.chain,
    "lineage": checkpoint.manifest.lineage,
    "calendar": checkpoint.manifest.calendar,
    "tables": described,
  }


def _slot(counted: summary.SlotSummary) -> dict:
  histograms = {
    name: {
      "edges": [edge if math.isfinite(edge) else None for edge in histogram.edges],
      "counts": histogram.counts.tolist(),
    }
    for name, histogram in counted.histograms.items()
  }
  return {
    "rows": counted.rows,
    "admitted": counted.admitted,
    "served": counted.served,
    **histograms,
  }


def text(checkpoint: SavedCheckpoint, described: Mapping[str, Any]) -> str:
  chain = [path.rsplit("/", 1)[-1] for path in checkpoint.chain]
  increments = f"{len(chain) - 1} over {chain[0]}" if len(chain) > 1 else "none: it is a full one"
  lines = output.columns(
    [
      ("checkpoint", checkpoint.path),
      ("increments", increments),
      ("calendar", _calendar(described["calendar"])),
      ("lineage", _lineage(described["lineage"])),
    ]
  )
  for name, table in described["tables"].items():
    lines += ["", *_table_lines(name, table)]
    for slot, counted in table["slots"].items():
      lines += ["", f"  {slot}", *(f"    {line}" for line in _histogram_lines(counted))]
  return "\n".join(lines)


def _calendar(calendar: Any) -> str:
  try:
    return str(Position(**calendar))
  except TypeError:
    return json.dumps(calendar)


def _table_lines(name: str, table: Mapping[str, Any]) -> list[str]:
  slots = [
    (
      f"  {slot}",
      f"{counted['rows']:,}",
      output.share(counted["admitted"], counted["rows"]),
      output.share(counted["served"], counted["rows"]),
    )
    for slot, counted in table["slots"].items()
  ]
  total = (
    "  all",
    f"{table['rows']:,}",
    output.share(table["admitted"], table["rows"]),
    output.share(table["served"], table["rows"]),
  )
  return [
    f"table {name}: {table['num_shards']:,} shards on {table['num_servers']} servers, "
    f"{output.size(table['bytes'])} in their memory, {output.size(table['file_bytes'])} in files, "
    f"{table['pending_removals']:,} pending removals",
    *output.columns([("  slot", "rows", "admitted", "served"), *slots, total], right=(1, 2, 3)),
  ]


def _histogram_lines(counted: Mapping[str, Any]) -> list[str]:
  """The histograms of one slot, side by side."""
  blocks = []
  for name, title in _TITLES.items():
    edges, counts = counted[name]["edges"], counted[name]["counts"]
    filled = [i for i, count in enumerate(counts) if count]
    lines = [title]
    if filled:
      shown = range(filled[0], filled[-1] + 1)
      most = max(counts)
      ranges = [_range(edges, i, name == "unseen_days") for i in shown]
      bars = ["#" * math.ceil(_BAR * counts[i] / most) for i in shown]
      lines += output.columns(
        list(zip(ranges, (f"{counts[i]:,}" for i in shown), bars)), right=(0, 1)
      )
    blocks.append(lines)
  return output.columns([*itertools.zip_longest(*blocks, fillvalue="")])


def _range(edges: Sequence[float | None], i: int, whole: bool) -> str:
  begin, end = edges[i], edges[i + 1] if i + 1 < len(edges) else None
  if begin is None:
    return "below 0"
  if end is None:
    return f"from {begin:,g}"
  if whole:
    return f"{begin:,}" if begin + 1 == end else f"{begin:,} to {end - 1:,}"
  return f"{begin:,g} to <{end:,g}"


def _lineage(lineage: Mapping[str, Any] | None) -> str:
  if lineage is None:
    return "none yet"
  return f"{lineage['id']}, base {lineage['base']} with {lineage['sequence']} deltas"
