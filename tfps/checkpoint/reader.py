"""Reading a checkpoint's tables from its files alone, one virtual shard at a time.

checkpoint = open_checkpoint("/checkpoints/ctr")
for shard in checkpoint.tables["ctr"].shards():
  print(shard.number, shard.rows.keys, shard.rows.statistics)
"""

import numpy as np
import tensorflow as tf

from tfps.checkpoint import folder, manifest
from tfps.checkpoint import rows as rows_lib
from tfps.errors import CheckpointError
from tfps.storage import files
from tfps.table import placement
from tfps.table.layout import TableLayout

_DEVICES = ["/device:CPU:0"]


def open_checkpoint(path, *, checksums="not rows"):
  """Opens a checkpoint to read its tables.

  Args:
    path: the folder of a checkpoint, or a folder of checkpoints, of which it is the newest.
    checksums: which files are read now to compare their checksums, as of `manifest.damage`: by
      default all but those of rows, whose own checksums are compared as they are read.

  Returns:
    A `SavedCheckpoint`.

  Raises:
    CheckpointError: there is none, or a file of it, or of one that it is put over, is missing or
      damaged.
  """
  path = folder.find(path)
  try:
    chain = manifest.complete_chain(path, _DEVICES, checksums=checksums)
  except CheckpointError as error:
    raise CheckpointError(f"Checkpoint {path} is damaged: {error}.") from None
  return SavedCheckpoint(chain)


def choose(checkpoint, name=None, slot=None):
  """The `SavedTable`s that a user asks for.

  Args:
    checkpoint: the `SavedCheckpoint`.
    name: of the table; all by default.
    slot: a slot that it must know; any by default.

  Raises:
    CheckpointError: there is none.
  """
  tables = list(checkpoint.tables.values())
  if name is not None:
    tables = [table for table in tables if table.name == name]
    if not tables:
      raise CheckpointError(
        f"{checkpoint.path} holds no table '{name}'; it has {', '.join(checkpoint.tables)}."
      )
  if slot is None:
    return tables
  known = sorted({known for table in tables for known in table.slots})
  tables = [table for table in tables if slot in table.slots]
  if not tables:
    raise CheckpointError(
      f"No table in {checkpoint.path} has a slot '{slot}'; there are {', '.join(known) or 'none'}."
    )
  return tables


class SavedCheckpoint:
  """A checkpoint's files.

  Attributes:
    path: its folder.
    manifest: its manifest, a dict.
    chain: the paths of the checkpoints that its rows are read from: the full one, then the
      increments that are put over it, the last of which it is itself.
    tables: {name: SavedTable}.
  """

  def __init__(self, chain):
    self.path, self.manifest = chain[-1]
    self.chain = [path for path, _ in chain]
    self.tables = {}
    for name in self.manifest["tables"]:
      self.tables[name] = SavedTable(name, chain)


class SavedTable:
  """The rows of a table at the moment of a checkpoint.

  Attributes:
    name: the table's name.
    saved: what the manifest says of it.
    layout: the `TableLayout` of its options.
    slots: {name: number}.
    num_shards: how many virtual shards it has.
    file_bytes: how large its files are, in all checkpoints that its rows are read from.
  """

  def __init__(self, name, chain):
    self.name = name
    self.saved = chain[-1][1]["tables"][name]
    self.layout = TableLayout(self.saved["options"])
    self.slots = dict(self.saved["slots"])
    self.num_shards = self.layout.num_shards
    self.file_bytes = sum(
      file["bytes"]
      for _, content in chain
      for path, file in content["files"].items()
      if path.startswith(f"{name}/")
    )
    self._bundles = [_Bundles(name, path, content["tables"][name]) for path, content in chain]
    self._slot_names = {number: slot for slot, number in self.slots.items()}

  def slot_name(self, number):
    """The name of a slot; its number, as text, where it has none."""
    return self._slot_names.get(number, str(number))

  def shards(self, numbers=None):
    """Yields a `SavedShard` for each virtual shard, or for those with these numbers.

    Raises:
      CheckpointError: what the files hold is damaged.
    """
    for number in range(self.num_shards) if numbers is None else numbers:
      yield self._shard(int(number))

  def find(self, keys):
    """The rows of some feasigns; reads the shards that may hold them, and no others.

    Args:
      keys: int64 array-like [n].

    Returns:
      `SavedRows` of those that are there, in the order of `keys`, each once.
    """
    keys = np.asarray(keys, np.int64).reshape(-1)
    numbers = np.unique(placement.virtual_shards(keys, self.num_shards))
    shards = self.shards(numbers if keys.size else [0])
    found = [shard.rows.take(np.isin(shard.rows.keys, keys)) for shard in shards]
    found = rows_lib.concat(found)
    order = {int(key): i for i, key in reversed(list(enumerate(keys)))}
    return found.take(np.argsort([order[int(key)] for key in found.keys]).astype(np.int64))

  def _shard(self, number):
    """The rows of the newest increment that has all, and those that later ones put over them."""
    newest = None
    parts, seen = [], np.zeros(0, np.int64)
    for bundles in reversed(self._bundles):
      tensors = bundles.read(number)
      newest = newest or tensors
      try:
        rows = rows_lib.make_rows(*(tensors[name] for name in _COLUMNS), self.layout)
      except ValueError as error:
        raise CheckpointError(
          f"Checkpoint {bundles.path} is damaged: in shard {number} of table '{self.name}', "
          f"{error}."
        ) from None
      parts.append(rows.take(~np.isin(rows.keys, seen)) if seen.size else rows)
      if tensors["whole"]:
        break
      seen = np.concatenate([seen, rows.keys])
    rows = rows_lib.concat(parts[::-1])
    return rows_lib.SavedShard(number, rows, int(newest["finished_day"]), newest["removals"])


_COLUMNS = ("keys", "slots", "statistics", "unseen_days", "flags", "floats")


class _Bundles:
  """The tensor bundles of one table in one checkpoint of the chain."""

  def __init__(self, name, path, saved):
    self.path = path
    self._name = name
    self._prefixes = saved["bundles"]
    self._saved_on = saved["saved_on"]
    self._readers = {}

  def read(self, number):
    """{name: array} of a virtual shard."""
    prefix = self._prefixes[self._saved_on[number]]
    try:
      if prefix not in self._readers:
        self._readers[prefix] = tf.train.load_checkpoint(files.join(self.path, prefix))
      return {
        name: self._readers[prefix].get_tensor(f"{self._name}/shard-{number:05d}/{name}")
        for name in (*_COLUMNS, "finished_day", "removals", "whole")
      }
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
      reason = " ".join(str(error).split())
      raise CheckpointError(
        f"Checkpoint {self.path} is damaged: shard {number} of table '{self._name}' cannot be read "
        f"from {prefix}: {reason}"
      ) from error
