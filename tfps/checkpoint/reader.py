"""Reading a checkpoint's tables from its files alone, one virtual shard at a time.

checkpoint = open_checkpoint("/checkpoints/ctr")
for shard in checkpoint.tables["ctr"].shards():
  print(shard.number, shard.rows.keys, shard.rows.statistics)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfps.checkpoint import chain as chain_lib
from tfps.checkpoint import folder
from tfps.checkpoint import rows as rows_lib
from tfps.checkpoint.chain import Checksums, Link
from tfps.checkpoint.manifest import TableManifest
from tfps.checkpoint.rows import SavedRows, SavedShard
from tfps.errors import CheckpointError
from tfps.storage import files
from tfps.table import placement
from tfps.table.layout import TableLayout

_DEVICES = ["/device:CPU:0"]

# Wraps the iterator of shards, of which there are as many as the number says, in a progress bar.
Progress = Callable[[Iterable[SavedShard], int], Iterable[SavedShard]]


def no_progress(shards: Iterable[SavedShard], total: int) -> Iterable[SavedShard]:
  """A `Progress` that shows nothing."""
  return shards


def open_checkpoint(
  path: str | os.PathLike[str], *, checksums: Checksums = "not rows"
) -> SavedCheckpoint:
  """Opens a checkpoint to read its tables.

  Args:
    path: the folder of a checkpoint, or a folder of checkpoints, of which the newest is opened.
    checksums: which files are read now to compare their checksums: "all", "none", or "not rows".
      The last one leaves out files with rows, whose own checksums are compared as they are read.

  Raises:
    CheckpointError: there is none, or a file of it, or of one that it goes on top of, is missing
      or damaged.
  """
  path = folder.find(path)
  try:
    chain = chain_lib.read_complete(path, _DEVICES, checksums=checksums)
  except CheckpointError as error:
    raise CheckpointError(f"Checkpoint {path} is damaged: {error}.") from None
  return SavedCheckpoint(chain)


def choose(
  checkpoint: SavedCheckpoint, name: str | None = None, slot: str | None = None
) -> list[SavedTable]:
  """The tables that a user asks for.

  Args:
    checkpoint: the checkpoint.
    name: the table's name; all tables by default.
    slot: a slot that the table must have; any by default.

  Raises:
    CheckpointError: there is no such table.
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
    manifest: its `CheckpointManifest`.
    chain: the paths of the checkpoints that its rows are read from: a full one, then the
      increments on top of it in order; the checkpoint itself is the last.
    tables: the tables by name.
  """

  def __init__(self, chain: Sequence[Link]) -> None:
    self.path, self.manifest = chain[-1]
    self.chain = [link.path for link in chain]
    self.tables = {name: SavedTable(name, chain) for name in self.manifest.tables}


class SavedTable:
  """The rows of a table at the moment of a checkpoint.

  Attributes:
    name: the table's name.
    saved: its `TableManifest`.
    layout: the `TableLayout` of its options.
    slots: the number of each slot, by its name.
    num_shards: how many virtual shards it has.
    file_bytes: how large its files are, in all checkpoints that its rows are read from.
  """

  def __init__(self, name: str, chain: Sequence[Link]) -> None:
    self.name = name
    self.saved = chain[-1].manifest.tables[name]
    self.layout = TableLayout(self.saved.options)
    self.slots = dict(self.saved.slots)
    self.num_shards = self.layout.num_shards
    self.file_bytes = sum(
      file.bytes
      for link in chain
      for path, file in link.manifest.files.items()
      if path.startswith(f"{name}/")
    )
    self._bundles = [_Bundles(name, link.path, link.manifest.tables[name]) for link in chain]
    self._slot_names = {number: slot for slot, number in self.slots.items()}

  def slot_name(self, number: int) -> str:
    """The name of a slot; its number, as text, if it has no name."""
    return self._slot_names.get(number, str(number))

  def shards(self, numbers: Iterable[int] | None = None) -> Iterator[SavedShard]:
    """Yields all virtual shards, or those with these numbers.

    Raises:
      CheckpointError: a file is damaged.
    """
    for number in range(self.num_shards) if numbers is None else numbers:
      yield self._shard(int(number))

  def find(self, keys: npt.ArrayLike) -> SavedRows:
    """The rows of some feasigns; reads the shards that may hold them, and no others.

    Args:
      keys: int64 [n].

    Returns:
      The rows that are there, in the order of `keys`, each once.
    """
    keys = np.asarray(keys, np.int64).reshape(-1)
    numbers = np.unique(placement.virtual_shards(keys, self.num_shards))
    shards = self.shards(numbers if keys.size else [0])
    found = rows_lib.concat([shard.rows.take(np.isin(shard.rows.keys, keys)) for shard in shards])
    order = {int(key): i for i, key in reversed(list(enumerate(keys)))}
    return found.take(np.argsort([order[int(key)] for key in found.keys]).astype(np.int64))

  def _shard(self, number: int) -> SavedShard:
    """The shard's rows in the newest checkpoint that has them all, changed by the later ones."""
    newest: dict[str, np.ndarray] = {}
    parts, seen = [], np.zeros(0, np.int64)
    for bundles in reversed(self._bundles):
      tensors = bundles.read(number)
      newest = newest or tensors
      try:
        rows = rows_lib.make_rows(**{name: tensors[name] for name in _COLUMNS}, layout=self.layout)
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
    return SavedShard(
      number, rows, int(newest["finished_day"]), newest["removals"], newest["removal_slots"]
    )


_COLUMNS = ("keys", "slots", "statistics", "unseen_days", "flags", "floats")


class _Bundles:
  """The tensor bundles of one table in one checkpoint of the chain."""

  def __init__(self, name: str, path: str, saved: TableManifest) -> None:
    self.path = path
    self._name = name
    self._prefixes = saved.bundles
    self._saved_on = saved.saved_on
    self._readers: dict[str, Any] = {}

  def read(self, number: int) -> dict[str, np.ndarray]:
    """The tensors of a virtual shard by name."""
    prefix = self._prefixes[self._saved_on[number]]
    try:
      if prefix not in self._readers:
        self._readers[prefix] = tf.train.load_checkpoint(files.join(self.path, prefix))
      reader, shard = self._readers[prefix], f"{self._name}/shard-{number:05d}"
      tensors = {
        name: reader.get_tensor(f"{shard}/{name}")
        for name in (*_COLUMNS, "finished_day", "removals", "whole")
      }
      if reader.has_tensor(f"{shard}/removal_slots"):
        slots = reader.get_tensor(f"{shard}/removal_slots")
      else:  # A checkpoint of tfps 0.1.
        slots = np.full(len(tensors["removals"]), rows_lib.UNKNOWN_SLOT, np.int32)
      return {**tensors, "removal_slots": slots}
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
      reason = " ".join(str(error).split())
      raise CheckpointError(
        f"Checkpoint {self.path} is damaged: shard {number} of table '{self._name}' cannot be read "
        f"from {prefix}: {reason}"
      ) from error
