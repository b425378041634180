"""Where in the calendar of a source training is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tfps.data.ticket import Day, Ticket


@dataclasses.dataclass(frozen=True)
class Position:
  """A moment of a run: everything before it is trained, nothing after it is.

  Attributes:
    epoch: 0, 1, ...
    day: ordinal of the day in the source's calendar.
    day_name: its name.
    tickets: the number of the day's tickets that are finished: at a moment, the first ones in their
      order.
    records: the number of examples in these.
    ended: whether the day has ended, so that the next one is to begin.
    next_ticket: the number with which the next ticket of the run is scheduled.
    skipped: {reason: number} of the bad records that the run has skipped until here.
    nonfinite_steps: the number of the run's train steps until here that were not finite.
    cursor: of a stream: what it needs to go on here, a dict of JSON values; None for other sources.
  """

  epoch: int
  day: int
  day_name: str
  tickets: int = 0
  records: int = 0
  ended: bool = False
  next_ticket: int = 0
  skipped: dict[str, int] = dataclasses.field(default_factory=dict)
  cursor: dict[str, Any] | None = None
  nonfinite_steps: int = 0

  def __str__(self) -> str:
    epoch = f"epoch {self.epoch}, " if self.epoch else ""
    if self.ended:
      return f"{epoch}{self.day_name} has ended"
    return f"{epoch}{self.day_name} with {self.tickets} tickets finished"

  def as_dict(self) -> dict[str, Any]:
    """The fields as JSON has them."""
    return dataclasses.asdict(self)

  def after(self, ticket: Ticket) -> Position:
    """The position once `ticket`, another one of the day, is finished."""
    return dataclasses.replace(
      self, tickets=self.tickets + 1, records=self.records + int(ticket.records)
    )

  def before_ticket(self, number: int) -> Position:
    """The same position, with the number of the next ticket."""
    return dataclasses.replace(self, next_ticket=number)

  def with_skipped(self, counts: Mapping[str, int]) -> Position:
    """The same position, after a run that has skipped these records."""
    return dataclasses.replace(self, skipped=dict(counts))

  def with_nonfinite_steps(self, count: int) -> Position:
    """The same position, after a run with so many steps that were not finite."""
    return dataclasses.replace(self, nonfinite_steps=count)

  def with_cursor(self, cursor: dict[str, Any]) -> Position:
    """The same position, with what a stream needs to go on there."""
    return dataclasses.replace(self, cursor=cursor)

  def end(self) -> Position:
    """The position once the day has ended."""
    return dataclasses.replace(self, ended=True)


def at(epoch: int, day: Day, resumed: Position | None) -> Position:
  """Where in `day` training goes on.

  Args:
    epoch: number of the epoch.
    day: a `tfps.data` Day.
    resumed: the `Position` of the checkpoint from which the run goes on, or None.

  Raises:
    ValueError: the source's calendar is not the one of the checkpoint.
  """
  if resumed is None or (epoch, day.ordinal) > (resumed.epoch, resumed.day):
    return Position(epoch, day.ordinal, day.name)
  if (epoch, day.ordinal) < (resumed.epoch, resumed.day):
    return Position(epoch, day.ordinal, day.name, ended=True)
  if day.name != resumed.day_name:
    raise ValueError(
      f"the checkpoint was saved when day {day.ordinal} of the source was {resumed.day_name!r}, "
      f"and now it is {day.name!r}: give the source the days that it had, and new ones after them."
    )
  return resumed


def remaining(tickets: Iterable[Ticket], position: Position) -> Iterator[Ticket]:
  """An iterator of those of a day's `tickets` that are not finished at `position`.

  Raises:
    ValueError: the finished ones are not what they were when the position was saved.
  """
  tickets = iter(tickets)
  done = [ticket for _, ticket in zip(range(position.tickets), tickets)]
  records = sum(ticket.records for ticket in done)
  if (len(done), records) != (position.tickets, position.records):
    raise ValueError(
      f"the checkpoint was saved after {position.tickets} tickets of {position.day_name!r} with "
      f"{position.records} examples, but the first {len(done)} tickets of the source now hold "
      f"{records}: give it the files, batch_size and batches_per_ticket that it had."
    )
  return tickets
