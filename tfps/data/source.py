"""Sources: a calendar of days, cut into tickets at the chief and opened by range on any worker."""

from __future__ import annotations

import abc
import copy
import difflib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfps.data import bad_records
from tfps.data.negatives import Negatives
from tfps.data.ticket import TICKET_SPEC, Day, Ticket, as_tensors
from tfps.graph.autograph import libraries_unconverted, users

if TYPE_CHECKING:
  import numpy.typing as npt
  from typing_extensions import Self

  from tfps.data.index import Cuts
  from tfps.data.raw_inputs import RawInputs


def _options() -> tf.data.Options:
  options = tf.data.Options()
  options.deterministic = True
  # A ticket is read once, by a pipeline that lives for a fraction of a second: nothing to tune.
  options.autotune.enabled = False
  options.experimental_optimization.apply_default_optimizations = False
  return options


class Reading(NamedTuple):
  """A ticket that is being read.

  Fields:
    batches: the tf.data.Dataset of its batches.
    skipped: a function of how many examples were in them (int64 scalar), called when all are read;
      returns the `bad_records.Skipped` of the other records.
  """

  batches: tf.data.Dataset
  skipped: Callable[[tf.Tensor], bad_records.Skipped]


class Source(abc.ABC):
  """Input that the chief cuts into tickets and any worker opens by ticket.

  A subclass names its days, and says how one day is cut (`_cut`) and how a ticket's range becomes
  batches (`_batches`). The latter runs inside a tf.function on a worker and uses stock TensorFlow
  ops only.

  With `shuffle`, the tickets of a day and the records of a ticket come in an order that is a pure
  function of the seed, the epoch (see `with_epoch`), the day and the ticket's sequence number: a
  ticket that runs again is the same data in the same order.

  Attributes:
    batch_size: examples per batch; the last batch of a ticket may hold fewer.
    max_bad_records: how many records a run may skip; 0 for no limit.
    raw_inputs: a `tfps.data.RawInputs`: what clients of a served model send in place of x; a dict
      of them by name, where the model is served in parts (`Model.served_models`). None by default;
      an export needs it.
    is_endless: whether it is a stream, whose days are not known beforehand: see `tfps.data.stream`.
    opener: equal for all sources whose `open` is the same function: a source, its days and its
      epochs.

  Examples:
    >>> [day.records for day in source.days()]
    [64, 64]
    >>> x, y = next(iter(source.open(next(source.tickets()))))
    >>> y.shape
    TensorShape([32, 1])
  """

  max_bad_records = 0
  is_endless = False

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
      if not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be a whole number, at least 1.")
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**31:
      raise ValueError(f"seed is {seed!r}; it must be a whole number from 0 to 2^31 - 1.")
    self.batch_size = int(batch_size)
    self.raw_inputs: RawInputs | Mapping[str, RawInputs] | None = None
    self.opener = object()
    self._records_per_ticket = int(batch_size) * int(batches_per_ticket)
    self._shuffle = bool(shuffle)
    self._seed = int(seed)
    self._epoch = 0
    self._names = [str(name) for name in day_names]
    self._selected: Sequence[int] = range(len(self._names))
    self._negatives: Negatives | None = None
    # Shared by all views of this source, and filled as days are asked for.
    self._cuts_of_day: dict[int, list[Cuts]] = {}
    self._first_sequences = [0]

  def days(self) -> list[Day]:
    """The days in order, a list of `Day`; the first call indexes files that are not yet."""
    return [
      Day(ordinal, self._names[ordinal], sum(cuts.records for cuts in self._cuts(ordinal)))
      for ordinal in self._selected
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

  def whole_tickets(self) -> Self:
    """This source, with all examples of a ticket in one batch.

    Of a compressed file, which is one ticket, a batch has as many as another ticket would have.
    """
    view = copy.copy(self)
    view.batch_size, view.opener = self._records_per_ticket, object()
    return view

  def with_epoch(self, epoch: int) -> Self:
    """This source, if it shuffles, in the order of that epoch (0, 1, ...)."""
    view = copy.copy(self)
    view._epoch = int(epoch)
    return view

  def with_negatives(
    self, items: Mapping[str, npt.ArrayLike], count: int, *, seed: int = 0
  ) -> Self:
    """This source, with sampled negatives in each batch, for two towers (Yang et al. 2020).

    A negative is an example with an item drawn from all items, each as likely, with label 0, weight
    0 and nothing in x's other features: it is among the items of the batch, and adds nothing to the
    loss, to metrics, show and click. Batches become (x, y, weight).

    Args:
      items: {feature: array [N, ...]} of all items, as x has them.
      count: how many are added to a batch.
      seed: of what is drawn, together with the ticket.

    Raises:
      ValueError: an argument is not as it must be; x or y are not, when batches are read.
    """
    view = copy.copy(self)
    view._negatives, view.opener = Negatives(items, count, seed), object()
    view.__dict__.pop("element_spec", None)
    return view

  def tickets(self, day: Day | int | str | None = None) -> Iterator[Ticket]:
    """Yields the `Ticket`s of one day (a `Day`, an ordinal or a name), or of all days in order.

    Sequence numbers follow the order in which tickets are yielded.
    """
    for ordinal in self._selected if day is None else (self._ordinal(day),):
      ranges = [(cuts, i) for cuts in self._cuts(ordinal) for i in range(len(cuts))]
      order: Sequence[int] | np.ndarray = range(len(ranges))
      if self._shuffle:
        order = np.random.default_rng([self._seed, self._epoch, ordinal]).permutation(len(ranges))
      for sequence, at in enumerate(order, self._first_sequence(ordinal)):
        cuts, i = ranges[at]
        begin, end, records = cuts.range(i)
        yield Ticket(ordinal, 0, sequence, cuts.path, begin, end, records)

  def open(self, ticket: Ticket) -> tf.data.Dataset:
    """A tf.data.Dataset of the batches, (x, y) or (x, y, weight), of exactly that ticket's range.

    Args:
      ticket: a `Ticket` of Python values, or of scalar tensors inside a tf.function. All state is
        in the ticket: the same ticket gives the same batches anywhere.
    """
    return self.reading(ticket).batches

  def reading(self, ticket: Ticket) -> Reading:
    """Opens a ticket as a `Reading`, which also reports the skipped records."""
    ticket = as_tensors(ticket)
    reading = users(self._read)(ticket)
    if self._negatives is not None:
      negatives, skipped = self._negatives, reading.skipped
      reading = Reading(
        negatives.added_to(reading.batches, ticket),
        lambda examples: skipped(negatives.records_of(examples, self.batch_size)),
      )
    return reading._replace(batches=reading.batches.with_options(_options()))

  def explain(self, ticket: Ticket, error: BaseException) -> BaseException:
    """Returns the exception to raise after a ticket's `error`: it says what is wrong and where."""
    del ticket
    return error

  def place_of_example(self, ticket: Ticket, example: int) -> str:
    """Says where the record is that is the ticket's example of this number, from 0."""
    if self._negatives is not None:
      example = self._negatives.number_of(example, self.batch_size)
    return self.place_of(ticket, self._number_of(ticket, example) if example >= 0 else -1)

  def _number_of(self, ticket: Ticket, example: int) -> int:
    """The number of the record in the ticket; -1 where it is not known."""
    del ticket
    return -1 if self._shuffle else example

  def place_of(self, ticket: Ticket, number: int) -> str:
    """Says where in its file a ticket's record is; number -1 means somewhere in the ticket."""
    return f"record {number} of {ticket.path}" if number >= 0 else str(ticket.path)

  def skipped_in_index(self, day: Day | int | str) -> list[bad_records.SkippedInIndex]:
    """Returns the `bad_records.SkippedInIndex`s of a day: data that is in none of its tickets."""
    del day
    return []

  def skipped_with(self, ticket: Ticket) -> list[bad_records.SkippedInIndex]:
    """The same for a stream: what the chief found since the previous ticket."""
    del ticket
    return []

  @functools.cached_property
  def element_spec(self) -> Any:
    """The element_spec of `open`'s datasets, known without reading any data."""
    opened = tf.function(lambda *fields: self.open(Ticket(*fields)))
    with libraries_unconverted():
      opened = opened.get_concrete_function(*TICKET_SPEC)
    return opened.structured_outputs.element_spec

  @abc.abstractmethod
  def _cut(self, ordinal: int) -> list[Cuts]:
    """A list of `index.Cuts`: the files or partitions of one day. Runs on the chief, once."""

  def _read(self, ticket: Ticket) -> Reading:
    """The `Reading` of a ticket; a source that skips no records says only what `_batches` are."""
    return Reading(users(self._batches)(ticket), lambda examples: bad_records.nothing_skipped())

  def _batches(self, ticket: Ticket) -> tf.data.Dataset:
    """The dataset of the ticket's batches, (x, y) or (x, y, weight); see `batching.batches`."""
    raise NotImplementedError

  def _cuts(self, ordinal: int) -> list[Cuts]:
    if ordinal not in self._cuts_of_day:
      self._cuts_of_day[ordinal] = self._cut(ordinal)
    return self._cuts_of_day[ordinal]

  def _first_sequence(self, ordinal: int) -> int:
    firsts = self._first_sequences
    while len(firsts) <= ordinal:
      firsts.append(firsts[-1] + sum(len(cuts) for cuts in self._cuts(len(firsts) - 1)))
    return firsts[ordinal]

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

  def _shuffle_seed(self, ticket: Ticket) -> tf.Tensor:
    """int64 [2] for stateless random ops: the same for the same ticket."""
    return tf.stack([ticket.day * 2**31 + self._seed, ticket.sequence])
