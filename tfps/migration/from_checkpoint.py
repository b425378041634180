"""Warm start: the rows of some slots from a checkpoint of another model."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from tfps.checkpoint.reader import open_checkpoint
from tfps.checkpoint.rows import ADMITTED, concat, make_rows
from tfps.errors import CheckpointError
from tfps.migration.vectors import CHUNK_ROWS, Imported
from tfps.table.layout import TableLayout

if TYPE_CHECKING:
  from tfps.checkpoint.reader import SavedCheckpoint, SavedTable
  from tfps.checkpoint.rows import SavedRows
  from tfps.table.feasign_table import FeasignTable
  from tfps.table.layout import SlotLayout


def warm_start(
  table: FeasignTable,
  checkpoint: str | os.PathLike,
  source_table: str | None = None,
  slots: Mapping[str, str] | None = None,
) -> dict[str, Imported]:
  """Puts the rows that another model's table had at a checkpoint into `table`, those of some slots.

  A row keeps its feasign, statistics, unseen_days and lr_w. It keeps its optimizer states if the
  slot's optimizer is of the same kind here; otherwise they start from their initial values. It
  keeps its mf vector if mf_dim is the same; otherwise the row is not admitted, and its next push
  admits it if its score still reaches the threshold. What serving held of the other model, and the
  days that the other model had ended, are not copied. A row that `table` already has is replaced.

  Feasigns carry the name of the slot that they were made with: where a slot has another name here,
  its source must still call `tfps.feasign` with the old one.

  Args:
    table: the `tfps.FeasignTable` to fill.
    checkpoint: folder of a checkpoint, or of checkpoints, of which the newest is taken.
    source_table: name of the table there; by default that of `table`, or the only one.
    slots: {slot of `table`: slot there}; by default all that both have under one name.

  Returns:
    {slot of `table`: `Imported`}.

  Raises:
    CheckpointError: the checkpoint is damaged, or has no such table or slot.
    ValueError: a slot there is named twice.

  Examples:
    >>> saver = tfps.callbacks.Checkpoint("checkpoints")
    >>> history = model.fit(source, callbacks=[saver], verbose=0)
    >>> new = tfps.FeasignTable("new", mf_dim=4)
    >>> done = tfps.migration.warm_start(new, "checkpoints", slots={"user": "user_id"})
    >>> done["user"].rows == new.statistics()["rows"]
    True
  """
  saved = _choose_table(open_checkpoint(str(checkpoint)), source_table, table.name)
  pairs = _choose_slots(table, saved, slots)
  layout = TableLayout(table.options)
  results = {slot: Imported() for slot in pairs}
  numbers = {slot: (table.slot_id(slot), saved.slots[there]) for slot, there in pairs.items()}
  waiting, count = [], 0
  for shard in tqdm(
    saved.shards(), desc="warm start", total=saved.num_shards, delay=2, leave=False, disable=None
  ):
    for slot, (here, there) in numbers.items():
      found = shard.rows.take(shard.rows.slots == there)
      for rows in _converted(found, saved.layout.slot(there), here, layout):
        results[slot].rows += len(rows.keys)
        results[slot].admitted += int(rows.admitted.sum())
        waiting.append(rows)
        count += len(rows.keys)
    last = shard.number == saved.num_shards - 1
    if waiting and (count >= CHUNK_ROWS or last):
      table.upsert(*concat(waiting))
      waiting, count = [], 0
  return results


def _converted(
  rows: SavedRows, source: SlotLayout, number: int, layout: TableLayout
) -> Iterator[SavedRows]:
  """Yields the `SavedRows` of one slot, as slot `number` of a table with this `layout`."""
  target = layout.slot(number)
  for admitted in (False, True):
    part = rows.take(rows.admitted == admitted)
    count = len(part.keys)
    if not count:
      continue
    floats = part.floats.reshape(count, -1)
    parts = source.row.split(floats)
    # A state means something to optimizers of its kind alone, and a vector keeps its length.
    dropped = set()
    if source.row.lr_optimizer.kind != target.row.lr_optimizer.kind:
      dropped.add("lr_state")
    if source.row.mf_optimizer.kind != target.row.mf_optimizer.kind:
      dropped.add("mf_state")
    if source.row.mf_dim != target.row.mf_dim:
      dropped |= {"mf_w", "mf_state"}
      admitted = False
    floats = target.row.join({name: part for name, part in parts.items() if name not in dropped})
    slots = np.full(count, number, np.int32)
    flags = np.full(count, ADMITTED * admitted, np.uint16)
    yield make_rows(
      part.keys, slots, part.statistics, part.unseen_days, flags, floats.reshape(-1), layout
    )


def _choose_table(checkpoint: SavedCheckpoint, name: str | None, default: str) -> SavedTable:
  there = checkpoint.tables
  if name is None:
    name = next(iter(there)) if len(there) == 1 else default
  if name not in there:
    raise CheckpointError(
      f"{checkpoint.path} holds no table '{name}'; it has {', '.join(there)}: name one of them as "
      "source_table."
    )
  return there[name]


def _choose_slots(
  table: FeasignTable, saved: SavedTable, slots: Mapping[str, str] | None
) -> dict[str, str]:
  """{slot of `table`: slot there}, both of which exist."""
  if slots is None:
    slots = {slot: slot for slot in table.slots if slot in saved.slots}
    if not slots:
      raise CheckpointError(
        f"the table '{saved.name}' in the checkpoint has the slots "
        f"{', '.join(saved.slots) or '(none)'}, of which table '{table.name}' has none: make the "
        "model first, or name slots={slot here: slot there}."
      )
  slots = dict(slots)
  for there in slots.values():
    if there not in saved.slots:
      near = difflib.get_close_matches(there, saved.slots, 1)
      hint = f" (did you mean '{near[0]}'?)" if near else ""
      raise CheckpointError(
        f"the table '{saved.name}' in the checkpoint has no slot '{there}'{hint}; it has "
        f"{', '.join(saved.slots)}."
      )
    if list(slots.values()).count(there) > 1:
      raise ValueError(
        f"slots takes '{there}' for two slots, but a feasign belongs to one: name it once."
      )
  return slots
