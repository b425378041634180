"""Tickets of several pieces: small ranges of many files, so that a ticket mixes a whole day."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfps.data.ticket import Ticket

_SEPARATOR = "\0"  # No path has it.
_FIELDS = 6  # of a range in a ticket of several


def bundled(ranges: Sequence[Ticket], most: int) -> list[list[Ticket]]:
  """Ranges, with small neighbours joined: lists of at most `most` records together."""
  bundles: list[list[Ticket]] = []
  records = 0
  for ticket in ranges:
    if not bundles or records + ticket.records > most:
      bundles.append([])
      records = 0
    bundles[-1].append(ticket)
    records += ticket.records
  return bundles


def shuffled(
  ranges: Sequence[Ticket], most: int, pieces: int, random: np.random.Generator
) -> list[Ticket]:
  """Tickets of some ranges of a day, in a random order; of `pieces` bundles each.

  A ticket has no more than `pieces` times `most` records: fewer bundles, where ranges have more
  than `most`.
  """
  if pieces == 1:
    return [ranges[at] for at in random.permutation(len(ranges))]
  bundles = bundled(ranges, most)
  mixed = [bundles[at] for at in random.permutation(len(bundles))]
  tickets: list[list[list[Ticket]]] = []
  records = 0
  for bundle in mixed:
    more = sum(ticket.records for ticket in bundle)
    if not tickets or len(tickets[-1]) == pieces or records + more > pieces * most:
      tickets.append([])
      records = 0
    tickets[-1].append(bundle)
    records += more
  return [joined(list(itertools.chain(*of_ticket))) for of_ticket in tickets]


def joined(ranges: Sequence[Ticket]) -> Ticket:
  """One ticket that holds the records of several ranges of a day, in their order."""
  paths = list(dict.fromkeys(ticket.path for ticket in ranges))
  number = {path: i for i, path in enumerate(paths)}
  rows = [
    (number[one.path], one.begin, one.end, one.records, one.first, one.stamp) for one in ranges
  ]
  records = sum(ticket.records for ticket in ranges)
  text = " ".join(str(field) for row in rows for field in row)
  return ranges[0]._replace(
    path=_SEPARATOR.join(paths), begin=0, end=records, records=records, first=0, pieces=text,
    stamp=0,
  )  # fmt: skip


def paths_of(ticket: Ticket) -> list[str]:
  """The files of a ticket of Python values."""
  return ticket.path.split(_SEPARATOR)


def ranges_of(ticket: Ticket) -> list[Ticket]:
  """The ranges of a ticket of Python values."""
  if not ticket.pieces:
    return [ticket]
  paths = ticket.path.split(_SEPARATOR)
  rows = np.array(ticket.pieces.split(), np.int64).reshape([-1, _FIELDS]).tolist()
  return [
    ticket._replace(
      path=paths[path], begin=begin, end=end, records=records, first=first, stamp=stamp, pieces=""
    )
    for path, begin, end, records, first, stamp in rows
  ]


def find(ticket: Ticket, number: int) -> tuple[Ticket, int]:
  """(the range that holds a ticket's record, the record's number in it)."""
  for part in ranges_of(ticket):
    if number < part.records:
      return part, number
    number -= part.records
  raise ValueError(f"the ticket has {ticket.records} records.")


def files_of(ticket: Ticket) -> str:
  """The files of a ticket, for messages."""
  return ", ".join(ticket.path.split(_SEPARATOR))


def concatenated(
  ticket: Ticket, read: Callable[[Ticket], tuple], dtypes: Sequence[tf.DType]
) -> tuple[tf.Tensor, ...]:
  """What `read` returns for each range of a ticket of tensors, one after the other.

  Args:
    ticket: the ticket.
    read: a function of a range, as a ticket, to tensors [n].
    dtypes: of these.
  """
  paths, rows = tf.strings.split(ticket.path, _SEPARATOR), table(ticket)
  count = tf.shape(rows)[0]
  arrays = [
    tf.TensorArray(dtype, count, infer_shape=False, element_shape=[None]) for dtype in dtypes
  ]

  def step(i: tf.Tensor, *arrays: tf.TensorArray) -> tuple:
    path, begin, end, records, first, stamp = tf.unstack(rows[i], num=_FIELDS)
    part = ticket._replace(
      path=paths[path], begin=begin, end=end, records=records, first=first, stamp=stamp,
      pieces=tf.constant(""),
    )  # fmt: skip
    return i + 1, *(array.write(i, found) for array, found in zip(arrays, read(part)))

  zero = tf.zeros([], tf.int32)
  _, *arrays = tf.while_loop(lambda i, *_: i < count, step, (zero, *arrays), parallel_iterations=1)
  return tuple(array.concat() for array in arrays)


def table(ticket: Ticket) -> tf.Tensor:
  """int64 [ranges, 6]: of each the number of its path, begin, end, records, first and stamp."""

  def parsed() -> tf.Tensor:
    return tf.reshape(
      tf.strings.to_number(tf.strings.split(ticket.pieces), tf.int64), [-1, _FIELDS]
    )

  def one() -> tf.Tensor:
    zero = tf.zeros([], tf.int64)
    fields = [ticket.begin, ticket.end, ticket.records, ticket.first, ticket.stamp]
    return tf.stack([zero, *fields])[tf.newaxis]

  return tf.cond(tf.strings.length(ticket.pieces) > 0, parsed, one)


def numbers_in_day(ticket: Ticket) -> tf.Tensor:
  """int64 [records]: how many records of the day come before each of a ticket's."""
  _, _, _, records, first, _ = tf.unstack(table(ticket), num=_FIELDS, axis=1)
  return tf.ragged.range(first, first + records, row_splits_dtype=tf.int64).flat_values
