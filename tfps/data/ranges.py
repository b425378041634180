"""Reads ranges of files, with stock TensorFlow ops."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfps.data import parsing
from tfps.data.opening import REMEDY

if TYPE_CHECKING:
  from tfps.data.ticket import Ticket


def check_count(ticket: Ticket, found: tf.Tensor) -> None:
  """Asserts that a ticket's range has as many records as when it was indexed."""
  tf.debugging.Assert(
    found == ticket.records,
    [
      ticket.path,
      "changed; records in the range now and when it was indexed:",
      found,
      ticket.records,
      REMEDY,
    ],
  )


def block(ticket: Ticket, sizes: Mapping[str, int]) -> tf.Tensor:
  """String scalar: the bytes of the ticket's range.

  The op itself refuses a file whose size is not what it was.

  Args:
    ticket: a range of one file.
    sizes: {path: bytes} of all files when they were indexed; empty for a stream's.
  """
  if not sizes:  # Of a stream, whose files are small.
    content = tf.io.read_file(ticket.path)
    return tf.strings.substr(content, ticket.begin, ticket.end - ticket.begin)
  blocks = tf.data.FixedLengthRecordDataset(
    ticket.path,
    ticket.end - ticket.begin,
    header_bytes=ticket.begin,
    footer_bytes=_size_of(ticket.path, sizes) - ticket.end,
  )
  # One more, so that there is a batch also where a file has shrunk by as many bytes.
  blocks = blocks.take(2).concatenate(tf.data.Dataset.from_tensors(tf.constant("")))
  blocks = blocks.batch(3).get_single_element()
  changed = "changed; its size is not what it was when it was indexed."
  tf.debugging.Assert(tf.size(blocks) == 2, [ticket.path, changed, REMEDY])
  return blocks[0]


def _size_of(path: tf.Tensor, sizes: Mapping[str, int]) -> tf.Tensor:
  known, bytes_ = tf.constant(list(sizes)), tf.constant(list(sizes.values()), tf.int64)
  return tf.reduce_max(tf.where(known == path, bytes_, 0))


def lines(block: tf.Tensor) -> tf.Tensor:
  """String [n]: the lines of a string scalar that are not empty."""
  block = tf.strings.regex_replace(block, "\r(\n|$)", r"\1")
  # The first version of this op is six times as fast as tf.strings.split, and skips what is empty.
  return tf.raw_ops.StringSplit(input=[block], delimiter="\n", skip_empty=True).values


def tfrecords(path: tf.Tensor | str, begin: tf.Tensor | int, count: tf.Tensor | int) -> tf.Tensor:
  """String [count]: the records of a TFRecord file from a byte on."""
  records = tf.raw_ops.TFRecordDatasetV2(
    filenames=[path], compression_type="", buffer_size=256 << 10, byte_offsets=[begin]
  )
  records = tf.data.experimental.from_variant(records, tf.TensorSpec([], tf.string))
  return records.take(count).batch(count).get_single_element()


def damaged_tfrecords(
  ticket: Ticket, block: Callable[[], tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
  """Reads a range of a TFRecord file of which records may be damaged.

  Args:
    ticket: the range.
    block: returns its bytes; called where a record is damaged.

  Returns:
    (string [records], bool [records]: which of them have a wrong checksum).
  """
  read = _traced_tfrecords()
  ok, _, records = parsing.attempt(read, ticket.path, ticket.begin, ticket.records)

  def one_by_one() -> tuple[tf.Tensor, tf.Tensor]:
    content = block()

    def step(
      at: tf.Tensor, records: tf.Tensor, damaged: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
      (size,) = tf.unstack(tf.io.decode_raw(tf.strings.substr(content, at, 8), tf.int64), num=1)
      ok, _, record = parsing.attempt(read, ticket.path, ticket.begin + at, tf.ones([], tf.int64))
      record = tf.cond(ok, lambda: record, lambda: tf.constant([""]))
      at += 16 + tf.maximum(size, 0)
      return at, tf.concat([records, record], 0), tf.concat([damaged, [~ok]], 0)

    _, records, damaged = tf.while_loop(
      lambda at, *_: at < ticket.end - ticket.begin,
      step,
      (tf.zeros([], tf.int64), tf.zeros([0], tf.string), tf.zeros([0], tf.bool)),
      (tf.TensorShape([]), tf.TensorShape([None]), tf.TensorShape([None])),
      parallel_iterations=1,
    )
    return records, damaged

  return tf.cond(ok, lambda: (records, tf.zeros([ticket.records], tf.bool)), one_by_one)


@functools.cache
def _traced_tfrecords() -> Any:
  """`tfrecords` to attempt.

  One for the process: TensorFlow keeps a thread for each that was called eagerly.
  """
  with tf.init_scope():
    return tf.function(tfrecords).get_concrete_function(
      *(tf.TensorSpec([], dtype) for dtype in (tf.string, tf.int64, tf.int64))
    )
