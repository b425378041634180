"""Writing shards to a tensor bundle as they come, a few at a time, with TensorFlow's own ops."""

import tensorflow as tf

from tfps.storage import files

_PART_BYTES = 32 << 20


class ShardWriter:
  """Writes `SavedShard`s to a tensor bundle, which then reads as one of a parameter server.

  Shards are kept in memory until they are `_PART_BYTES` together, and then written as one file.

  Args:
    prefix: path of the bundle, without the endings of its files.
    table_name: the table's name.
  """

  def __init__(self, prefix, table_name):
    self._prefix = prefix
    self._table_name = table_name
    self._parts = []
    self._tensors, self._bytes = {}, 0

  def add(self, shard):
    """Writes all rows of a shard, each number once."""
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
      "whole": tf.constant(True),
    }
    for name, tensor in tensors.items():
      self._tensors[f"{self._table_name}/shard-{shard.number:05d}/{name}"] = tensor
    self._bytes += rows.nbytes
    if self._bytes >= _PART_BYTES:
      self._write_part()

  def finish(self):
    """Makes the files one bundle; nothing can be added any more."""
    if self._tensors or not self._parts:
      self._write_part()
    tf.raw_ops.MergeV2Checkpoints(
      checkpoint_prefixes=self._parts, destination_prefix=self._prefix, delete_old_dirs=True
    )

  def _write_part(self):
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
