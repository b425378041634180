"""Eviction from a checkpoint's files, without a training process: what `tfps evict` does."""

import dataclasses
import os
import re

import numpy as np
import tensorflow as tf

from tfps.checkpoint import folder
from tfps.checkpoint.rows import SavedShard
from tfps.checkpoint.writer import ShardWriter
from tfps.errors import CheckpointError
from tfps.storage import files, lock, paths
from tfps.table.accessor import CtrAccessor
from tfps.table.layout import TableLayout

_DEVICES = ["/device:CPU:0"]
_SETTING = re.compile(r"(?:(?P<slot>.+)\.)?accessor\.(?P<name>\w+)=(?P<value>[^;]*)")
_NUMBERS = {field.name: field.type for field in dataclasses.fields(CtrAccessor)}


def layouts_with(tables, settings):
  """{name: TableLayout} of `SavedTable`s, with some settings of their accessors changed.

  Args:
    tables: the `SavedTable`s.
    settings: strings "accessor.NAME=VALUE", for the slots that have no NAME of their own, and
      "SLOT.accessor.NAME=VALUE", for a slot in those tables that have it.

  Raises:
    CheckpointError: there is no such slot or setting, or it cannot have that value.
  """
  options = {table.name: [table.saved["options"]] for table in tables}
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


def count(table, layout, shards):
  """What would leave, per slot.

  Args:
    table: the `SavedTable`.
    layout: the `TableLayout` whose accessors decide.
    shards: an iterator of the table's shards.

  Returns:
    {slot name: {"rows": int, "evicted": int}}.
  """
  counts = Counts(table)
  for shard in shards:
    counts.add(shard.rows, layout.evictable(shard.rows))
  return counts.by_slot()


def write(checkpoint, layouts, output=None, progress=lambda shards, total: shards):
  """Writes a new, full checkpoint without the rows that are due, else with what the old one has.

  The served ones of the rows that leave join the pending removals. No row ages.

  Args:
    checkpoint: the `SavedCheckpoint`.
    layouts: {table name: TableLayout}, whose accessors decide. Of other tables nothing leaves.
    output: the folder of checkpoints to write to; that of `checkpoint` by default.
    progress: a function of (iterator of shards, their number) that returns it with a progress bar.

  Returns:
    (path of the new checkpoint, {table name: as of `count`}).

  Raises:
    CheckpointError: what the files hold is damaged, there is a newer checkpoint beside, or another process writes to
      the folder.
  """
  home = os.path.dirname(checkpoint.path)
  output = home if output is None else paths.absolute(output)
  counts = {}

  def write_to(path):
    content = checkpoint.manifest
    tables = {}
    for name, table in checkpoint.tables.items():
      tables[name], counts[name] = _write_table(table, layouts.get(name), path, progress)
    for name in content["files"]:
      if name.split("/")[0] not in tables:
        tf.io.gfile.makedirs(os.path.dirname(files.join(path, name)))
        tf.io.gfile.copy(files.join(checkpoint.path, name), files.join(path, name))
    return {**content, "increment_of": None, "tables": tables}

  with lock.Hold(output):
    if output == home and folder.find(home) != checkpoint.path:
      raise CheckpointError(
        f"{folder.find(home)} is newer than {checkpoint.path}, and training would go on from the "
        "evicted one instead: evict from the newest, or write to another folder (--output)."
      )
    path = folder.publish(output, write_to, _DEVICES)
  return path, {name: counts[name] for name in layouts}


class Counts:
  """Rows and evicted rows, per slot."""

  def __init__(self, table):
    self._table = table
    self._counts = {}

  def add(self, rows, due):
    for number in np.unique(rows.slots):
      of_slot = rows.slots == number
      so_far = self._counts.setdefault(int(number), {"rows": 0, "evicted": 0})
      so_far["rows"] += int(of_slot.sum())
      so_far["evicted"] += int((of_slot & due).sum())

  def by_slot(self):
    return {self._table.slot_name(number): self._counts[number] for number in sorted(self._counts)}


def _write_table(table, layout, path, progress):
  """Returns (what the manifest is to say of the table, its counts)."""
  saved = table.saved
  assignment = np.array(saved["assignment"])
  bundles = [f"{table.name}/server-{server}" for server in range(saved["num_servers"])]
  load = {name: list(of_shards) for name, of_shards in saved["load"].items()}
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
      # The servers' memory is not known before they have it: as much less as the rows have become.
      load["bytes"][shard.number] = int(load["bytes"][shard.number] * after / max(before, 1))
    writer.finish()
  return {
    **saved,
    "bundles": bundles,
    "saved_on": saved["assignment"],
    "rows": sum(load["rows"]),
    "load": load,
  }, counts.by_slot()


def without(shard, due):
  """The `SavedShard` without the rows `due` (bool [n]); the served ones are pending removals."""
  removed = shard.rows.keys[due & shard.rows.served]
  return SavedShard(
    shard.number,
    shard.rows.take(~due),
    shard.finished_day,
    np.concatenate([shard.removals, removed]),
  )
