"""Writing virtual shards to a tensor bundle one by one, with TensorFlow's own ops."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfps.checkpoint.rows import SavedShard
from tfps.storage import files

_PART_BYTES = 32 << 20


class ShardWriter:
  """Writes `SavedShard`s to a tensor bundle, which reads like a parameter server's own.

  Shards stay in memory until they have `_PART_BYTES` together, and are then written as one file.

  Args:
    prefix: the bundle's path without the endings of its files.
    table_name: the table's name.
  """

  def __init__(self, prefix: str, table_name: str) -> None:
    self._prefix = prefix
    self._table_name = table_name
    self._parts: list[str] = []
    self._tensors: dict[str, Any] = {}
    self._bytes = 0

  def add(self, shard: SavedShard) -> None:
    """Adds all rows of a shard; each shard may be added once."""
    rows = shard.rows
    tensors = {
      "keys": rows.keys,
      "slots": rows.slots,
      "statistics": rows.statistics,
      "unseen_days": rows.unseen_days,
      "flags": rows.flags,
      "floats": rows.floats,
      "finished_day": tf.constant(shard.finished_day, tf.int64),
      "removals": shard.removals,
      "removal_slots": shard.removal_slots,
      "whole": tf.constant(True),
    }
    for name, tensor in tensors.items():
      self._tensors[f"{self._table_name}/shard-{shard.number:05d}/{name}"] = tensor
    self._bytes += rows.nbytes
    if self._bytes >= _PART_BYTES:
      self._write_part()

  def finish(self) -> None:
    """Makes one bundle of the files; no shard can be added any more."""
    if self._tensors or not self._parts:
      self._write_part()
    tf.raw_ops.MergeV2Checkpoints(
      checkpoint_prefixes=self._parts, destination_prefix=self._prefix, delete_old_dirs=True
    )

  def _write_part(self) -> None:
    folder = f"{self._prefix}.parts"
    tf.io.gfile.makedirs(folder)
    part = files.join(folder, f"part-{len(self._parts):05d}")
    tf.raw_ops.SaveV2(
      prefix=part,
      tensor_names=list(self._tensors),
      shape_and_slices=[""] * len(self._tensors),
      tensors=list(self._tensors.values()),
    )
    self._parts.append(part)
    self._tensors, self._bytes = {}, 0
