"""Several sources as one, whose tickets come by turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import tensorflow as tf

from tfps.data import bad_records
from tfps.data.choosing import Examples
from tfps.data.source import Source
from tfps.data.ticket import Day, Ticket

if TYPE_CHECKING:
  from typing_extensions import Self

  from tfps.data.index import Cuts

WHEN_ONE_ENDS = ("go_on", "stop", "repeat")
_ROUND = 2**32  # Between the epochs' numbers of a source that begins again.


def mix(
  sources: Mapping[str, Source],
  ratios: Mapping[str, float] | None = None,
  *,
  when_one_ends: str = "go_on",
) -> MixedSource:
  """Makes one source of several, whose tickets come by turns, in the ratio of their records.

  Each next ticket is of the source that has had the fewest records for its ratio, the first of
  these where several have. So a day's order is the same in every run, and after a resume. A ticket
  has records of one source: `batches_per_ticket=1` mixes the finest.

  The days are those of all sources, by name: of sources with other days, sorted by name. Features,
  labels and weights must be alike, as must `batch_size`. A client of the served model sends the raw
  inputs of the first source that has some.

  Args:
    sources: {name: source}. Shuffle them, split them and sample them before; they may not be
      streams, compressed files, or mixed sources.
    ratios: {name: number}, any positive numbers; 1 for a name that is left out.
    when_one_ends: what a day does once all tickets of a source are taken: "go_on" with those of the
      others, so that each record is in exactly one ticket; "stop"; "repeat" that source, as another
      epoch of it, until each source has been through once.

  Raises:
    ValueError: an argument does not fit, or the sources do not.

  Examples:
    >>> other = tfps.data.ClickStream(days=2, examples_per_day=32, seed=5, batch_size=32)
    >>> both = tfps.data.mix({"web": source, "app": other}, {"web": 2, "app": 1})
    >>> [ticket.source for ticket in both.tickets("day-0")], both.day("day-0").records
    ([0, 1], 96)
  """
  ratios = dict(ratios or {})
  _check(sources, ratios, when_one_ends)
  return MixedSource(sources, [ratios.get(name, 1) for name in sources], when_one_ends)


class MixedSource(Source):
  """The source behind `mix`.

  Args:
    sources: {name: source}.
    ratios: a positive number for each.
    when_one_ends: as in `mix`.
  """

  def __init__(self, sources: Mapping[str, Source], ratios: list[float], when_one_ends: str):
    parts = list(sources.values())
    super().__init__(_merged(sources), batch_size=parts[0].batch_size)
    self._records_per_ticket = max(part._records_per_ticket for part in parts)
    self._parts = parts
    self._ratios = ratios
    self._when_one_ends = when_one_ends
    self.down_sampling = parts[0].down_sampling
    limits = [part.max_bad_records for part in parts]
    self.max_bad_records = max(limits) if all(limits) else 0
    self.raw_inputs = next((part.raw_inputs for part in parts if part.raw_inputs), None)
    # For each day, its ordinal in each source; -1 where a source does not have it.
    names = [{day.name: day.ordinal for day in part.days()} for part in parts]
    self._ordinals = [[of.get(name, -1) for of in names] for name in self._names]

  @property
  def can_be_mixed(self) -> bool:
    return False

  def _check_unchanged(self, ticket: Ticket) -> None:
    self._parts[ticket.source]._check_unchanged(ticket)

  @property
  def shuffles(self) -> bool:
    return any(part.shuffles for part in self._parts)

  def days(self) -> list[Day]:
    return [Day(day, self._names[day], self._records_of(day)) for day in self._selected]

  def shuffled(self, seed: int = 0, *, pieces: int = 1) -> NoReturn:
    """Refused: the sources are shuffled, each by itself."""
    del seed, pieces
    raise ValueError("a mixed source cannot be shuffled: shuffle its sources before you mix them.")

  def with_epoch(self, epoch: int) -> Self:
    view = super().with_epoch(epoch)
    view._first_sequences = [0]  # A day that stops or repeats may have more tickets, or fewer.
    return view

  def to_test(self) -> Self:
    parts = [part.to_test() for part in self._parts]
    view = super().to_test()
    if any(part is not before for part, before in zip(parts, self._parts)):
      view = view._view(_parts=parts, down_sampling=None)
    return view._relisted(_when_one_ends="go_on")

  def explain(self, ticket: Ticket, error: BaseException) -> BaseException:
    return self._parts[ticket.source].explain(self._own(ticket), error)

  def place_of(self, ticket: Ticket, number: int) -> str:
    return self._parts[ticket.source].place_of(self._own(ticket), number)

  def skipped_in_index(self, day: Day | int | str) -> list[bad_records.SkippedInIndex]:
    return [
      skipped
      for part, ordinal in zip(self._parts, self._ordinals[self._ordinal(day)])
      if ordinal >= 0
      for skipped in part.skipped_in_index(ordinal)
    ]

  def _cut(self, ordinal: int) -> list[Cuts]:
    raise NotImplementedError("the sources of a mixed source are cut by themselves.")

  def _records_of(self, ordinal: int) -> int:
    own = zip(self._parts, self._ordinals[ordinal])
    return sum(part._records_of(day) for part, day in own if day >= 0)

  def _count(self, ordinal: int) -> int:
    return len(self._listed(ordinal))

  def _of_day(self, ordinal: int, epoch: int) -> list[Ticket]:
    def again(i: int, time: int) -> list[Ticket]:
      day = self._ordinals[ordinal][i]
      tickets = self._parts[i]._of_day(day, epoch + time * _ROUND) if day >= 0 else []
      return [ticket._replace(day=ordinal, source=i) for ticket in tickets]

    left = {i: again(i, 0) for i in range(len(self._parts))}
    left = {i: tickets for i, tickets in left.items() if tickets}
    at, records, times = dict.fromkeys(left, 0), dict.fromkeys(left, 0), dict.fromkeys(left, 0)
    found: list[Ticket] = []
    while left:
      i = min(left, key=lambda i: (records[i] / self._ratios[i], i))
      found.append(left[i][at[i]])
      records[i] += found[-1].records
      at[i] += 1
      if at[i] < len(left[i]):
        continue
      at[i], times[i] = 0, times[i] + 1
      if self._when_one_ends == "stop" or all(times.values()):
        break
      if self._when_one_ends == "repeat":
        left[i] = again(i, times[i])
      else:
        del left[i]
    return found

  def _examples(self, ticket: Ticket) -> Examples:
    def read(i: int) -> Any:
      def of_part() -> Examples:
        examples = self._parts[i]._chosen(self._own_tensors(ticket, i))
        if examples.skipped is None:
          examples = examples._replace(skipped=bad_records.nothing_skipped())
        return examples

      return of_part

    choice = tf.cast(ticket.source, tf.int32)
    return tf.switch_case(choice, [read(i) for i in range(len(self._parts))])

  def _own(self, ticket: Ticket) -> Ticket:
    """A ticket as its source knows it."""
    return ticket._replace(day=self._ordinals[ticket.day][ticket.source])

  def _own_tensors(self, ticket: Ticket, i: int) -> Ticket:
    days = tf.constant([of_day[i] for of_day in self._ordinals], tf.int64)
    return ticket._replace(day=days[ticket.day])


def _check(sources: Mapping[str, Source], ratios: Mapping[str, float], when_one_ends: str) -> None:
  if not sources:
    raise ValueError("sources is empty; name at least one.")
  if when_one_ends not in WHEN_ONE_ENDS:
    raise ValueError(
      f"when_one_ends is {when_one_ends!r}; it must be one of {', '.join(WHEN_ONE_ENDS)}."
    )
  for name, ratio in ratios.items():
    if name not in sources:
      raise ValueError(f"ratios names {name!r}, and the sources are {', '.join(sources)}.")
    if not isinstance(ratio, (int, float)) or not 0 < ratio < float("inf"):
      raise ValueError(f"the ratio of {name!r} is {ratio!r}; it must be a positive number.")
  first = next(iter(sources))
  for name, source in sources.items():
    if not isinstance(source, Source):
      raise ValueError(f"source {name!r} is a {type(source).__name__}, and no tfps.data source.")
    if source.is_endless or not source.can_be_mixed:
      raise ValueError(
        f"source {name!r} is a stream, has compressed files, is mixed, or has a window or "
        "negatives, and cannot be mixed: unpack its files, mix all sources at once, or give window "
        "and negatives to the mixed one."
      )
    for what in ("batch_size", "down_sampling"):
      values = getattr(sources[first], what), getattr(source, what)
      if values[0] != values[1]:
        raise ValueError(
          f"{what} of source {first!r} is {values[0]}, and of {name!r} {values[1]}; it must be one."
        )
    specs = _kinds(sources[first].element_spec), _kinds(source.element_spec)
    if specs[0] != specs[1]:
      raise ValueError(
        f"the examples of source {name!r} are {specs[1]}, and those of {first!r} {specs[0]}: let "
        "both have the same features, labels and weights."
      )


def _kinds(spec: Any) -> str:
  """What of an element_spec must be the same."""
  kind = lambda one: f"{type(one).__name__.removesuffix('Spec')} {one.dtype.name} {one.shape.rank}"
  return str(tf.nest.map_structure(kind, spec))


def _merged(sources: Mapping[str, Source]) -> list[str]:
  """The names of the days of all sources, in order."""
  calendars = {name: [day.name for day in source.days()] for name, source in sources.items()}
  lists = list(calendars.values())
  if all(days == lists[0] for days in lists):
    return lists[0]
  for name, days in calendars.items():
    if days != sorted(days):
      raise ValueError(
        f"the days of source {name!r} are not sorted by name, and other sources have other days: "
        "name days so that they sort, such as 2026-01-31."
      )
  return sorted(set().union(*lists))
