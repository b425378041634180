"""The unit of work: a ticket names one range of one file or partition."""

from typing import Any, NamedTuple

import tensorflow as tf


class Ticket(NamedTuple):
  """A range of records of one day; Python values at the chief, scalar tensors in `open`.

  Examples:
    >>> ticket = next(source.tickets())
    >>> ticket.day, ticket.sequence, ticket.records
    (0, 0, 64)
  """

  day: int  # ordinal of the day in the source's calendar
  source: int  # which source, 0 unless several are joined
  sequence: int  # 0, 1, 2, ... over the whole calendar
  path: str  # the file or partition
  begin: int  # first byte (files) or first record (partitions)
  end: int  # one past the last
  records: int  # how many records the range holds
  epoch: int = 0  # another number whenever the records are read again
  first: int = 0  # how many records of the day come before these
  pieces: str = ""  # of a ticket of several ranges, where they are: see `pieces`
  stamp: int = 0  # tells the file from another one of its name; 0 where nothing does


class Day(NamedTuple):
  """One day of a source's calendar.

  Examples:
    >>> source.days()[1]
    Day(ordinal=1, name='day-1', records=64)
  """

  ordinal: int  # 0, 1, 2, ... in the calendar's order
  name: str  # as given, such as "2013-02-28"
  records: int


# A ticket inside a tf.function: scalar tensors, so that one trace serves all tickets.
TICKET_SPEC: Any = Ticket(
  day=tf.TensorSpec([], tf.int64),
  source=tf.TensorSpec([], tf.int64),
  sequence=tf.TensorSpec([], tf.int64),
  path=tf.TensorSpec([], tf.string),
  begin=tf.TensorSpec([], tf.int64),
  end=tf.TensorSpec([], tf.int64),
  records=tf.TensorSpec([], tf.int64),
  epoch=tf.TensorSpec([], tf.int64),
  first=tf.TensorSpec([], tf.int64),
  pieces=tf.TensorSpec([], tf.string),
  stamp=tf.TensorSpec([], tf.int64),
)


def as_tensors(ticket: Ticket) -> Ticket:
  """The ticket's fields as scalar tensors; fields that are tensors already stay."""
  return Ticket(
    *(tf.convert_to_tensor(value, spec.dtype) for value, spec in zip(ticket, TICKET_SPEC))
  )
