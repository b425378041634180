"""`tfps inspect --key`, `--value` and `--top`: single rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfps.checkpoint import summary
from tfps.cli import output
from tfps.errors import CheckpointError
from tfps.table import feasigns, placement

if TYPE_CHECKING:
  from tfps.checkpoint.reader import SavedTable
  from tfps.checkpoint.rows import SavedRows


def of_keys(tables: Sequence[SavedTable], keys: Sequence[int]) -> dict:
  """{"rows": for each feasign a dict for each table that has it, or one that says it is absent}."""
  rows = []
  for key, in_tables in zip(keys, zip(*(_find(table, keys) for table in tables))):
    rows += [row for row in in_tables if row] or [{"key": key, **_absent(tables)}]
  return {"rows": rows}


def of_values(
  tables: Sequence[SavedTable], slot: str, values: Sequence[str], value_type: str
) -> dict:
  """Like `of_keys`, for a slot's values; a row has its feasign's "value" and "value_type", too."""
  rows = []
  for value in values:
    readings = [(kind, _feasign(slot, value, kind)) for kind in _kinds(value, value_type)]
    keys = [key for _, key in readings]
    found = []
    for table in tables:
      found += [(kind, row) for (kind, _), row in zip(readings, _find(table, keys)) if row]
    if found:
      # Of two readings that are both there, the first.
      found = [(kind, row) for kind, row in found if kind == found[0][0]]
    else:
      found = [(kind, {"key": key, **_absent(tables)}) for kind, key in readings]
    rows += [{"slot": slot, "value": value, "value_type": kind, **row} for kind, row in found]
  return {"rows": rows}


def of_highest_score(tables: Sequence[SavedTable], n: int, slot: str | None = None) -> dict:
  """{"rows": the n of highest score of each table, best first}."""
  rows = []
  for table in tables:
    number = None if slot is None else table.slots[slot]
    shards = output.progress(table.shards(), table.num_shards)
    best = summary.top(table, shards, n, number)
    rows += [_describe(table, best, i) for i in range(len(best.keys))]
  return {"rows": rows}


def row_text(row: Mapping[str, Any]) -> str:
  """A whole row for people, one thing a line."""
  made = f", {row['slot']} {row['value']!r} as {row['value_type']}," if "value" in row else ""
  head = f"feasign {row['key']}{made}"
  if not row["found"]:
    return f"{head} is absent from {row['where']}."
  lines = [(name, _cell(value)) for name, value in row.items() if name not in _IN_HEAD]
  return "\n".join([head.rstrip(","), *(f"  {line}" for line in output.columns(lines))])


def ranking_text(rows: Sequence[Mapping[str, Any]]) -> str:
  """Rows for people, one a line."""
  names = ("table", "slot", "key", "score", "show", "click", "unseen_days", "admitted", "served")
  if not rows:
    return "There are no rows."
  cells = [[_cell(row[name]) for name in (*names, "lr_w")] for row in rows]
  return "\n".join(output.columns([[*names, "lr_w"], *cells], right=range(2, 10)))


_IN_HEAD = ("key", "value", "value_type", "found")


def _kinds(value: str, value_type: str) -> list[str]:
  is_integer = re.fullmatch(r"[+-]?\d+", value) and -(2**63) <= int(value) < 2**63
  if value_type == "int" and not is_integer:
    raise CheckpointError(
      f"--value '{value}' is no integer of 64 bits; --value-type says what it is."
    )
  if value_type == "auto":
    return ["int", "string"] if is_integer else ["string"]
  return [value_type]


def _feasign(slot: str, value: str, kind: str) -> int:
  values = np.array([int(value)], np.int64) if kind == "int" else np.array([value])
  return int(feasigns.feasign(slot, values)[0])


def _absent(tables: Sequence[SavedTable]) -> dict:
  names = ", ".join(table.name for table in tables)
  return {"found": False, "where": f"table {names}" if len(tables) == 1 else f"tables {names}"}


def _find(table: SavedTable, keys: Sequence[int]) -> list[dict | None]:
  """For each key a description of its row, None where it is absent."""
  rows = table.find(keys)
  there = {int(key): i for i, key in enumerate(rows.keys)}
  return [_describe(table, rows, there[key]) if key in there else None for key in keys]


def _describe(table: SavedTable, rows: SavedRows, i: int) -> dict:
  key = int(rows.keys[i])
  shard = int(placement.virtual_shards([key], table.num_shards)[0])
  show, click, delta_score = rows.statistics[i].tolist()
  layout = table.layout.slot(int(rows.slots[i]))
  return {
    "key": key,
    "found": True,
    "table": table.name,
    "slot": table.slot_name(int(rows.slots[i])),
    "shard": shard,
    "server": table.saved.assignment[shard],
    "show": show,
    "click": click,
    "score": layout.accessor.score(show, click),
    "delta_score": delta_score,
    "unseen_days": int(rows.unseen_days[i]),
    "admitted": bool(rows.admitted[i]),
    "served": bool(rows.served[i]),
    **{name: part.tolist() for name, part in layout.row.split(rows.row_floats(i)).items()},
  }


def _cell(value: Any) -> str:
  if isinstance(value, bool):
    return "yes" if value else "no"
  if isinstance(value, float):
    return f"{value:.6g}"
  if isinstance(value, list):
    return " ".join(f"{number:.6g}" for number in value) or "none"
  return str(value)
