"""Criteo's display advertising data: label, 13 counts, 26 categories, tab-separated."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfps.data import file_days, file_source
from tfps.data.bad_records import reject
from tfps.data.raw_inputs import RawInputs
from tfps.table.feasigns import feasign

if TYPE_CHECKING:
  from tfps.data.file_days import Files
  from tfps.data.file_source import FileSource

COUNTS = tuple(f"I{i}" for i in range(1, 14))
CATEGORIES = tuple(f"C{i}" for i in range(1, 27))

_MISSING = 0  # no bucket has this number
_ABSENT = -(2**63)  # what an empty field is read as


def criteo(
  files: Files, *, days: Sequence[str] | None = None, dense: str | None = None, **settings: Any
) -> FileSource:
  r"""Makes a source of files as in Criteo's Kaggle and Terabyte sets: 40 fields, no header.

  Batches are (x, y): x = {slot: int64 feasigns [batch]} with the slots I1 ... I13 and C1 ... C26, y
  = float32 [batch, 1]. A count v becomes a bucket as in the solution that won the Kaggle contest
  (Juan, Zhuang, Chin 2014): floor(ln(v)^2) for v > 2, and below that each value its own. A missing
  field, count or category, is a value of its own in its slot. A line is bad if it has not 40
  fields, its label is neither 0 nor 1, or a count is no whole number.

  Args:
    files: paths, a glob, or a calendar {day name: paths}, as in `tfps.data.source`.
    days: as in `tfps.data.source`.
    dense: the name of dense features, float32 [batch, 13], in x beside the slots: ln(1 + v) of each
      count v, 0 where it is missing or negative. None: there are none.
    **settings: batch_size, batches_per_ticket, shuffle, seed, on_bad_record and max_bad_records, as
      in `tfps.data.source`.

  Raises:
    FileNotFoundError: a file does not exist, or a glob matches none.
    ValueError: dense is the name of a slot.
    BadRecordError: (when a model trains on it) a line is bad, or too many are.

  Examples:
    >>> with open("train.tsv", "w") as file:
    ...   _ = file.write("\t".join(["1", *["5"] * 13, *["68fd1e64"] * 26]) + "\n")
    >>> train = tfps.data.criteo("train.tsv")
    >>> x, y = next(iter(train.open(next(train.tickets()))))
    >>> x["C1"].shape, y.shape
    (TensorShape([1]), TensorShape([1, 1]))
  """
  if dense in COUNTS + CATEGORIES:
    raise ValueError(f"dense is {dense!r}, which is a slot: give the dense features another name.")
  calendar = file_days.calendar_of(files, days)
  made = file_source.FileSource(
    calendar, functools.partial(_parse, dense), columns=("label", *COUNTS, *CATEGORIES), **settings
  )
  counts = {slot: tf.TensorSpec([None], tf.string) for slot in COUNTS}
  made.raw_inputs = RawInputs(
    counts | {slot: tf.TensorSpec([None], tf.string) for slot in CATEGORIES},
    functools.partial(_raw_features, dense),
    lambda day, count: made.read_records(_split, day, count),
  )
  return made


def _parse(dense: str | None, lines: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
  defaults = [tf.constant([], tf.float32)] + [tf.constant([_ABSENT], tf.int64)] * len(COUNTS)
  defaults += [[""]] * len(CATEGORIES)
  label, *fields = tf.io.decode_csv(lines, defaults, field_delim="\t", use_quote_delim=False)
  reject((label != 0) & (label != 1), "field 'label' is neither 0 nor 1")
  return _features(dense, dict(zip(COUNTS + CATEGORIES, fields))), label[:, tf.newaxis]


def _features(dense: str | None, fields: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  """{slot: feasigns} of counts, int64 with _ABSENT, and categories, strings."""
  counts = tf.stack([fields[slot] for slot in COUNTS])
  buckets = tf.unstack(_bucketise(counts), num=len(COUNTS))
  values = {**dict(zip(COUNTS, buckets)), **{slot: fields[slot] for slot in CATEGORIES}}
  features = {slot: feasign(slot, values[slot]) for slot in COUNTS + CATEGORIES}
  if dense is not None:
    features[dense] = tf.math.log1p(tf.cast(tf.transpose(tf.maximum(counts, 0)), tf.float32))
  return features


def _split(lines: tf.Tensor) -> dict[str, tf.Tensor]:
  """The fields of lines as they are: texts."""
  _, *fields = tf.io.decode_csv(
    lines,
    [[""]] * (1 + len(COUNTS) + len(CATEGORIES)),
    field_delim="\t",
    use_quote_delim=False,
  )
  return dict(zip(COUNTS + CATEGORIES, fields))


def _raw_features(dense: str | None, texts: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  """Like `_features`, of the fields as texts, as they are in the files; an empty one is missing."""
  counts = {
    slot: tf.strings.to_number(
      tf.where(texts[slot] == "", tf.constant(str(_ABSENT)), texts[slot]), tf.int64
    )
    for slot in COUNTS
  }
  return _features(dense, {**texts, **counts})


def _bucketise(counts: tf.Tensor) -> tf.Tensor:
  """int64 buckets of int64 counts: above 0 for v > 2, below for v <= 2, 0 for a missing one."""
  logarithm = tf.math.log(tf.cast(tf.maximum(counts, 3), tf.float64))
  buckets = tf.where(counts > 2, tf.cast(tf.floor(logarithm**2), tf.int64), counts - 3)
  return tf.where(counts == _ABSENT, tf.constant(_MISSING, tf.int64), buckets)
