"""Files as sources: text, CSV, TFRecord and Parquet, by themselves or as a calendar of days."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfps.data import bad_records
from tfps.data.columns.source import ParquetSource
from tfps.data.file_days import calendar_of
from tfps.data.file_source import FileSource
from tfps.data.opening import opened

if TYPE_CHECKING:
  from tfps.data.file_days import Files, Part
  from tfps.data.parsing import Parse

FORMATS = ("text", "csv", "tfrecord", "parquet")
_NAMES = {"tfrecord": "TFRecord", "parquet": "Parquet"}


def source(
  files: Files,
  parse: Callable[[Any], tuple],
  *,
  format: str = "text",
  columns: Sequence[str] | None = None,
  delimiter: str = ",",
  header: bool = False,
  nulls: Mapping[str, Any] | None = None,
  days: Sequence[str] | None = None,
  batch_size: int = 512,
  batches_per_ticket: int = 10,
  shuffle: bool = False,
  seed: int = 0,
  on_bad_record: str = "fail",
  max_bad_records: int = bad_records.MOST_SKIPPED,
  check_labels: bool = True,
) -> FileSource:
  r"""Makes a source of files: text lines, CSV, TFRecord or Parquet, alone or as a calendar of days.

  The chief reads a plain file through once to find where it can be cut, when the file's day is
  first asked for. Files may not change afterwards; a ticket of one that did ends in an error that
  names it. Empty lines are no records, "\r\n" ends a line as "\n" does, and a quoted field may
  not hold a newline. A ".gz" file cannot be cut: it is one ticket, however long, so that many small
  files spread better over workers than one large one. Of a Parquet file the chief reads the footer
  only; a ticket holds whole row groups, or a part of a large one, and a worker reads the columns
  that `parse` asks for (docs/inputs.md).

  A record is bad if `parse` raises an error for it, if its label or weight is not finite or
  negative, if `parse` says so with `tfps.data.reject`, or if the checksum of a TFRecord does not
  hold.

  Args:
    files: a list of paths or globs, one path or glob, or for a calendar {day name: any of these} in
      the days' order. Anything tf.io.gfile opens. Without a calendar everything is one day, named
      "all".
    parse: maps n records to (x, y) or (x, y, weight) with stock TensorFlow ops, row i from record
      i. It gets a string tensor [n] of lines ("text") or of serialized tf.Examples ("tfrecord"), or
      {column: string tensor [n]} ("csv"), or {column: tensor, tf.RaggedTensor or a dict of these}
      by the columns' types ("parquet"). It runs once for all records of a ticket, and its values
      (dense, ragged or sparse) are then cut into batches.
    format: "text", "csv", "tfrecord" or "parquet".
    columns: CSV: the columns' names; by default those of the first file's header. Blanks at the
      end of a line of CSV are no part of it.
    delimiter: CSV: what separates the fields, one character.
    header: whether the first line of each file of text or CSV names the columns and is no record.
    nulls: Parquet: {column: what a null is read as}, or {"column.field": ...} within a struct. By
      default a null text is "", and a row with another null is a bad record.
    days: which days of the calendar to take, a list of names; all by default.
    batch_size: examples per batch.
    batches_per_ticket: a ticket holds this many batches; the last of a file may hold fewer.
    shuffle: shuffle the tickets of a day and the records of a ticket; see `Source`.
    seed: of the shuffling.
    on_bad_record: "fail": a bad record ends the run with a sentence that names its place; "skip":
      it is left out and counted, and the batches hold what comes after it.
    max_bad_records: how many a run may skip before it ends nevertheless; 0 for no limit.
    check_labels: whether labels and weights that are not finite, or negative, are bad.

  Returns:
    A `Source`.

  Raises:
    FileNotFoundError: a file does not exist, or a glob matches none.
    ValueError: an argument does not fit, or (when it is first read) a file is not of its format.
    BadRecordError: (when a model trains on it) a record is bad, or too many are.

  Examples:
    >>> with open("clicks.csv", "w") as log:
    ...   _ = log.write("user,click\nu7,1\nu8,0\nu9,0\n")
    >>> def parse(columns):
    ...   x = {"user_id": tfps.feasign("user_id", columns["user"])}
    ...   return x, tf.strings.to_number(columns["click"])[:, tf.newaxis]
    >>> train = tfps.data.source("*.csv", parse, format="csv", header=True, batch_size=2)
    >>> [y.shape[0] for ticket in train.tickets() for x, y in train.open(ticket)]
    [2, 1]
  """
  if format not in FORMATS:
    raise ValueError(f"format is {format!r}; it must be one of {', '.join(FORMATS)}.")
  if header and format in _NAMES:
    raise ValueError(f"header is set, but {_NAMES[format]} files have none; leave it out.")
  if nulls is not None and format != "parquet":
    raise ValueError(f"nulls is for format='parquet', and format is {format!r}; leave it out.")
  calendar = calendar_of(files, days)
  if format == "csv":
    columns = list(columns or _header_columns(calendar, header, delimiter))
    parse = _parse_csv(parse, columns, delimiter)
  elif columns is not None:
    raise ValueError(f"columns is for format='csv', and format is {format!r}; leave it out.")
  reading: dict[str, Any] = dict(
    batch_size=batch_size,
    batches_per_ticket=batches_per_ticket,
    shuffle=shuffle,
    seed=seed,
    on_bad_record=on_bad_record,
    max_bad_records=max_bad_records,
    check_labels=check_labels,
  )
  if format == "parquet":
    return ParquetSource(calendar, parse, nulls=nulls, **reading)
  tfrecord = format == "tfrecord"
  return FileSource(
    calendar, parse, tfrecord=tfrecord, header=header, columns=columns or (), **reading
  )


def _header_columns(
  calendar: Mapping[str, Sequence[Part]], header: bool, delimiter: str
) -> list[str]:
  if not header:
    raise ValueError(
      "format 'csv' needs columns (a list of names), or header=True for files that name them."
    )
  for parts in calendar.values():
    for part in parts:
      with opened(part.path, 0, None) as stream:
        text = stream.read(1 << 20).decode("utf-8-sig", "replace")
      for line in text.splitlines():
        if line:
          line = line.rstrip(" ") if delimiter != " " else line
          return next(csv.reader([line], delimiter=delimiter))
  raise ValueError("the files are empty, so no header names the CSV's columns; give columns.")


def _parse_csv(
  parse: Callable[[dict[str, tf.Tensor]], tuple], columns: Sequence[str], delimiter: str
) -> Parse:
  columns = list(columns)

  def parse_lines(lines: tf.Tensor) -> tuple:
    if not delimiter.isspace():
      lines = tf.strings.strip(lines)
    elif delimiter != " ":
      lines = tf.strings.regex_replace(lines, " +$", "")
    fields = tf.io.decode_csv(lines, [[""]] * len(columns), field_delim=delimiter)
    return parse(dict(zip(columns, fields)))

  return parse_lines
