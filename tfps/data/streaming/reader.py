"""The chief's part of a stream: reads what arrives, cuts it into tickets, knows its position."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tfps.data.streaming.days import EventDays
from tfps.data.ticket import Day, Ticket

if TYPE_CHECKING:
  from tfps.data.bad_records import SkippedInIndex
  from tfps.data.streaming.source import StreamSource

_LOOK_SECONDS = 0.1  # how soon a waiting reader sees that it must stop


class EventTimes(NamedTuple):
  """The event times of some samples, in seconds since 1970."""

  samples: int
  oldest: float
  newest: float
  mean: float


class _Cut(NamedTuple):
  """A ticket that was cut, and where the stream stood then."""

  arrival: Any
  samples: int  # of the arrival's, that it and the tickets before it hold
  is_whole: bool  # whether these are all
  days: list[Any]
  times: EventTimes
  # The `SkippedInIndex` of the arrival where `is_whole`, and of those before it without tickets.
  skipped: list[SkippedInIndex]


class StreamReader:
  """Reads a stream from its beginning or from a cursor on.

  Args:
    source: the `StreamSource`.
    cursor: of `cursor_after`, to go on there; None to begin.
  """

  def __init__(self, source: StreamSource, cursor: Mapping[str, Any] | None = None) -> None:
    cursor = cursor or {"arrivals": None, "days": None, "sequence": 0}
    self._source = source
    self._cursor = cursor
    self._arrivals: Any = source.arrivals
    self._arrivals.resume(cursor["arrivals"])
    self._rule = source.day_rule
    self._days = EventDays(self._rule, cursor["days"])
    self._sequence = cursor["sequence"]
    self._arrival: Any = None  # The file that is being cut.
    self._samples: Any = None  # Its `Samples`.
    self._at = 0  # How many of these are in tickets.
    self._skipped: list[
      SkippedInIndex
    ] = []  # `SkippedInIndex` of arrivals without tickets, since the last cut.
    self._cuts: dict[int, _Cut] = {}  # {sequence: _Cut} of the tickets since the last moment.
    self._busy_at = time.monotonic()

  @property
  def day_is_over(self) -> bool:
    """Whether the current day's tickets were all cut."""
    return self._days.is_over

  @property
  def late(self) -> int:
    """How many samples came after their day had ended."""
    return self._days.late

  @property
  def early(self) -> int:
    """How many samples were trained in the day before theirs."""
    return self._days.early

  def next_day(self, ordinal: int) -> Day | None:
    """Waits for the next day's samples.

    Returns it as the `Day` with that ordinal, None if the stream is to end.
    """
    while not self._source.stopped:
      if self._days.is_over or self._fill():
        self._days.begin_next(self._samples.times[self._at :] if self._samples else None)
        return Day(ordinal, self._rule.name(self._days.index), 0)
      if not self.wait():
        break
    return None

  def resume_day(self, ordinal: int, name: str) -> Day:
    """The `Day` in the middle of which the cursor is.

    Raises:
      ValueError: it was another one when the cursor was saved.
    """
    now = self._rule.name(self._days.index)
    if now != name:
      raise ValueError(
        f"the checkpoint was saved in the day {name!r}, which is now {now!r}: give the stream the "
        "day_seconds and offset_seconds that it had."
      )
    return Day(ordinal, name, 0)

  def next_ticket(self) -> Ticket | None:
    """The current day's next `Ticket`.

    None if there is none now, if the day is over or the stream is to end.
    """
    if self._days.is_over or self._source.stopped or not self._fill():
      return None
    begin = self._at
    times = self._samples.times[begin : begin + self._source.records_per_ticket]
    taken = self._days.take(times)
    if not taken:
      return None
    self._at += taken
    times = times[:taken]
    is_whole = self._at == len(self._samples.times)
    skipped, self._skipped = self._skipped + list(self._samples.bad if is_whole else ()), []
    self._cuts[self._sequence] = _Cut(
      self._arrival, self._at, is_whole, self._days.state(),
      EventTimes(taken, float(times.min()), float(times.max()), float(times.mean())), skipped,
    )  # fmt: skip
    bounds = self._samples.bounds
    ticket = Ticket(
      self._days.index, 0, self._sequence, self._arrival.path, int(bounds[begin]),
      int(bounds[self._at]), taken, first=self._sequence * self._source.records_per_ticket,
      stamp=self._samples.stamp,
    )  # fmt: skip
    self._sequence += 1
    self._busy_at = time.monotonic()
    return ticket

  def event_times(self, ticket: Ticket) -> EventTimes:
    """The `EventTimes` of a ticket that finished since the last moment."""
    return self._cuts[ticket.sequence].times

  def skipped_with(self, ticket: Ticket) -> list[SkippedInIndex]:
    """Returns the skipped data of the files that end with a ticket.

    The ticket finished since the last moment. The skipped data of a file without any ticket belong
    to the next ticket.
    """
    return self._cuts[ticket.sequence].skipped

  def cursor(self) -> Mapping[str, Any]:
    """Returns the stream's position at the last moment, a dict that JSON can hold."""
    return self._cursor

  def cursor_after(self, ticket: Ticket) -> Mapping[str, Any]:
    """Returns the position at a moment when the tickets up to this one are finished.

    The value is a dict that JSON can hold.
    """
    if ticket.sequence not in self._cuts:
      return self._cursor
    cut = self._cuts[ticket.sequence]
    for sequence in [sequence for sequence in self._cuts if sequence <= ticket.sequence]:
      done = self._cuts.pop(sequence)
      if done.is_whole:
        self._arrivals.trained(done.arrival)
    self._cursor = {
      "arrivals": self._arrivals.cursor(cut.arrival, cut.samples, cut.is_whole),
      "days": cut.days,
      "sequence": ticket.sequence + 1,
    }
    return self._cursor

  def wait(self) -> bool:
    """Waits a while for more; returns whether some may come."""
    source = self._source
    now = time.monotonic()
    if source.stop_after_idle and now - self._busy_at > source.stop_after_idle:
      return False
    until = now + source.poll_seconds
    while not source.stopped and (left := until - time.monotonic()) > 0:
      time.sleep(min(left, _LOOK_SECONDS))
    return not source.stopped

  def _fill(self) -> bool:
    """Whether a sample is left that is in no ticket; takes the next file if there was none."""
    while self._samples is None or self._at == len(self._samples.times):
      arrival = self._arrivals.next()
      if arrival is None:
        return False
      self._arrival = arrival
      source = self._source
      self._samples = source.samples_of(arrival.path)
      self._at = arrival.skip
      if self._at > len(self._samples.times):
        raise ValueError(
          f"{arrival.path} has {len(self._samples.times)} samples, and {arrival.skip} of it are "
          "trained: it is not the file that it was; put that back, or go on from another "
          "checkpoint."
        )
      if not len(self._samples.times):
        for bad in self._samples.bad:
          print(f"tfps: {bad.detail}", file=sys.stderr, flush=True)
        self._skipped += self._samples.bad
        self._arrivals.trained(arrival)
    return True
