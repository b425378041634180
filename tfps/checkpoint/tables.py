"""A table's part of a checkpoint: every parameter server writes and reads its own rows."""

from __future__ import annotations

import difflib
import weakref
from collections.abc import Iterable, Mapping, Sequence
from concurrent import futures
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfps import native
from tfps.checkpoint.manifest import MEASURES, TableManifest
from tfps.errors import CheckpointError
from tfps.storage import files
from tfps.table import placement

if TYPE_CHECKING:
  from tfps.table.feasign_table import FeasignTable

# The options that decide how a slot's rows look; like num_shards, they must be the same in the run
# that saves and the run that restores.
_LAYOUT = ("mf_dim", "lr.optimizer", "mf.optimizer")

# The checkpoint since which a table marks the rows that are touched, whichever manager saved it.
_marked_since: weakref.WeakKeyDictionary[FeasignTable, str] = weakref.WeakKeyDictionary()


def save(table: FeasignTable, folder: str, *, only_touched: bool) -> tuple[TableManifest, int]:
  """Writes rows, one tensor bundle `<table>/server-<i>` for each server.

  Args:
    table: the table.
    folder: the checkpoint's folder.
    only_touched: write only the rows that were touched since the last call, and all rows of a
      shard whose day ended.

  Returns:
    What the manifest says of the table, and how many rows were written.
  """
  _marked_since.pop(table, None)
  prefixes = [f"{table.name}/server-{i}" for i in range(table.num_servers)]
  load = np.zeros([table.num_shards, 3], np.int64)

  def save_server(server: int) -> int:
    shards = np.flatnonzero(table.assignment == server).astype(np.int32)
    try:
      written, load[shards] = native.ops.tfps_save(
        table=table.servers[server].handle,
        prefix=files.join(folder, prefixes[server]),
        table_name=table.name,
        shards=shards,
        only_touched=only_touched,
      )
    except tf.errors.DataLossError as error:
      raise table.nonfinite(error, "checkpoint") from None
    return int(written)

  with futures.ThreadPoolExecutor(table.num_servers) as pool:
    written = sum(pool.map(save_server, range(table.num_servers)))
  saved = TableManifest(
    options=table.options,
    slots=table.slots,
    num_shards=table.num_shards,
    num_servers=table.num_servers,
    assignment=table.assignment.tolist(),
    saved_on=table.assignment.tolist(),
    bundles=prefixes,
    rows=int(load[:, 0].sum()),
    load=dict(zip(MEASURES, load.T.tolist())),
    # No ticket is running: all that have pushed are finished.
    clock=table.clocks(),
  )
  return saved, written


def mark_since(table: FeasignTable, path: str) -> None:
  """Notes that `save` wrote the table to the checkpoint `path`, which is now complete."""
  _marked_since[table] = path


def are_marked_since(table: FeasignTable, path: str | None) -> bool:
  """Whether all rows that were touched after the checkpoint `path`, and no others, are marked."""
  return path is not None and _marked_since.get(table) == path


def check(table: FeasignTable, saved: TableManifest) -> None:
  """Raises CheckpointError, in half a sentence, if the saved rows do not fit `table`."""
  there, here = _pairs(saved.options), _pairs(table.options)
  for name in ("num_shards", *_LAYOUT):
    if there[name] != here[name]:
      raise CheckpointError(
        f"table '{table.name}' was saved with {name}={there[name]} and now has {name}={here[name]}"
      )
  for slot, number in saved.slots.items():
    for name in _LAYOUT:
      was, now = _of_slot(there, number, name), _of_slot(here, table.slots.get(slot), name)
      if was != now:
        raise CheckpointError(
          f"slot '{slot}' of table '{table.name}' was saved with {name}={was} and now has "
          f"{name}={now}"
        )


def place(table: FeasignTable, saved: TableManifest) -> None:
  """Assigns the shards of an empty table to servers as the manifest does.

  If the number of servers has changed, as few shards move as possible. A table keeps its own
  assignment if it holds rows, or if functions were traced with it.
  """
  assignment = np.array(saved.assignment, np.int32)
  if saved.num_servers != table.num_servers:
    assignment = placement.reassign(assignment, table.num_servers, saved.num_servers)
  table.place(assignment)


def restore(table: FeasignTable, chain: Sequence[tuple[str, TableManifest]]) -> None:
  """Replaces the rows of a table by those of a checkpoint, each on the server that has it now.

  Args:
    table: the table.
    chain: (folder, table in it) of the full checkpoint, then of each increment on top of it.
  """
  _marked_since.pop(table, None)
  for folder, saved in chain:
    _restore_one(table, folder, saved)
  _, newest = chain[-1]
  if newest.clock:  # The largest: a ticket may have pushed to some servers only.
    table.set_clocks(max(newest.clock))
  rows = int(table.statistics()["rows"])
  if rows != newest.rows:
    raise CheckpointError(
      f"table '{table.name}' has {rows} rows, but the manifest counts {newest.rows}"
    )


def _restore_one(table: FeasignTable, folder: str, saved: TableManifest) -> None:
  saved_on = np.array(saved.saved_on)
  numbers = {number: table.slot_id(slot) for slot, number in saved.slots.items()}

  def restore_server(server: int) -> None:
    for bundle, prefix in enumerate(saved.bundles):
      shards = np.flatnonzero((table.assignment == server) & (saved_on == bundle))
      if shards.size:
        native.ops.tfps_restore(
          table=table.servers[server].handle,
          prefix=files.join(folder, prefix),
          table_name=table.name,
          shards=shards.astype(np.int32),
          saved_slots=np.array(list(numbers), np.int32),
          slots=np.array(list(numbers.values()), np.int32),
        )

  with futures.ThreadPoolExecutor(table.num_servers) as pool:
    list(pool.map(restore_server, range(table.num_servers)))


def pair(
  tables: Iterable[FeasignTable], saved: Mapping[str, TableManifest]
) -> list[tuple[FeasignTable, TableManifest]]:
  """Each table with what was saved of it; raises CheckpointError if the names are not the same."""
  tables = list(tables)
  for table in tables:
    if table.name not in saved:
      near = difflib.get_close_matches(table.name, saved, 1)
      hint = f" (it has '{near[0]}')" if near else ""
      raise CheckpointError(f"it holds no table '{table.name}'{hint}")
  for name in saved.keys() - {table.name for table in tables}:
    raise CheckpointError(f"it holds table '{name}', which this model has not")
  return [(table, saved[table.name]) for table in tables]


def _pairs(options: str) -> dict[str, str]:
  return dict(pair.split("=", 1) for pair in options.split(";"))


def _of_slot(pairs: Mapping[str, str], number: int | None, name: str) -> str:
  """The option of the slot with this number: its own, or else the table's."""
  return pairs.get(f"slot.{number}.{name}", pairs[name])
