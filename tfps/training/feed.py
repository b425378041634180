"""What `fit` is fed: the days of a source one after the other, and the tickets of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from tfps.data.source import Source
from tfps.data.ticket import Day, Ticket
from tfps.training import position as position_lib
from tfps.training.position import Position


class DayFeed(Protocol):
  """A day's tickets. Iterating it takes those that are not finished.

  Attributes:
    day: the `tfps.data` Day.
    begins_at: the `Position` in it where training goes on.
  """

  day: Day
  begins_at: Position

  def __iter__(self) -> Iterator[Ticket]: ...

  def __next__(self) -> Ticket: ...

  @property
  def following(self) -> Ticket | None:
    """The ticket that will be taken next, where it is known; looking at it does not take it."""
    ...

  @property
  def is_over(self) -> bool:
    """Whether all tickets of the day were taken."""
    ...

  def tickets(self) -> int:
    """The number of its tickets, finished ones included; not of a stream."""
    ...

  def reached(self, position: Position) -> Position:
    """`position`, where all taken tickets are finished, with what the source needs to go on."""
    ...

  def wait(self) -> bool:
    """Waits for more tickets; returns whether more may come."""
    ...


def days(source: Source, epoch: int, resumed: Position | None) -> Iterator[DayFeed]:
  """Yields the days of a source in order, those of a stream as they come.

  Args:
    source: the `tfps.data` source.
    epoch: number of the epoch.
    resumed: the `Position` of the checkpoint from which the run goes on, or None.
  """
  if source.is_endless:
    yield from _streamed(source, epoch, resumed)
    return
  for day in source.days():
    yield ListedDay(source.with_epoch(epoch), day, position_lib.at(epoch, day, resumed))


def count_tickets(source: Source) -> int | None:
  """The number of tickets of a source; None if it is endless."""
  return None if source.is_endless else sum(1 for _ in source.tickets())


class ListedDay:
  """A `DayFeed` all of whose tickets are known."""

  def __init__(self, source: Source, day: Day, begins_at: Position):
    self.day = day
    self.begins_at = begins_at
    self._source = source
    self._tickets: Iterator[Ticket] = iter(())
    self.following: Ticket | None = None
    if not begins_at.ended:
      self._tickets = position_lib.remaining(source.tickets(day), begins_at)
      self.following = next(self._tickets, None)

  def __iter__(self) -> ListedDay:
    return self

  def __next__(self) -> Ticket:
    if self.following is None:
      raise StopIteration
    ticket, self.following = self.following, next(self._tickets, None)
    return ticket

  @property
  def is_over(self) -> bool:
    return self.following is None

  def tickets(self) -> int:
    return sum(1 for _ in self._source.tickets(self.day))

  def reached(self, position: Position) -> Position:
    return position

  def wait(self) -> bool:
    return not self.is_over


class StreamedDay:
  """A `DayFeed` of a stream: iterating it takes the tickets that are there now."""

  def __init__(self, reader: Any, day: Day, begins_at: Position):
    self.day = day
    self.begins_at = begins_at
    self._reader = reader
    self._last: Ticket | None = None

  def __iter__(self) -> StreamedDay:
    return self

  def __next__(self) -> Ticket:
    ticket = self._reader.next_ticket()
    if ticket is None:
      raise StopIteration
    self._last = ticket
    return ticket

  @property
  def following(self) -> Ticket | None:
    return None  # Which one it will be depends on what has arrived when it is taken.

  @property
  def is_over(self) -> bool:
    return self._reader.day_is_over

  def tickets(self) -> int:
    raise TypeError("nobody knows how many tickets a day of a stream will have.")

  def reached(self, position: Position) -> Position:
    if self._last is None:
      return position
    return position.with_cursor(self._reader.cursor_after(self._last))

  def wait(self) -> bool:
    return self._reader.wait()


def _streamed(source: Any, epoch: int, resumed: Position | None) -> Iterator[DayFeed]:
  reader = source.read(resumed.cursor if resumed is not None else None)
  try:
    if resumed is not None and not resumed.ended:
      # The position has the day's number, the reader's cursor which days are over.
      day = reader.resume_day(resumed.day, resumed.day_name)
      yield StreamedDay(reader, day, resumed)
    ordinal = 0 if resumed is None else resumed.day + 1
    while (day := reader.next_day(ordinal)) is not None:
      begins_at = Position(epoch, day.ordinal, day.name, cursor=reader.cursor())
      yield StreamedDay(reader, day, begins_at)
      ordinal += 1
  finally:
    source.arrivals.close()
