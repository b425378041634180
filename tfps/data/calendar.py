"""The chief's part of a source: a calendar of days, each a list of tickets in an order."""

from __future__ import annotations

import abc
import copy
import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfps.data import pieces as pieces_lib
from tfps.data.ticket import Day, Ticket

if TYPE_CHECKING:
  from typing_extensions import Self

  from tfps.data.index import Cuts


class Window(NamedTuple):
  """How many days a day trains on, itself the last of them, and how many times."""

  days: int = 1
  epochs: int = 1


class Calendar(abc.ABC):
  """The days of a `tfps.data.Source`, which documents it, and their tickets.

  Args:
    day_names: the days, in order.
    batch_size, batches_per_ticket, shuffle, seed: as in `tfps.data.source`.
  """

  is_endless = False
  opener: object
  # Whether tickets may have several pieces: whether `_examples` reads all ranges of a ticket.
  _reads_pieces = False

  def __init__(
    self,
    day_names: Iterable[str],
    *,
    batch_size: int = 512,
    batches_per_ticket: int = 10,
    shuffle: bool = False,
    seed: int = 0,
  ) -> None:
    for name, value in (("batch_size", batch_size), ("batches_per_ticket", batches_per_ticket)):
      _check_count(name, value)
    _check_seed(seed)
    self.batch_size = int(batch_size)
    self._records_per_ticket = int(batch_size) * int(batches_per_ticket)
    self._shuffle = bool(shuffle)
    self._seed = int(seed)
    self._pieces = 1
    self._epoch = 0
    self._window = Window()
    self._names = [str(name) for name in day_names]
    self._selected: Sequence[int] = range(len(self._names))
    # Shared by all views of this source that are cut alike, and filled as days are asked for.
    self._cuts_of_day: dict[int, list[Cuts]] = {}
    self._first_sequences = [0]

  def days(self) -> list[Day]:
    """The days in order, a list of `Day`; the first call indexes files that are not yet."""
    return [
      Day(ordinal, self._names[ordinal], self._records_of(ordinal)) for ordinal in self._selected
    ]

  @property
  def shuffles(self) -> bool:
    """Whether an epoch's tickets and their records come in another order than in the files."""
    return self._shuffle

  @property
  def records(self) -> int:
    """How many records all days hold together."""
    return sum(day.records for day in self.days())

  def day(self, day: Day | int | str) -> Self:
    """This source, restricted to one day, which keeps its ordinal and its tickets.

    Args:
      day: a `Day`, an ordinal or a name.

    Raises:
      ValueError: there is no such day.
    """
    view = copy.copy(self)
    view._selected = (self._ordinal(day),)
    return view

  def with_epoch(self, epoch: int) -> Self:
    """This source, if it shuffles, in the order of that epoch (0, 1, ...)."""
    view = copy.copy(self)
    view._epoch = int(epoch)
    return view

  def shuffled(self, seed: int = 0, *, pieces: int = 1) -> Self:
    """This source, shuffled: the tickets of a day, and the records of a ticket.

    A ticket is one range of a file, or with `pieces` that many smaller ranges from all over the
    day, the smallest of which have several short files. So its records, which are shuffled as a
    whole, are from everywhere, and not more than one ticket's are in memory. The order is a pure
    function of the seed, the epoch and the day.

    Args:
      seed: makes the order repeatable.
      pieces: how many make a ticket.

    Raises:
      ValueError: an argument does not fit, or a ticket of this source must be one range.

    Examples:
      >>> mixed = source.shuffled(seed=1, pieces=4)
      >>> [ticket.records for ticket in mixed.tickets("day-0")]
      [64]
    """
    _check_seed(seed)
    _check_count("pieces", pieces)
    if pieces > self._records_per_ticket:
      raise ValueError(
        f"pieces is {pieces!r}; a ticket has {self._records_per_ticket} records at most."
      )
    if pieces > 1 and not self._reads_pieces:
      raise ValueError(
        f"pieces is {pieces!r}, but this source's tickets are one range each, as those of streams "
        "and of compressed files are: unpack the files, or leave it at 1."
      )
    return self._view(
      _shuffle=True, _seed=int(seed), _pieces=int(pieces), _cuts_of_day={}, _first_sequences=[0]
    )

  def window(self, days: int, epochs: int = 1) -> Self:
    """This source, with each day trained together with those before it, several times.

    The tickets of a day are then those of the last `days` days up to and with itself, `epochs`
    times: the oldest day first, or where the source shuffles in an order of all of them that is a
    pure function of the seed, the epoch and the day. It is still one day, which is tested before
    it, and ends after it, once.

    Args:
      days: how many, with the day itself.
      epochs: how many times all of them.

    Raises:
      ValueError: an argument is no whole number above 0, or the source is a stream.

    Examples:
      >>> [ticket.day for ticket in source.window(days=2, epochs=2).tickets("day-1")]
      [0, 1, 0, 1]
    """
    _check_count("days", days)
    _check_count("epochs", epochs)
    if self.is_endless:
      raise ValueError("a stream is read once, so that no day of it can be trained again.")
    return self._relisted(_window=Window(int(days), int(epochs)))

  def tickets(self, day: Day | int | str | None = None) -> Iterator[Ticket]:
    """Yields the `Ticket`s of one day (a `Day`, an ordinal or a name), or of all days in order.

    Sequence numbers follow the order in which tickets are yielded. Raises ValueError if a file was
    written again since it was indexed.
    """
    for ordinal in self._selected if day is None else (self._ordinal(day),):
      listed = self._listed(ordinal)
      for sequence, ticket in enumerate(listed, self._first_sequence(ordinal)):
        self._check_unchanged(ticket)
        yield ticket._replace(sequence=sequence)
        self._check_unchanged(ticket)  # It may have been read by now.

  def _check_unchanged(self, ticket: Ticket) -> None:
    """Raises ValueError if what a ticket is read from is not what was indexed."""
    del ticket

  def _listed(self, ordinal: int) -> list[Ticket]:
    """The tickets of a day, in order, without their sequence numbers."""
    days, epochs = self._window
    tickets: list[Ticket] = []
    for time in range(epochs):
      of_window = [
        ticket
        for day in range(max(0, ordinal - days + 1), ordinal + 1)
        for ticket in self._of_day(day, (self._epoch * days + ordinal - day) * epochs + time)
      ]
      if self._shuffle and days > 1:
        key = [self._seed, self._epoch * epochs + time, ordinal, days]
        order = np.random.default_rng(key).permutation(len(of_window))
        of_window = [of_window[at] for at in order]
      tickets += of_window
    return tickets

  def _of_day(self, ordinal: int, epoch: int) -> list[Ticket]:
    """The tickets of a day alone, in the order of an epoch, without their sequence numbers."""
    ranges, first = [], 0
    for cuts in self._cuts(ordinal):
      for i in range(len(cuts)):
        begin, end, records = cuts.range(i)
        ticket = Ticket(ordinal, 0, 0, cuts.path, begin, end, records, epoch, first)
        ranges.append(ticket._replace(stamp=cuts.stamp))
        first += records
    if not self._shuffle:
      return ranges
    random = np.random.default_rng([self._seed, epoch, ordinal])
    return pieces_lib.shuffled(ranges, self._records_per_range, self._pieces, random)

  @property
  def _records_per_range(self) -> int:
    """How many records a range that `_cut` makes has at most."""
    return -(-self._records_per_ticket // self._pieces)

  def _view(self, **attributes: Any) -> Self:
    """A copy that opens otherwise."""
    view = copy.copy(self)
    for cached in ("element_spec", "_numbers"):
      view.__dict__.pop(cached, None)
    view.opener = object()
    for name, value in attributes.items():
      setattr(view, name, value)
    return view

  def _relisted(self, **attributes: Any) -> Self:
    """A copy that has other tickets."""
    if all(getattr(self, name) == value for name, value in attributes.items()):
      return self
    view = copy.copy(self)
    view._first_sequences = [0]
    for name, value in attributes.items():
      setattr(view, name, value)
    return view

  def _records_of(self, ordinal: int) -> int:
    return sum(cuts.records for cuts in self._cuts(ordinal))

  @abc.abstractmethod
  def _cut(self, ordinal: int) -> list[Cuts]:
    """A list of `index.Cuts`: the files or partitions of one day. Runs on the chief, once."""

  def _cuts(self, ordinal: int) -> list[Cuts]:
    if ordinal not in self._cuts_of_day:
      self._cuts_of_day[ordinal] = self._cut(ordinal)
    return self._cuts_of_day[ordinal]

  def _first_sequence(self, ordinal: int) -> int:
    firsts = self._first_sequences
    while len(firsts) <= ordinal:
      firsts.append(firsts[-1] + self._count(len(firsts) - 1))
    return firsts[ordinal]

  def _count(self, ordinal: int) -> int:
    """The number of a day's tickets."""
    if self._window == Window() and self._pieces == 1:
      return sum(len(cuts) for cuts in self._cuts(ordinal))
    return len(self._listed(ordinal))

  def _ordinal(self, day: Day | int | str) -> int:
    if isinstance(day, Day):
      ordinal = day.ordinal
    elif isinstance(day, str):
      ordinal = self._names.index(day) if day in self._names else -1
    else:
      ordinal = day
    if ordinal not in self._selected:
      names = [self._names[selected] for selected in self._selected]
      near = difflib.get_close_matches(str(day), names, 1) or names[:1]
      hint = f" (did you mean {near[0]!r}?)" if near else ""
      raise ValueError(
        f"there is no day {day!r} among the {len(names)} days of this source{hint}; "
        "days() lists them."
      )
    return int(ordinal)


def _check_count(name: str, value: Any) -> None:
  if not isinstance(value, (int, np.integer)) or value < 1:
    raise ValueError(f"{name} is {value!r}; it must be a whole number, at least 1.")


def _check_seed(seed: Any) -> None:
  if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**31:
    raise ValueError(f"seed is {seed!r}; it must be a whole number from 0 to 2^31 - 1.")
