"""The source of files: cut where they can be, read by byte range with stock TensorFlow ops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfps.cluster import failures
from tfps.data import (
  bad_records,
  batching,
  file_systems,
  index,
  opening,
  parsing,
  pieces,
  places,
  ranges,
)
from tfps.data.choosing import Examples
from tfps.data.source import Source
from tfps.data.ticket import as_tensors
from tfps.errors import BadRecordError

if TYPE_CHECKING:
  import numpy.typing as npt
  from typing_extensions import Self

  from tfps.data.file_days import Part
  from tfps.data.ticket import Day, Ticket


class FileSource(Source):
  """The source behind `tfps.data.source`: a calendar of `Part`s of files.

  Args:
    calendar: {day name: list of Part}.
    parse: as in `tfps.data.source`, but always of a string tensor [n].
    tfrecord: whether records are TFRecord's, else lines.
    header: whether the first line of each part is no record.
    on_bad_record, max_bad_records, check_labels: as in `tfps.data.source`.
    columns: names of the fields, for messages.
    records: the specs of n records, as in `parsing.Parser`.
    **cutting: `Source`'s arguments.
  """

  def __init__(
    self,
    calendar: Mapping[str, Sequence[Part]],
    parse: parsing.Parse,
    *,
    tfrecord: bool = False,
    header: bool = False,
    on_bad_record: str = "fail",
    max_bad_records: int = bad_records.MOST_SKIPPED,
    check_labels: bool = True,
    columns: Sequence[str] = (),
    records: Any = parsing.TEXTS,
    **cutting: Any,
  ) -> None:
    super().__init__(calendar, **cutting)
    bad_records.check(on_bad_record, max_bad_records)
    self.max_bad_records = max_bad_records
    self._skips = on_bad_record == "skip"
    self._parts = list(calendar.values())
    self._parser = parsing.Parser(
      parse,
      on_bad_record=on_bad_record,
      check_labels=check_labels,
      columns=columns,
      records=records,
    )
    self._tfrecord = tfrecord
    self._header = header
    paths = {p.path for parts in self._parts for p in parts}
    self._sizes = {path: self._size(path) for path in paths}
    compressed = {path.endswith(".gz") for path in self._sizes}
    if len(compressed) > 1:
      raise ValueError(
        "the files are partly compressed (.gz) and partly not; make one source of each kind."
      )
    self._compressed = True in compressed
    reads_ranges = type(self)._records is FileSource._records
    self._unchanged = opening.Unchanged(paths if reads_ranges else ())
    self._reads_pieces = reads_ranges and not self._compressed and not self.is_endless

  def with_negatives(
    self, items: Mapping[str, npt.ArrayLike], count: int, *, seed: int = 0
  ) -> Self:
    if self._compressed and (self._skips or self._choices):
      raise ValueError(
        "negatives do not go with compressed files of which bad records or other examples are left "
        "out: unpack the files."
      )
    return super().with_negatives(items, count, seed=seed)

  @staticmethod
  def _size(path: str) -> int:
    if not file_systems.is_tensorflows(path):
      raise ValueError(
        f"{path} is on a file system that TensorFlow does not know, on which only format='parquet' "
        "is read; copy it, or write it as Parquet."
      )
    return tf.io.gfile.stat(path).length

  def read_records(
    self, parse: Callable[[tf.Tensor], Any], day: Day | int | str, count: int
  ) -> Any:
    """Parses the first good records of a day, at most `count`; returns NumPy arrays.

    Args:
      parse: a function of a string tensor [n] to a nest of tensors.
      day: a `Day`, an ordinal or a name.
      count: how many, at most those of one batch.
    """
    view = self.day(day)._view(_choices=())
    own = view._parser
    view._parser = own.with_parse(lambda records: (parse(records), own.parse(records)[1]))
    for ticket in view.tickets():
      for values, _, *_ in view.open(ticket):
        return tf.nest.map_structure(lambda value: value[:count].numpy(), values)
    return None

  def _weighted(self, feature: str) -> Self:
    # So that a weight that is none makes its record bad.
    return self._view(_parser=self._parser.weighted_by(feature))

  def explain(self, ticket: Ticket, error: BaseException) -> BaseException:
    """`BadRecordError` with the first record of a ticket that is bad.

    Where none is, `error` or one that names the file.
    """
    try:
      problems = self._problems(ticket).numpy()
    except (tf.errors.OpError, OSError, ValueError):
      files = pieces.files_of(ticket)
      if not isinstance(error, tf.errors.DataLossError) or files in error.message:
        return error
      return BadRecordError(f"{files} is damaged: {failures.explain(error)}; write the file again.")
    for number, problem in enumerate(problems):
      if problem:
        return BadRecordError(
          f"{self.place_of(ticket, number)}: {problem.decode(errors='replace')}; fix the record, "
          "or set on_bad_record to 'skip'."
        )
    return error

  def place_of(self, ticket: Ticket, number: int) -> str:
    if number < 0:
      return pieces.files_of(ticket)
    ticket, number = pieces.find(ticket, number)
    if self._tfrecord:
      return places.of_tfrecord(ticket.path, ticket.begin, number)
    return places.of_line(ticket.path, ticket.begin, number + (self._compressed and self._header))

  def _number_of(self, ticket: Ticket, example: int) -> int:
    if not (self._skips or self._shuffle or self._choices):
      return example if example < ticket.records else -1
    if not self._compressed:
      return super()._number_of(ticket, example)
    if self._shuffle or self._choices:
      return -1
    numbers = np.flatnonzero(self._problems(ticket).numpy() == b"")
    return int(numbers[example]) if example < len(numbers) else -1

  def skipped_in_index(self, day: Day | int | str) -> list[bad_records.SkippedInIndex]:
    return [
      bad_records.rest_of_file(cuts.path, cuts.damage)
      for cuts in self._cuts(self._ordinal(day))
      if cuts.damage
    ]

  def _check_unchanged(self, ticket: Ticket) -> None:
    for path in pieces.paths_of(ticket):
      self._unchanged.check(path)

  def _cut(self, ordinal: int) -> list[index.Cuts]:
    return [self._cut_part(part) for part in self._parts[ordinal]]

  def _cut_part(self, part: Part) -> index.Cuts:
    path, step = part.path, self._records_per_range
    size = self._sizes[path]
    end = size if part.end is None else part.end
    opening.refuse_parquet(path)
    with opening.opened(path, part.begin, end - part.begin) as stream:
      if self._tfrecord:
        skips = self._skips and not self._compressed
        cuts = index.cut_tfrecord(stream, path, step=step, skip_damage=skips)
      else:
        cuts = index.cut_text(
          stream,
          path,
          step=step,
          header=self._header,
          begin=part.begin,
          end=None if self._compressed else end,
          refuse_returns=self._compressed,
        )
    return index.whole(path, size, cuts.records) if self._compressed else cuts

  def _read(self, ticket: Ticket) -> tuple[tf.data.Dataset, bad_records.Skipped]:
    return self._read_compressed(ticket) if self._compressed else super()._read(ticket)

  def _examples(self, ticket: Ticket) -> Examples:
    records, damaged = self._records(ticket)
    numbers = tf.range(ticket.records)
    if self._shuffle:
      numbers = tf.random.experimental.stateless_shuffle(numbers, self._shuffle_seed(ticket))
      records, damaged = batching.gathered((records, damaged), numbers)
    return self._parser(records, damaged, numbers)

  def _read_compressed(self, ticket: Ticket) -> tuple[tf.data.Dataset, bad_records.Skipped]:
    if self._choices:
      return self._read_chosen_of_compressed(ticket)
    if not self._skips:
      expected = tf.data.experimental.assert_cardinality(-(-ticket.records // self.batch_size))
      parse = lambda records: self._parse_all(records)[0]
      batches = self._compressed_records(ticket).batch(self.batch_size)
      batches = batches.map(parse, num_parallel_calls=2).apply(expected).prefetch(2)
      return batches, bad_records.nothing_skipped()
    batches = self._compressed_records(ticket).batch(self.batch_size)
    batches = batches.map(self._parse_all, num_parallel_calls=2)
    batches = batches.filter(lambda _, count: count > 0)
    batches = batches.map(lambda values, _: values)
    return batches.prefetch(2), bad_records.nothing_skipped()

  def _read_chosen_of_compressed(
    self, ticket: Ticket
  ) -> tuple[tf.data.Dataset, bad_records.Skipped]:
    """As many records as another ticket would have are chosen from, and cut, at once."""

    def cut(numbers: tf.Tensor, records: tf.Tensor) -> tf.data.Dataset:
      examples = self._parser(records, tf.zeros(tf.shape(records), tf.bool), numbers)
      examples = self._finished(ticket, examples)
      count = tf.size(examples.numbers, tf.int64)
      return batching.batches(examples.values, count, self.batch_size)

    parts = self._compressed_records(ticket, numbered=True).batch(self._records_per_ticket)
    return parts.flat_map(cut).prefetch(2), bad_records.nothing_skipped()

  def _parse_all(self, records: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """Parses records that could be read; returns the result, and how many records it holds."""
    count = tf.size(records, tf.int64)
    nothing = tf.zeros([count], tf.bool)
    examples = self._parser(records, nothing, tf.range(count))
    return examples.values, tf.size(examples.numbers, tf.int64)

  def _skipped(
    self, ticket: Ticket, records: tf.Tensor, known: bad_records.Skipped
  ) -> bad_records.Skipped:
    if not (self._compressed and self._skips):
      return known

    def look() -> bad_records.Skipped:
      problems = self._problems(ticket)
      numbers = tf.where(problems != "")[:, 0]
      return bad_records.summarise(tf.gather(problems, numbers), numbers)

    if self._choices:  # Others may be left out, too.
      return look()
    found = tf.cond(records < ticket.records, look, bad_records.nothing_skipped)
    ranges.check_count(ticket, records + tf.reduce_sum(found.counts))
    return found

  def _problems(self, ticket: Ticket) -> tf.Tensor:
    """String [n]: what is wrong with each record of a ticket, in the file's order.

    "" where nothing is.
    """
    ticket = as_tensors(ticket)
    if not self._compressed:
      return self._parser.problems(*self._records(ticket, careful=True))
    records = self._compressed_records(ticket, shuffle=False).batch(self._records_per_ticket)
    return records.reduce(
      tf.zeros([0], tf.string),
      lambda found, part: tf.concat(
        [found, self._parser.problems(part, tf.zeros([tf.size(part)], tf.bool))], 0
      ),
    )

  @property
  def can_be_mixed(self) -> bool:
    return super().can_be_mixed and not self._compressed

  def _records(self, ticket: Ticket, careful: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads a ticket's ranges: string [n], and bool [n]: which of them could not be read."""
    if self._pieces == 1:
      return self._records_of_range(ticket, careful)
    read = lambda part: self._records_of_range(part, careful)
    return pieces.concatenated(ticket, read, (tf.string, tf.bool))

  def _records_of_range(self, ticket: Ticket, careful: bool) -> tuple[tf.Tensor, tf.Tensor]:
    damaged = None
    block = lambda: ranges.block(ticket, self._sizes)
    if not self._tfrecord:
      records = ranges.lines(block())
    elif careful or self._skips:
      records, damaged = ranges.damaged_tfrecords(ticket, block)
    else:
      records = ranges.tfrecords(ticket.path, ticket.begin, ticket.records)
    ranges.check_count(ticket, tf.size(records, tf.int64))
    records.set_shape([None])
    return records, tf.zeros([ticket.records], tf.bool) if damaged is None else damaged

  def _compressed_records(
    self, ticket: Ticket, shuffle: bool = True, numbered: bool = False
  ) -> tf.data.Dataset:
    """A dataset of all records of a compressed file, or of (the number of each, the record)."""
    if self._tfrecord:
      records = tf.data.TFRecordDataset(ticket.path, "GZIP")
    else:
      lines = tf.data.TextLineDataset(ticket.path, "GZIP")
      first = lines.take(1).map(lambda line: tf.strings.regex_replace(line, "^\ufeff", ""))
      records = first.concatenate(lines.skip(1))
      records = records.filter(lambda line: tf.strings.length(line) > 0)
      records = records.skip(1 if self._header else 0)
    if numbered:
      records = records.enumerate()
    if self._shuffle and shuffle:
      seed = tf.random.stateless_uniform([], self._shuffle_seed(ticket), None, None, tf.int64)
      records = records.shuffle(self._records_per_ticket, seed, reshuffle_each_iteration=False)
    return records
