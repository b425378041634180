"""The unit of work: a ticket names one range of one file or partition."""

from typing import NamedTuple


class Ticket(NamedTuple):
  """A range of records of one day; Python values at the chief, scalar tensors in `open`."""

  day: int  # ordinal of the day in the source's calendar
  source: int  # which source, 0 unless several are joined
  sequence: int  # 0, 1, 2, ... over the whole calendar
  path: str  # the file or partition
  begin: int  # first byte (files) or first record (partitions)
  end: int  # one past the last
  records: int  # how many records the range holds


class Day(NamedTuple):
  """One day of a source's calendar."""

  ordinal: int  # 0, 1, 2, ... in the calendar's order
  name: str  # as given, such as "2013-02-28"
  records: int
