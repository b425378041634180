"""A table's part of a checkpoint: every parameter server writes and reads its own rows."""

from concurrent import futures
import difflib

import numpy as np

from tfps import native
from tfps.checkpoint import files
from tfps.checkpoint.errors import CheckpointError

# The options that decide how a row looks or where it is; the others may change between two runs.
_LAYOUT = ("num_shards", "mf_dim", "lr.optimizer", "mf.optimizer")


def save(table, folder):
  """Writes all rows, one tensor bundle `<table>/server-<i>` for each server; returns what the manifest says of it."""
  prefixes = [f"{table.name}/server-{i}" for i in range(table.num_servers)]

  def save_server(server):
    return native.ops.tfps_save(
      table=table.servers[server].handle,
      prefix=files.join(folder, prefixes[server]),
      table_name=table.name,
      shards=np.flatnonzero(table.assignment == server).astype(np.int32),
    )

  with futures.ThreadPoolExecutor(table.num_servers) as pool:
    rows = [int(part) for part in pool.map(save_server, range(table.num_servers))]
  return {
    "options": table.options,
    "slots": table.slots,
    "num_shards": table.num_shards,
    "assignment": table.assignment.tolist(),
    "bundles": prefixes,
    "rows": rows,
  }


def check(table, saved):
  """Raises CheckpointError, in half a sentence, if the rows that a manifest describes do not fit `table`."""
  there, here = _pairs(saved["options"]), _pairs(table.options)
  for name in _LAYOUT:
    if there[name] != here[name]:
      raise CheckpointError(
        f"table '{table.name}' was saved with {name}={there[name]} and now has {name}={here[name]}"
      )


def restore(table, folder, saved):
  """Puts the rows of a checkpoint in the place of what the table holds, each on the server that has it now."""
  saved_on = np.array(saved["assignment"])

  def restore_server(server):
    rows = 0
    for bundle, prefix in enumerate(saved["bundles"]):
      shards = np.flatnonzero((table.assignment == server) & (saved_on == bundle))
      if shards.size:
        rows += int(
          native.ops.tfps_restore(
            table=table.servers[server].handle,
            prefix=files.join(folder, prefix),
            table_name=table.name,
            shards=shards.astype(np.int32),
          )
        )
    return rows

  with futures.ThreadPoolExecutor(table.num_servers) as pool:
    rows = sum(pool.map(restore_server, range(table.num_servers)))
  if rows != sum(saved["rows"]):
    raise CheckpointError(
      f"table '{table.name}' has {rows} rows, but the manifest counts {sum(saved['rows'])}"
    )


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
