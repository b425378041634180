"""Days by event time: which samples of a stream are of the current day, and when it ends."""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class DayRule:
  """When a day of a stream ends.

  A day ends just before the sample that is the `past_samples`th whose event time lies
  `grace_seconds` or more after the day's last second. Until then samples of the next day are
  trained in it (they are early), and samples of days that have ended are trained in the current one
  (they are late). The next day is that of the earliest of the samples that ended it, so that a day
  without samples is skipped.

  Attributes:
    day_seconds: how long a day is.
    offset_seconds: when in UTC's day it begins; -8 * 3600 where it is Beijing's.
    grace_seconds: how long after a day's last second its samples are waited for, by the event times
      of others.
    past_samples: how many samples past it end the day; more than 1, so that one wrong clock ends no
      day.
  """

  day_seconds: float = 86400.0
  offset_seconds: float = 0.0
  grace_seconds: float = 0.0
  past_samples: int = 10

  def __post_init__(self) -> None:
    for name, least in (("day_seconds", 0.001), ("grace_seconds", 0), ("past_samples", 1)):
      if not getattr(self, name) >= least:
        raise ValueError(f"{name} is {getattr(self, name)!r}; it must be at least {least}.")

  def index(self, time: float) -> int:
    """Returns the day, counted since 1970, of an event time in seconds since 1970."""
    return int(np.floor((time - self.offset_seconds) / self.day_seconds))

  def begin(self, index: int) -> float:
    """The event time with which a day begins."""
    return index * self.day_seconds + self.offset_seconds

  def name(self, index: int) -> str:
    """Returns a day's name: its date, and its start time if days are shorter than UTC's."""
    # The middle of the offset's range: a day that begins at 16:00 UTC for Beijing is the next
    # date's.
    begin = self.begin(index)
    if self.day_seconds == 86400:
      begin += self.day_seconds / 2 if self.offset_seconds else 0
    moment = datetime.datetime.fromtimestamp(begin, datetime.timezone.utc)
    if self.day_seconds % 86400 == 0:
      return moment.strftime("%Y-%m-%d")
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


class EventDays:
  """Follows the days of a stream, sample by sample.

  A pure function of rule and event times in their order.

  Args:
    rule: the `DayRule`.
    state: of `state()`, to go on there; None to begin.

  Attributes:
    index: the current day, counted since 1970; None before the first.
    is_over: whether it has ended; `begin_next` begins the next.
    late: how many samples of ended days there were.
    early: how many samples were trained before their day began.
  """

  def __init__(self, rule: DayRule, state: Sequence[Any] | None = None) -> None:
    self._rule = rule
    self.index: Any = None
    self.is_over, self.late, self.early = False, 0, 0
    self._past = 0  # samples past the day's end
    self._next: int | None = None  # the earliest day of these
    if state is not None:
      self.index, self.is_over, self._past, self._next, self.late, self.early = state

  def state(self) -> list[Any]:
    """Returns what a new `EventDays` needs to go on here, a list that JSON can hold."""
    return [self.index, self.is_over, self._past, self._next, self.late, self.early]

  def begin_next(self, times: np.ndarray | None) -> None:
    """Begins the next day; the first is that of the earliest of `times`, float64 [n]."""
    if self.is_over:
      self.index = self._next
    else:
      assert times is not None, "the first day needs the event time of a sample"
      self.index = self._rule.index(np.min(times))
    self.is_over, self._past, self._next = False, 0, None

  def take(self, times: np.ndarray) -> int:
    """Returns how many of the next samples belong to the current day.

    Args:
      times: float64 [n], their event times in seconds since 1970.

    Returns:
      n, or fewer where the sample after these ends the day: `is_over` says so.
    """
    rule = self._rule
    begin, end = rule.begin(self.index), rule.begin(self.index + 1)
    past = np.flatnonzero(times >= end + rule.grace_seconds)
    needed = rule.past_samples - self._past
    taken = len(times)
    if len(past) >= needed:
      self.is_over, taken, past = True, int(past[needed - 1]), past[:needed]
    self._past += len(past)
    if len(past):
      earliest = rule.index(np.min(times[past]))
      self._next = earliest if self._next is None else min(self._next, earliest)
    self.late += int(np.count_nonzero(times[:taken] < begin))
    self.early += int(np.count_nonzero(times[:taken] >= end))
    return taken
