"""Which training ticket may begin, given those that are finished."""

from __future__ import annotations

from tfps.training.communication import Communication

_TICKETS_PER_WORKER = 2  # One that runs, and one that is there when it ends.


class Schedule:
  """Numbers tickets and says when the next may begin; the caller reports which have finished.

  Args:
    communication: the `tfps.Communication` whose `consistency` it keeps.
    workers: the number of workers; 0: this process runs one ticket at a time.
    first: number of the first ticket.
  """

  def __init__(self, communication: Communication, workers: int = 0, first: int = 0):
    self._is_sync = communication.consistency == "sync"
    if self._is_sync:
      self._most_running = communication.tickets_per_step or max(workers, 1)
    else:
      self._most_running = max(_TICKETS_PER_WORKER * workers, 1)
    is_bounded = communication.consistency == "bounded"
    self._max_delay = communication.max_delay if is_bounded else None
    self._next = first
    self._running: set[int] = set()
    self._round = 0  # In sync: the number of tickets that have begun since the last step.

  @property
  def next_ticket(self) -> int:
    """The number of the next ticket."""
    return self._next

  @property
  def finished_below(self) -> int:
    """All tickets with smaller numbers are finished."""
    return min(self._running, default=self._next)

  @property
  def running(self) -> int:
    """The number of tickets that have begun and are not finished."""
    return len(self._running)

  def may_begin(self) -> bool:
    """Whether the next ticket may begin now."""
    if self._is_sync:
      return self._round < self._most_running
    if self._max_delay is not None and self._next - self.finished_below > self._max_delay:
      return False
    return len(self._running) < self._most_running

  def begin(self) -> int:
    """Begins the next ticket; returns its number."""
    if not self.may_begin():
      raise RuntimeError(f"ticket {self._next} may not begin yet.")
    number = self._next
    self._running.add(number)
    self._next += 1
    self._round += 1
    return number

  def finish(self, number: int) -> None:
    """Counts a ticket as finished."""
    self._running.remove(number)

  @property
  def is_accumulating(self) -> bool:
    """Whether tickets have begun whose sum is not applied; only in sync."""
    return self._is_sync and self._round > 0

  @property
  def step_is_due(self) -> bool:
    """Whether all tickets of the round are finished, so that their sum can be applied."""
    return self.is_accumulating and not self._running

  def step(self) -> None:
    """Begins the next round, once the sum of the last one is applied."""
    self._round = 0
