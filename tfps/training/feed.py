"""What `fit` is fed: a source's days one after the other, and of each the tickets that are there."""

from tfps.training import position as position_lib


def days(source, epoch, resumed):
  """Yields the days of a source in order, those of a stream as they come.

  Args:
    source: the `tfps.data` source.
    epoch: number of the epoch.
    resumed: the `Position` of the checkpoint from which the run goes on, or None.

  Yields:
    `ListedDay`s, or `StreamedDay`s.
  """
  if source.is_endless:
    yield from _streamed(source, epoch, resumed)
    return
  for day in source.days():
    yield ListedDay(source.with_epoch(epoch), day, position_lib.at(epoch, day, resumed))


class ListedDay:
  """A day all of whose tickets are known. Iterating it takes those that are not finished.

  Attributes:
    day: the `tfps.data` Day.
    begins_at: the `Position` in it where training goes on.
  """

  def __init__(self, source, day, begins_at):
    self.day = day
    self.begins_at = begins_at
    self._source = source
    self._tickets = iter(())
    self._following = None
    if not begins_at.ended:
      self._tickets = position_lib.remaining(source.tickets(day), begins_at)
      self._following = next(self._tickets, None)

  def __iter__(self):
    return self

  def __next__(self):
    if self._following is None:
      raise StopIteration
    ticket, self._following = self._following, next(self._tickets, None)
    return ticket

  @property
  def is_over(self):
    """Whether all tickets of the day were taken."""
    return self._following is None

  def tickets(self):
    """How many tickets it has, also those that are finished."""
    return sum(1 for _ in self._source.tickets(self.day))

  def reached(self, position):
    """`position`, at which all tickets that were taken are finished, with what the source needs to go on there."""
    return position

  def wait(self):
    """Waits for more tickets; returns whether some may come."""
    return not self.is_over


class StreamedDay:
  """A day of a stream. Iterating it takes the tickets that are there now; more may come until it is over.

  Attributes: as `ListedDay`.
  """

  def __init__(self, reader, day, begins_at):
    self.day = day
    self.begins_at = begins_at
    self._reader = reader
    self._last = None

  def __iter__(self):
    return self

  def __next__(self):
    ticket = self._reader.next_ticket()
    if ticket is None:
      raise StopIteration
    self._last = ticket
    return ticket

  @property
  def is_over(self):
    return self._reader.day_is_over

  def reached(self, position):
    if self._last is None:
      return position
    return position.with_cursor(self._reader.cursor_after(self._last))

  def wait(self):
    return self._reader.wait()


def _streamed(source, epoch, resumed):
  reader = source.read(resumed.cursor if resumed is not None else None)
  try:
    if resumed is not None and not resumed.ended:
      # The day's number is in the position, what is over in the reader's cursor.
      day = reader.resume_day(resumed.day, resumed.day_name)
      yield StreamedDay(reader, day, resumed)
    ordinal = 0 if resumed is None else resumed.day + 1
    while (day := reader.next_day(ordinal)) is not None:
      begins_at = position_lib.Position(epoch, day.ordinal, day.name, cursor=reader.cursor())
      yield StreamedDay(reader, day, begins_at)
      ordinal += 1
  finally:
    source.arrivals.close()
