"""Sources: a calendar of days, cut into tickets at the chief and opened by range on any worker."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf

from tfps.data import bad_records, batching, choosing, pieces
from tfps.data.calendar import Calendar, Window
from tfps.data.down_sampling import DownSampling
from tfps.data.negatives import Negatives
from tfps.data.ticket import TICKET_SPEC, Day, Ticket, as_tensors
from tfps.graph.autograph import libraries_unconverted, users

if TYPE_CHECKING:
  import numpy.typing as npt
  from typing_extensions import Self

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
    known: the `bad_records.Skipped` of those that are known before the batches are read.
  """

  batches: tf.data.Dataset
  skipped: Callable[[tf.Tensor], bad_records.Skipped]
  known: bad_records.Skipped


class Source(Calendar):
  """Input that the chief cuts into tickets and any worker opens by ticket.

  A subclass names its days, and says how one day is cut (`_cut`) and which examples, or batches, a
  ticket's range becomes (`_examples` or `_batches`). The latter runs inside a tf.function on a
  worker and uses TensorFlow ops only.

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
    down_sampling: the `DownSampling` of `down_sample`, or None.

  Examples:
    >>> [day.records for day in source.days()]
    [64, 64]
    >>> x, y = next(iter(source.open(next(source.tickets()))))
    >>> y.shape
    TensorShape([32, 1])
  """

  max_bad_records = 0

  def __init__(
    self,
    day_names: Iterable[str],
    *,
    batch_size: int = 512,
    batches_per_ticket: int = 10,
    shuffle: bool = False,
    seed: int = 0,
  ) -> None:
    super().__init__(
      day_names,
      batch_size=batch_size,
      batches_per_ticket=batches_per_ticket,
      shuffle=shuffle,
      seed=seed,
    )
    self.raw_inputs: RawInputs | Mapping[str, RawInputs] | None = None
    self.opener = object()
    self._negatives: Negatives | None = None
    self._choices: tuple[choosing.Choice, ...] = ()
    self._weight = ""
    self.down_sampling: DownSampling | None = None

  def whole_tickets(self) -> Self:
    """This source, with all examples of a ticket in one batch.

    Of a compressed file, which is one ticket, a batch has as many as another ticket would have.
    """
    return self._view(batch_size=self._records_per_ticket)

  def split(self, share: float, by: str | Sequence[str], *, salt: int = 0) -> tuple[Self, Self]:
    """Two sources without a common example: all but a share of this one, and the share.

    An example is in the share if splitmix64's hash of `salt` and of the features `by`, over 2^64,
    is below `share`. So all examples with the same features are on the same side, on every day, in
    every process and run, and however the input is cut.

    Args:
      share: about how much of all the values is held out, above 0 and below 1.
      by: a feature of x, or several: int64 or string, one for each example.
      salt: another one makes another share.

    Raises:
      ValueError: an argument does not fit.

    Examples:
      >>> train, held_out = source.split(0.25, by="user_id")
      >>> count = lambda source: sum(len(y) for t in source.tickets() for _, y in source.open(t))
      >>> count(train) + count(held_out) == source.records
      True
    """
    inside = choosing.share_of(self.element_spec, by, share, salt)
    outside = dataclasses.replace(inside, inside=False)
    return self._view(_choices=(*self._choices, outside)), self._view(
      _choices=(*self._choices, inside)
    )

  def down_sample(self, sampling: DownSampling) -> Self:
    """This source, with a share of the negatives only; see `DownSampling`.

    Whether a negative is kept is a pure function of the seed, the day, the epoch and the number of
    its record in the day: the same however the input is cut, and each epoch keeps others.

    Raises:
      ValueError: there is no such label, or the source is down-sampled already.
    """
    if self.down_sampling is not None:
      raise ValueError("the source is down-sampled already: do it once, with the product of rates.")
    choosing.check_label(self.element_spec, sampling)
    return self._view(_choices=(*self._choices, choosing.Kept(sampling)), down_sampling=sampling)

  def weighted_by(self, feature: str) -> Self:
    """This source, with a feature of x, a number for each example, as the examples' weight.

    The feature is no longer in x. A weight that `parse` returns is multiplied with it.

    Raises:
      ValueError: there is no such feature, or it is not one number for each example.
    """
    spec = choosing.feature_of(self.element_spec, feature, "weight")
    choosing.check_weight(spec, feature)
    return self._weighted(feature)

  def _weighted(self, feature: str) -> Self:
    return self._view(_weight=feature)

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
    return self._view(_negatives=Negatives(items, count, seed))

  def to_test(self) -> Self:
    """This source as it is tested: each example once, and no negative is left out."""
    view = self._relisted(_window=Window())
    if view.down_sampling is None:
      return view
    choices = tuple(one for one in self._choices if not isinstance(one, choosing.Kept))
    return view._view(_choices=choices, down_sampling=None)

  @property
  def can_be_mixed(self) -> bool:
    """Whether it may be a part of `tfps.data.mix`."""
    return self._window == Window() and self._negatives is None and not self.is_endless

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
    batches, known = users(self._read)(ticket)
    if self._negatives is not None:
      batches = self._negatives.added_to(batches, ticket)
    skipped = lambda examples: self.skipped(ticket, examples, known)
    return Reading(batches.with_options(_options()), skipped, known)

  def skipped(
    self, ticket: Ticket, examples: tf.Tensor, known: bad_records.Skipped
  ) -> bad_records.Skipped:
    """The `bad_records.Skipped` of a ticket all of whose batches are read.

    Args:
      ticket: of scalar tensors inside a tf.function, or of Python values.
      examples: int64 scalar, how many examples were in the batches.
      known: the ticket's `Reading.known`.
    """
    if self._negatives is not None:
      examples = self._negatives.records_of(examples, self.batch_size)
    return self._skipped(as_tensors(ticket), examples, known)

  def _skipped(
    self, ticket: Ticket, records: tf.Tensor, known: bad_records.Skipped
  ) -> bad_records.Skipped:
    """The same; `records` are in the batches."""
    del ticket, records
    return known

  def explain(self, ticket: Ticket, error: BaseException) -> BaseException:
    """Returns the exception to raise after a ticket's `error`: it says what is wrong and where."""
    del ticket
    return error

  def place_of_example(self, ticket: Ticket, example: int) -> str:
    """Says where the record is that is the ticket's example of this number, from 0."""
    if self._negatives is not None:
      example = self._negatives.number_of(example, self.batch_size)
    return self.place_of(ticket, self._number_of(ticket, example) if example >= 0 else -1)

  def own_examples(self, examples: int) -> int:
    """How many of a ticket's examples are its records: all but the items of `with_negatives`."""
    if self._negatives is None:
      return examples
    return int(self._negatives.records_of(examples, self.batch_size))

  def _number_of(self, ticket: Ticket, example: int) -> int:
    """The number of the record in the ticket; -1 where it is not known."""
    if self._has_own_batches():
      return -1 if self._shuffle or self._choices else example
    numbers = self._numbers(*as_tensors(ticket)).numpy()
    return int(numbers[example]) if example < len(numbers) else -1

  def place_of(self, ticket: Ticket, number: int) -> str:
    """Says where in its file a ticket's record is; number -1 means somewhere in the ticket."""
    if number < 0:
      return pieces.files_of(ticket)
    ticket, number = pieces.find(ticket, number)
    return f"record {number} of {ticket.path}"

  def skipped_in_index(self, day: Day | int | str) -> list[bad_records.SkippedInIndex]:
    """Returns the `bad_records.SkippedInIndex`s of a day: data that is in none of its tickets."""
    del day
    return []

  def skipped_with(self, ticket: Ticket) -> list[bad_records.SkippedInIndex]:
    """The same for a stream: what the chief found since the previous ticket."""
    del ticket
    return []

  @functools.cached_property
  def _numbers(self) -> Any:
    """A function of a ticket: the numbers of its examples' records."""
    return tf.function(lambda *fields: self._chosen(Ticket(*fields)).numbers)

  @functools.cached_property
  def element_spec(self) -> Any:
    """The element_spec of `open`'s datasets, known without reading any data."""
    opened = tf.function(lambda *fields: self.open(Ticket(*fields)))
    with libraries_unconverted():
      opened = opened.get_concrete_function(*TICKET_SPEC)
    return opened.structured_outputs.element_spec

  def _read(self, ticket: Ticket) -> tuple[tf.data.Dataset, bad_records.Skipped]:
    """(the batches of a ticket's records, what of `skipped` is known before these are read)."""
    if self._has_own_batches() and not self._choices and not self._weight:
      return users(self._batches)(ticket), bad_records.nothing_skipped()
    values, numbers, skipped = self._chosen(ticket)
    if skipped is None:
      skipped = bad_records.nothing_skipped()
    count = tf.size(numbers, tf.int64)
    return batching.batches(values, count, self.batch_size), skipped

  def _chosen(self, ticket: Ticket) -> choosing.Examples:
    """The examples of a ticket that the source has."""
    if self._has_own_batches():
      return self._finished(ticket, Source._examples(self, ticket))
    return self._finished(ticket, users(self._examples)(ticket))

  def _finished(self, ticket: Ticket, examples: choosing.Examples) -> choosing.Examples:
    """Those of the ticket's examples that the source has, with their weights."""
    examples = choosing.chosen(examples, ticket, self._choices)
    if self._weight:
      examples = examples._replace(values=choosing.weighted(examples.values, self._weight))
    return examples

  def _has_own_batches(self) -> bool:
    """Whether the class says what batches are, and not what examples are."""
    names = {"_batches", "_examples"}
    definer = next(one for one in type(self).__mro__ if names & set(vars(one)))
    return definer is not Source and "_batches" in vars(definer)

  def _examples(self, ticket: Ticket) -> choosing.Examples:
    """The ticket's `choosing.Examples`; those of `_batches` by default."""
    whole = self.whole_tickets()
    values = users(whole._batches)(ticket).get_single_element()
    count = batching.rows(tf.nest.flatten(values)[0])
    return choosing.Examples(values, tf.range(count))

  def _batches(self, ticket: Ticket) -> tf.data.Dataset:
    """The dataset of the ticket's batches, (x, y) or (x, y, weight); see `batching.batches`."""
    values, numbers, _ = self._examples(ticket)
    return batching.batches(values, tf.size(numbers, tf.int64), self.batch_size)

  def _shuffle_seed(self, ticket: Ticket) -> tf.Tensor:
    """int64 [2] for stateless random ops: the same for the same ticket."""
    return tf.stack([ticket.day * 2**31 + self._seed, ticket.sequence])
