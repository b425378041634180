"""Files as sources: text, CSV and TFRecord, read by byte range with stock TensorFlow ops."""

import contextlib
import csv
import gzip
from typing import NamedTuple

import tensorflow as tf
from tqdm import tqdm

from tfps.data import batching, index
from tfps.data.source import Source

FORMATS = ("text", "csv", "tfrecord")


_REMEDY = "Make the source again, and leave its files alone while it is used."


class Part(NamedTuple):
  """A file, or a byte range of one, that belongs to a day. Its tickets never leave it."""

  path: str
  begin: int = 0
  end: int | None = None  # None is the file's end


def source(
  files,
  parse,
  *,
  format="text",
  columns=None,
  delimiter=",",
  header=False,
  days=None,
  batch_size=512,
  batches_per_ticket=10,
  shuffle=False,
  seed=0,
):
  """Makes a source of files: text lines, CSV or TFRecord, by themselves or as a calendar of days.

  The chief reads a plain file through once to find where it can be cut, when the file's day is
  first asked for. Files may not change afterwards; a ticket of one that did ends in an error that
  names it. Empty lines are no records, "\\r\\n" ends a line as "\\n" does, and a quoted field may
  not hold a newline. A ".gz" file cannot be cut: it is one ticket, however long, so that many small
  files spread better over workers than one large one.

  Args:
    files: a list of paths or globs, one path or glob, or for a calendar {day name: any of these} in
      the days' order. Anything tf.io.gfile opens. Without a calendar everything is one day, named
      "all".
    parse: maps n records to (x, y) or (x, y, weight) with stock TensorFlow ops, row i from record
      i. It gets a string tensor [n] of lines ("text") or of serialized tf.Examples ("tfrecord"), or
      {column: string tensor [n]} ("csv"). It runs once for all records of a ticket, and its values
      (dense, ragged or sparse) are then cut into batches.
    format: "text", "csv" or "tfrecord".
    columns: CSV: the columns' names; by default those of the first file's header.
    delimiter: CSV: what separates the fields, one character.
    header: whether the first line of each file (not of TFRecord) names the columns and is no
      record.
    days: which days of the calendar to take, a list of names; all by default.
    batch_size: examples per batch.
    batches_per_ticket: a ticket holds this many batches; the last of a file may hold fewer.
    shuffle: shuffle the tickets of a day and the records of a ticket; see `Source`.
    seed: of the shuffling.

  Returns:
    A `Source`.

  Raises:
    FileNotFoundError: a file does not exist, or a glob matches none.
    ValueError: an argument does not fit, or (when it is first read) a file is not of its format.

  Example:

      def parse(columns):
        x = {"user_id": tfps.feasign("user_id", columns["user"])}
        return x, tf.strings.to_number(columns["click"])[:, tf.newaxis]

      train = tfps.data.source("logs/*.csv", parse, format="csv", header=True, shuffle=True)
      for x, y in train.open(next(train.tickets())):
        print(y.shape)
  """
  if format not in FORMATS:
    raise ValueError(f"format is {format!r}; it must be one of {', '.join(FORMATS)}.")
  if header and format == "tfrecord":
    raise ValueError("header is set, but TFRecord files have none; leave it out.")
  calendar = files if isinstance(files, dict) else {"all": files}
  if days is not None:
    unknown = [name for name in days if name not in calendar]
    if unknown:
      raise ValueError(
        f"days names {unknown[0]!r}, which is not in the calendar; it has {', '.join(calendar)}."
      )
    calendar = {name: paths for name, paths in calendar.items() if name in set(days)}
  calendar = {name: [Part(path) for path in _expand(paths)] for name, paths in calendar.items()}
  if format == "csv":
    parse = _parse_csv(parse, columns or _header_columns(calendar, header, delimiter), delimiter)
  elif columns is not None:
    raise ValueError(f"columns is for format='csv', and format is {format!r}; leave it out.")
  return FileSource(
    calendar,
    parse,
    tfrecord=format == "tfrecord",
    header=header,
    batch_size=batch_size,
    batches_per_ticket=batches_per_ticket,
    shuffle=shuffle,
    seed=seed,
  )


class FileSource(Source):
  """The source behind `tfps.data.source`: a calendar of `Part`s of files.

  Args:
    calendar: {day name: list of Part}.
    parse: as in `tfps.data.source`, but always of a string tensor [n].
    tfrecord: whether records are TFRecord's, else lines.
    header: whether the first line of each part is no record.
    **cutting: `Source`'s arguments.
  """

  def __init__(self, calendar, parse, *, tfrecord=False, header=False, **cutting):
    super().__init__(calendar, **cutting)
    self._parts = list(calendar.values())
    self._user_parse = parse
    self._tfrecord = tfrecord
    self._header = header
    self._sizes = {
      path: tf.io.gfile.stat(path).length
      for path in {p.path for parts in self._parts for p in parts}
    }
    compressed = {path.endswith(".gz") for path in self._sizes}
    if len(compressed) > 1:
      raise ValueError(
        "the files are partly compressed (.gz) and partly not; make one source of each kind."
      )
    self._compressed = True in compressed

  def read_records(self, parse, day, count):
    """What `parse` makes of the first `count` records, at most, of a day, as NumPy arrays.

    Args:
      parse: a function of a string tensor [n] to a nest of tensors.
      day: a `Day`, an ordinal or a name.
      count: how many, at most those of one batch.
    """
    view = self.day(day)
    view._user_parse = lambda records: (parse(records), tf.zeros_like(records))
    for ticket in view.tickets():
      values, _ = next(iter(view.open(ticket)))
      return tf.nest.map_structure(lambda value: value[:count].numpy(), values)
    return None

  def _cut(self, ordinal):
    return [self._cut_part(part) for part in self._parts[ordinal]]

  def _cut_part(self, part):
    path, step = part.path, self._records_per_ticket
    size = self._sizes[path]
    end = size if part.end is None else part.end
    with _opened(path, part.begin, end - part.begin) as stream:
      if self._tfrecord:
        cuts = index.cut_tfrecord(stream, path, step=step)
      else:
        cuts = index.cut_text(
          stream,
          path,
          step=step,
          header=self._header,
          begin=part.begin,
          end=None if self._compressed else end,
        )
    return index.whole(path, size, cuts.records) if self._compressed else cuts

  def _batches(self, ticket):
    if self._compressed:
      expected = tf.data.experimental.assert_cardinality(-(-ticket.records // self.batch_size))
      records = self._compressed_records(ticket).batch(self.batch_size)
      return records.map(self._parse, num_parallel_calls=2).apply(expected).prefetch(2)
    read = self._read_tfrecord if self._tfrecord else self._read_lines
    records = read(ticket)
    found = tf.size(records, tf.int64)
    tf.debugging.Assert(
      found == ticket.records,
      [
        ticket.path,
        "changed; records in the range now and when it was indexed:",
        found,
        ticket.records,
        _REMEDY,
      ],
    )
    if self._shuffle:
      records = tf.random.experimental.stateless_shuffle(records, self._shuffle_seed(ticket))
    records.set_shape([None])
    return batching.batches(self._parse(records), ticket.records, self.batch_size)

  def _parse(self, records):
    parsed = self._user_parse(records)
    if not isinstance(parsed, tuple) or len(parsed) not in (2, 3):
      raise ValueError(
        f"parse returned {type(parsed).__name__}; it must return (x, y) or (x, y, weight)."
      )
    values = tf.nest.flatten(parsed)
    if any(value.shape.rank == 0 for value in values):
      raise ValueError(
        "parse returned a scalar; each value it returns must have one row for each record."
      )
    found = tf.stack([batching.rows(value) for value in values])
    tf.debugging.Assert(
      tf.reduce_all(found == tf.size(records, tf.int64)),
      [
        "parse must return one row for each record; records, and the rows it returned:",
        tf.size(records),
        found,
      ],
      summarize=100,
    )
    return parsed

  def _read_lines(self, ticket):
    """String [records]: the range's lines that are not empty, read as one fixed-length record.

    The op itself refuses a file whose size is not what it was.
    """
    block = tf.data.FixedLengthRecordDataset(
      ticket.path,
      ticket.end - ticket.begin,
      header_bytes=ticket.begin,
      footer_bytes=self._size_of(ticket.path) - ticket.end,
    ).get_single_element()
    block = tf.strings.regex_replace(block, "\r(\n|$)", r"\1")
    # The first version of this op is six times as fast as tf.strings.split, and skips what is
    # empty.
    return tf.raw_ops.StringSplit(input=[block], delimiter="\n", skip_empty=True).values

  def _read_tfrecord(self, ticket):
    """String [records]: the serialized records of the ticket's range."""
    records = tf.raw_ops.TFRecordDatasetV2(
      filenames=[ticket.path],
      compression_type="",
      buffer_size=256 << 10,
      byte_offsets=[ticket.begin],
    )
    records = tf.data.experimental.from_variant(records, tf.TensorSpec([], tf.string))
    return records.take(ticket.records).batch(ticket.records).get_single_element()

  def _compressed_records(self, ticket):
    """A dataset of all records of a compressed file."""
    if self._tfrecord:
      records = tf.data.TFRecordDataset(ticket.path, "GZIP")
    else:
      records = tf.data.TextLineDataset(ticket.path, "GZIP").filter(
        lambda line: tf.strings.length(line) > 0
      )
      records = records.skip(1 if self._header else 0)
    if self._shuffle:
      seed = tf.random.stateless_uniform([], self._shuffle_seed(ticket), None, None, tf.int64)
      records = records.shuffle(self._records_per_ticket, seed, reshuffle_each_iteration=False)
    return records

  def _size_of(self, path):
    paths, sizes = tf.constant(list(self._sizes)), tf.constant(list(self._sizes.values()), tf.int64)
    return tf.reduce_max(tf.where(paths == path, sizes, 0))


@contextlib.contextmanager
def _opened(path, begin, length):
  """The file's uncompressed bytes as a stream; a bar shows when reading it takes long."""
  with contextlib.ExitStack() as stack:
    stream = stack.enter_context(tf.io.gfile.GFile(path, "rb"))
    if begin:
      stream.seek(begin)
    bar = tqdm.wrapattr(stream, "read", total=length, desc=f"indexing {path}", delay=2, leave=False)
    stream = stack.enter_context(bar)
    if not path.endswith(".gz"):
      yield stream
      return
    try:
      yield stack.enter_context(gzip.GzipFile(fileobj=stream))
    except (EOFError, gzip.BadGzipFile) as error:
      raise ValueError(f"{path} is not a complete gzip file: {error}.") from None


def _expand(files):
  """The list of paths that a path, a glob or a list of these means."""
  paths = []
  for pattern in (
    [files] if isinstance(files, (str, bytes)) or hasattr(files, "__fspath__") else files
  ):
    pattern = tf.compat.path_to_str(pattern)
    found = [pattern] if tf.io.gfile.exists(pattern) else sorted(tf.io.gfile.glob(pattern))
    if not found:
      raise FileNotFoundError(
        f"{pattern} does not exist, and as a glob it matches no file; check files."
      )
    paths += found
  return paths


def _header_columns(calendar, header, delimiter):
  if not header:
    raise ValueError(
      "format 'csv' needs columns (a list of names), or header=True for files that name them."
    )
  for parts in calendar.values():
    for part in parts:
      with _opened(part.path, 0, None) as stream:
        text = stream.read(1 << 20).decode("utf-8-sig", "replace")
      for line in text.splitlines():
        if line:
          return next(csv.reader([line], delimiter=delimiter))
  raise ValueError("the files are empty, so no header names the CSV's columns; give columns.")


def _parse_csv(parse, columns, delimiter):
  columns = list(columns)

  def parse_lines(lines):
    fields = tf.io.decode_csv(lines, [[""]] * len(columns), field_delim=delimiter)
    return parse(dict(zip(columns, fields)))

  return parse_lines
