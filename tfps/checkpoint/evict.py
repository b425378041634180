"""Eviction from a checkpoint's files, without a training process: what `tfps evict` does."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict, get_type_hints

import numpy as np
import tensorflow as tf

from tfps.checkpoint.folder import CHECKPOINTS, find
from tfps.checkpoint.manifest import CheckpointManifest, TableManifest
from tfps.checkpoint.reader import Progress, SavedCheckpoint, SavedTable, no_progress
from tfps.checkpoint.rows import SavedRows, SavedShard
from tfps.checkpoint.writer import ShardWriter
from tfps.errors import CheckpointError
from tfps.storage import files, lock, paths
from tfps.table.accessor import CtrAccessor
from tfps.table.layout import TableLayout

_DEVICES = ["/device:CPU:0"]
_SETTING = re.compile(r"(?:(?P<slot>.+)\.)?accessor\.(?P<name>\w+)=(?P<value>[^;]*)")
_TYPES = get_type_hints(CtrAccessor)
_NUMBERS = {field.name: _TYPES[field.name] for field in dataclasses.fields(CtrAccessor)}


class Evicted(TypedDict):
  """How many rows a slot has, and how many of them leave."""

  rows: int
  evicted: int


def layouts_with(tables: Sequence[SavedTable], settings: Iterable[str]) -> dict[str, TableLayout]:
  """The layouts of tables by name, with some settings of their accessors changed.

  Args:
    tables: the tables.
    settings: texts "accessor.NAME=VALUE", for all slots that do not set NAME themselves, and
      "SLOT.accessor.NAME=VALUE", for one slot in those tables that have it.

  Raises:
    CheckpointError: there is no such slot or setting, or it cannot have that value.
  """
  options = {table.name: [table.saved.options] for table in tables}
  for setting in settings:
    match = _SETTING.fullmatch(setting)
    if not match or match["name"] not in _NUMBERS:
      raise CheckpointError(
        f"'{setting}' is no setting of an accessor: write accessor.NAME=VALUE or "
        f"SLOT.accessor.NAME=VALUE, NAME being one of {', '.join(_NUMBERS)}."
      )
    slot, name, value = match.groups()
    try:
      CtrAccessor(**{name: _NUMBERS[name](value)})
    except ValueError as error:
      raise CheckpointError(f"'{setting}' does not do: {error}") from None
    owners = [table for table in tables if slot is None or slot in table.slots]
    if not owners:
      raise CheckpointError(f"There is no slot '{slot}', which '{setting}' names.")
    for table in owners:
      prefix = f"slot.{table.slots[slot]}." if slot else ""
      options[table.name].append(f"{prefix}accessor.{name}={value}")
  return {name: TableLayout(";".join(pairs)) for name, pairs in options.items()}


def count(
  table: SavedTable, layout: TableLayout, shards: Iterable[SavedShard]
) -> dict[str, Evicted]:
  """Counts the rows that would leave, by slot name.

  Args:
    table: the table.
    layout: the layout whose accessors decide.
    shards: the table's shards.
  """
  counts = Counts(table)
  for shard in shards:
    counts.add(shard.rows, layout.evictable(shard.rows))
  return counts.by_slot()


def write(
  checkpoint: SavedCheckpoint,
  layouts: Mapping[str, TableLayout],
  output: str | None = None,
  progress: Progress = no_progress,
) -> tuple[str, dict[str, dict[str, Evicted]]]:
  """Writes a new, full checkpoint without the rows that are due to leave.

  Everything else is as in the old one. Rows that leave and that serving holds join the pending
  removals. No row ages.

  Args:
    checkpoint: the checkpoint.
    layouts: the layouts whose accessors decide, by table name; no row leaves other tables.
    output: the folder of checkpoints to write to; that of `checkpoint` by default.
    progress: shows how far each table is.

  Returns:
    The new checkpoint's path, and what `count` returns, by table name.

  Raises:
    CheckpointError: a file is damaged, or there is a newer checkpoint in the same folder.
    LockError: another process writes to the folder.
  """
  home = os.path.dirname(checkpoint.path)
  output = home if output is None else paths.absolute(output)
  counts: dict[str, dict[str, Evicted]] = {}

  def write_to(path: str) -> CheckpointManifest:
    manifest = checkpoint.manifest
    tables = {}
    for name, table in checkpoint.tables.items():
      tables[name], counts[name] = _write_table(table, layouts.get(name), path, progress)
    for name in manifest.files:
      if name.split("/")[0] not in tables:
        tf.io.gfile.makedirs(os.path.dirname(files.join(path, name)))
        tf.io.gfile.copy(files.join(checkpoint.path, name), files.join(path, name))
    return dataclasses.replace(manifest, increment_of=None, tables=tables)

  with lock.Hold(output):
    if output == home and find(home) != checkpoint.path:
      raise CheckpointError(
        f"{find(home)} is newer than {checkpoint.path}, and training would go on from the "
        "evicted one instead: evict from the newest, or write to another folder (--output)."
      )
    path = CHECKPOINTS.publish(output, CHECKPOINTS.next_number(output), write_to, _DEVICES)
  return path, {name: counts[name] for name in layouts}


class Counts:
  """Counts rows and evicted rows by slot."""

  def __init__(self, table: SavedTable) -> None:
    self._table = table
    self._counts: dict[int, Evicted] = {}

  def add(self, rows: SavedRows, due: np.ndarray) -> None:
    """Counts rows, of which those `due` (bool [n]) leave."""
    for number in np.unique(rows.slots):
      of_slot = rows.slots == number
      so_far = self._counts.setdefault(int(number), {"rows": 0, "evicted": 0})
      so_far["rows"] += int(of_slot.sum())
      so_far["evicted"] += int((of_slot & due).sum())

  def by_slot(self) -> dict[str, Evicted]:
    """The counts by slot name."""
    return {self._table.slot_name(number): self._counts[number] for number in sorted(self._counts)}


def _write_table(
  table: SavedTable, layout: TableLayout | None, path: str, progress: Progress
) -> tuple[TableManifest, dict[str, Evicted]]:
  """Returns what the manifest is to say of the table, and its counts."""
  saved = table.saved
  assignment = np.array(saved.assignment)
  bundles = [f"{table.name}/server-{server}" for server in range(saved.num_servers)]
  load = {name: list(of_shards) for name, of_shards in saved.load.items()}
  counts = Counts(table)
  order = np.argsort(assignment, kind="stable")
  shards = iter(progress(table.shards(order), table.num_shards))
  for server, prefix in enumerate(bundles):
    writer = ShardWriter(files.join(path, prefix), table.name)
    for _ in range(np.sum(assignment == server)):
      shard = next(shards)
      due = layout.evictable(shard.rows) if layout else np.zeros(len(shard.rows.keys), bool)
      counts.add(shard.rows, due)
      kept = without(shard, due)
      writer.add(kept)
      before, after = shard.rows.nbytes, kept.rows.nbytes
      load["rows"][shard.number] = len(kept.rows.keys)
      # The servers' memory is known only when they have restored it: it shrinks as the rows do.
      load["bytes"][shard.number] = int(load["bytes"][shard.number] * after / max(before, 1))
    writer.finish()
  rest = dataclasses.replace(
    saved, bundles=bundles, saved_on=saved.assignment, rows=sum(load["rows"]), load=load
  )
  return rest, counts.by_slot()


def without(shard: SavedShard, due: np.ndarray) -> SavedShard:
  """The shard without the rows `due` (bool [n]); those that serving holds are pending removals."""
  removed = due & shard.rows.served
  return SavedShard(
    shard.number,
    shard.rows.take(~due),
    shard.finished_day,
    np.concatenate([shard.removals, shard.rows.keys[removed]]),
    np.concatenate([shard.removal_slots, shard.rows.slots[removed]]),
  )
