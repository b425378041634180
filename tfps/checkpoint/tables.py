"""A table's part of a checkpoint: every parameter server writes and reads its own rows."""

import difflib
from concurrent import futures

import numpy as np

from tfps import native
from tfps.errors import CheckpointError
from tfps.storage import files
from tfps.table import placement

# The options that decide how a slot's rows look; they and num_shards may not change between two runs.
_LAYOUT = ("mf_dim", "lr.optimizer", "mf.optimizer")


def save(table, folder, *, only_touched):
  """Writes rows, one tensor bundle `<table>/server-<i>` for each server.

  Args:
    table: the `tfps.FeasignTable`.
    folder: of the checkpoint.
    only_touched: write only the rows that were touched since the last call, and all of a shard whose day ended.

  Returns:
    (what the manifest says of the table, how many rows were written).
  """
  prefixes = [f"{table.name}/server-{i}" for i in range(table.num_servers)]
  load = np.zeros([table.num_shards, 3], np.int64)

  def save_server(server):
    shards = np.flatnonzero(table.assignment == server).astype(np.int32)
    written, load[shards] = native.ops.tfps_save(
      table=table.servers[server].handle,
      prefix=files.join(folder, prefixes[server]),
      table_name=table.name,
      shards=shards,
      only_touched=only_touched,
    )
    return int(written)

  with futures.ThreadPoolExecutor(table.num_servers) as pool:
    written = sum(pool.map(save_server, range(table.num_servers)))
  rows, size, pulls = load.T.tolist()
  return {
    "options": table.options,
    "slots": table.slots,
    "num_shards": table.num_shards,
    "num_servers": table.num_servers,
    "assignment": table.assignment.tolist(),
    "saved_on": table.assignment.tolist(),
    "bundles": prefixes,
    "rows": sum(rows),
    "load": {"rows": rows, "bytes": size, "pulls": pulls},
    # No ticket is running: all that have pushed are finished.
    "clock": table.clocks(),
  }, written


def check(table, saved):
  """Raises CheckpointError, in half a sentence, if the rows that a manifest describes do not fit `table`."""
  there, here = _pairs(saved["options"]), _pairs(table.options)
  for name in ("num_shards", *_LAYOUT):
    if there[name] != here[name]:
      raise CheckpointError(
        f"table '{table.name}' was saved with {name}={there[name]} and now has {name}={here[name]}"
      )
  for slot, number in saved["slots"].items():
    for name in _LAYOUT:
      was, now = _of_slot(there, number, name), _of_slot(here, table.slots.get(slot), name)
      if was != now:
        raise CheckpointError(
          f"slot '{slot}' of table '{table.name}' was saved with {name}={was} and now has {name}={now}"
        )


def place(table, saved):
  """Gives the shards of an empty table the servers that the manifest names, moving as few as their number allows.

  A table that holds rows, or by whose assignment functions were traced, keeps its own.
  """
  assignment = np.array(saved["assignment"], np.int32)
  if saved["num_servers"] != table.num_servers:
    assignment = placement.reassign(assignment, table.num_servers, saved["num_servers"])
  table.place(assignment)


def restore(table, chain):
  """Puts the rows of a checkpoint in the place of what the table holds, each on the server that has it now.

  Args:
    table: the `tfps.FeasignTable`.
    chain: [(folder, what its manifest says of the table)], the full checkpoint first, each other one over those before.
  """
  for folder, saved in chain:
    _restore_one(table, folder, saved)
  # A ticket may have pushed to some servers only; a checkpoint of an earlier version has no clock.
  if clock := chain[-1][1].get("clock"):
    table.set_clocks(max(clock))
  rows, expected = int(table.statistics()["rows"]), chain[-1][1]["rows"]
  if rows != expected:
    raise CheckpointError(
      f"table '{table.name}' has {rows} rows, but the manifest counts {expected}"
    )


def _restore_one(table, folder, saved):
  saved_on = np.array(saved["saved_on"])
  numbers = {number: table.slot_id(slot) for slot, number in saved["slots"].items()}

  def restore_server(server):
    for bundle, prefix in enumerate(saved["bundles"]):
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


def pair(tables, saved):
  """[(table, what the manifest says of it)]; raises CheckpointError if their names are not the same."""
  for table in tables:
    if table.name not in saved:
      near = difflib.get_close_matches(table.name, saved, 1)
      hint = f" (it has '{near[0]}')" if near else ""
      raise CheckpointError(f"it holds no table '{table.name}'{hint}")
  for name in saved.keys() - {table.name for table in tables}:
    raise CheckpointError(f"it holds table '{name}', which this model has not")
  return [(table, saved[table.name]) for table in tables]


def _pairs(options):
  return dict(pair.split("=", 1) for pair in options.split(";"))


def _of_slot(pairs, number, name):
  """The option of the slot with this number: its own, or else the table's."""
  return pairs.get(f"slot.{number}.{name}", pairs[name])
