"""Bad records: how a parse function names them, and how a run counts those that it skips."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import tensorflow as tf

from tfps.errors import BadRecordError

if TYPE_CHECKING:
  from tfps.data.source import Source
  from tfps.data.ticket import Day, Ticket

CHOICES = ("fail", "skip")
MOST_SKIPPED = 10_000  # by default
_MOST_NOTICES = 20

_parsing = threading.local()


def reject(bad: tf.Tensor, reason: str) -> None:
  """Says, within the parse function of a source, which records are bad and why.

  The source's `on_bad_record` decides whether they end the run or are left out of the batches.
  Outside of a source, as in a served model, it does nothing.

  Args:
    bad: bool [n], a tensor of the parse function itself, not of a tf.cond or a loop within.
    reason: what is wrong, with the field's name: "click is neither 0 nor 1".

  Examples:
    >>> def parse(columns):
    ...   click = tf.strings.to_number(columns["click"])
    ...   tfps.data.reject((click != 0) & (click != 1), "click is neither 0 nor 1")
    ...   return {"user_id": tfps.feasign("user_id", columns["user"])}, click[:, tf.newaxis]
  """
  rejected = getattr(_parsing, "rejected", None)
  if rejected is not None:
    rejected.append((tf.convert_to_tensor(bad, tf.bool), str(reason)))


class Rejected:
  """A context manager that collects the arguments of `reject`: a list of (bool [n], reason)."""

  def __enter__(self) -> list[tuple[tf.Tensor, str]]:
    self._outer = getattr(_parsing, "rejected", None)
    _parsing.rejected = []
    return _parsing.rejected

  def __exit__(self, *exc_info: object) -> None:
    _parsing.rejected = self._outer


class Skipped(NamedTuple):
  """The skipped records of a ticket, by reason: tensors in a ticket's function, else NumPy."""

  reasons: tf.Tensor  # string [k]
  counts: tf.Tensor  # int64 [k]: how many records
  firsts: tf.Tensor  # int64 [k]: the number of one of them in the ticket, -1 where it is not known
  details: tf.Tensor  # string [k]: what is wrong with that one


def nothing_skipped() -> Skipped:
  """The `Skipped` of a ticket whose records are all good."""
  integers, texts = tf.zeros([0], tf.int64), tf.zeros([0], tf.string)
  return Skipped(texts, integers, integers, texts)


def summarise(problems: tf.Tensor, numbers: tf.Tensor) -> Skipped:
  """The `Skipped` of some records.

  Args:
    problems: string [b], what is wrong with each bad record.
    numbers: int64 [b], its number in the ticket.
  """
  # The value found differs from record to record, and is no part of the reason.
  reasons = tf.strings.regex_replace(problems, r"(?s): .*", "")
  reasons, groups, counts = tf.unique_with_counts(reasons, tf.int64)
  size = tf.size(reasons)
  first = tf.math.unsorted_segment_min(tf.range(tf.size(problems)), tf.cast(groups, tf.int32), size)
  return Skipped(reasons, counts, tf.gather(numbers, first), tf.gather(problems, first))


class SkippedRecords:
  """Counts the records that a run skips, reports them on stderr, and ends the run at the limit.

  Args:
    source: the `tfps.data` source.
    counts: {reason: how many} before.

  Attributes:
    counts: {reason: how many} so far.
  """

  def __init__(self, source: Source, counts: Mapping[str, int] | None = None) -> None:
    self.counts = dict(counts or {})
    self._source = source
    self._notices = 0

  def explain(self, ticket: Ticket, error: BaseException) -> BaseException:
    """`Source.explain`."""
    return self._source.explain(ticket, error)

  def add_ticket(self, ticket: Ticket, skipped: Skipped) -> dict[str, int]:
    """Counts a finished ticket's `Skipped`; returns {reason: how many} of it."""
    new = {}
    for reason, count, first, detail in zip(*skipped):
      new[reason.decode(errors="replace")] = int(count)
      if self._notices < _MOST_NOTICES:
        where = self._source.place_of(ticket, int(first))
        self._notice(f"{count} of the {ticket.records} records", where, detail)
    self._count(self._found(self._source.skipped_with(ticket)))
    self._count(new)
    return new

  def add_day(self, day: Day) -> dict[str, int]:
    """Counts what was skipped when the files of a day were indexed; returns {reason: how many}."""
    new = self._found(self._source.skipped_in_index(day))
    self._count(new)
    return new

  def _found(self, bads: Iterable[SkippedInIndex]) -> dict[str, int]:
    new: dict[str, int] = {}
    for bad in bads:
      new[bad.reason] = new.get(bad.reason, 0) + bad.count
      self._notice("1 record" if bad.count == 1 else f"{bad.count} records", bad.place, bad.detail)
    return new

  def _notice(self, what: str, where: str, detail: bytes | str) -> None:
    self._notices += 1
    if self._notices <= _MOST_NOTICES:
      detail = detail.decode(errors="replace") if isinstance(detail, bytes) else detail
      text = f"tfps: skipped {what}, such as {where}: {detail.rstrip('.')}."
      print(text, file=sys.stderr, flush=True)
    if self._notices == _MOST_NOTICES:
      print("tfps: further skipped records are only counted.", file=sys.stderr, flush=True)

  def _count(self, new: Mapping[str, int]) -> None:
    for reason, count in new.items():
      self.counts[reason] = self.counts.get(reason, 0) + count
    most, total = self._source.max_bad_records, sum(self.counts.values())
    if new and most and total > most:
      raise BadRecordError(
        f"{total:,} records were skipped, more than max_bad_records, {most:,}: "
        f"{in_words(self.counts)}; fix the data, or allow for more."
      )


class SkippedInIndex(NamedTuple):
  """Records that the chief found to be bad before any ticket."""

  reason: str
  count: int  # type: ignore[assignment]  # tuple.count, which nobody calls
  place: str  # of one of them
  detail: str


def rest_of_file(path: str, damage: str) -> SkippedInIndex:
  """Returns the `SkippedInIndex` of a file's unreadable rest; `damage` says why."""
  return SkippedInIndex("the rest of the file cannot be read", 1, path, damage)


def in_words(counts: Mapping[str, int]) -> str:
  """{reason: how many} as one text, the most frequent first."""
  order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
  return ", ".join(f"{reason} ({count:,})" for reason, count in order)


def check(on_bad_record: str, max_bad_records: int) -> None:
  """Raises ValueError unless these are what a source takes."""
  if on_bad_record not in CHOICES:
    raise ValueError(f"on_bad_record is {on_bad_record!r}; it must be one of {', '.join(CHOICES)}.")
  is_number = isinstance(max_bad_records, int) and not isinstance(max_bad_records, bool)
  if not is_number or max_bad_records < 0:
    raise ValueError(
      f"max_bad_records is {max_bad_records!r}; it must be a whole number, 0 for no limit."
    )
