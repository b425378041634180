"""Opens the next ticket of a source while the one before it is used."""

from __future__ import annotations

from concurrent import futures
from typing import Any, NamedTuple

import tensorflow as tf

from tfps.data import bad_records
from tfps.data.source import Source
from tfps.data.ticket import TICKET_SPEC, Ticket, as_tensors


class Opened(NamedTuple):
  """A ticket that is being read: eager values, or what a tf.function is given for them.

  Fields:
    iterator: the tf.data iterator of its batches but the first.
    first: a tf.experimental.Optional of its first batch.
    known: the `Reading`'s.
  """

  iterator: Any
  first: Any
  known: bad_records.Skipped


class ReadAhead:
  """Opens tickets on a thread of its own, in the order in which they are asked for.

  A ticket is opened when its records are read and parsed; of a compressed file, which is read bit
  by bit, when its first batch is. What a ticket holds depends on nothing but the ticket, so one
  that is opened ahead and never taken is as if nobody had opened it.

  Args:
    source: the source; all of its days, epochs and views with the same `opener`.

  Attributes:
    spec: the `Opened` of tf.TypeSpecs, as the signature of a tf.function takes it.
  """

  def __init__(self, source: Source):
    @tf.function(input_signature=list(TICKET_SPEC))
    def read(*fields: tf.Tensor) -> Opened:
      reading = source.reading(Ticket(*fields))
      iterator = iter(reading.batches)
      return Opened(iterator, iterator.get_next_as_optional(), reading.known)

    self._read = read.get_concrete_function()
    self.spec = Opened(
      tf.data.IteratorSpec(source.element_spec),
      tf.OptionalSpec(source.element_spec),
      bad_records.Skipped(*(tf.TensorSpec([None], t.dtype) for t in bad_records.nothing_skipped())),
    )
    # What reads a variable or a table of the user's may only run at its turn.
    self._may_begin = all(one.dtype != tf.resource for one in self._read.captured_inputs)
    self._pool: futures.ThreadPoolExecutor | None = None
    self._opening: dict[tuple, futures.Future] = {}

  def begin(self, ticket: Ticket) -> None:
    """Opens a ticket of Python values in the background, unless that has begun."""
    fields: tuple = as_tensors(ticket)
    key = _key(fields)
    if not self._may_begin or key in self._opening:
      return
    if self._pool is None:
      self._pool = futures.ThreadPoolExecutor(1, thread_name_prefix="tfps-read-ahead")
    self._opening[key] = self._pool.submit(self._read, *fields)

  def take(self, ticket: Ticket) -> Opened:
    """Returns a ticket that is opened; opens it here if that has not begun.

    Args:
      ticket: of scalar eager tensors.

    Raises:
      tf.errors.OpError: it cannot be read; also where it was opened ahead.
    """
    opening = self._opening.pop(_key(ticket), None)
    return self._read(*ticket) if opening is None else opening.result()

  def close(self) -> None:
    """Forgets what was not taken; when it returns, no thread and no file is open."""
    pool, self._pool = self._pool, None
    if pool is not None:
      pool.shutdown(cancel_futures=True)
    self._opening.clear()


def _key(fields: tuple) -> tuple:
  return tuple(field.numpy() for field in fields)
