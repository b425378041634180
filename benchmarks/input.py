"""How fast sources read: records/s and processor seconds per million, for every format.

The same samples, a label, 26 slots of one value and one of several, are written in each format.
tfps reads its sources as training does, the next ticket ahead. Beside it stand tf.data, which reads
and parses the same TFRecord and CSV files by batches, and pyarrow and pandas, which read the same
Parquet.
With --values=texts the slots hold texts, else integers; with --feasigns the parse functions make
feasigns of them, in tfps and tf.data alike.
"""

import itertools
import os
import sys
import tempfile
import time

import harness
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

import tfps
from tfps.data.ahead import ReadAhead
from tfps.data.ticket import as_tensors

SLOTS = [f"slot{i}" for i in range(26)]
_MOST_TAGS = 4


def main():
  parser = harness.parser(__doc__)
  parser.add_argument("--records", type=int, default=200_000)
  parser.add_argument("--batch-size", type=int, default=512)
  parser.add_argument("--batches-per-ticket", type=int, default=10)
  parser.add_argument("--row-group", type=int, default=50_000, help="rows of Parquet's row groups")
  parser.add_argument("--values", choices=("integers", "texts"), default="integers")
  parser.add_argument("--feasigns", action="store_true")
  parser.add_argument("--repeats", type=int, default=3)
  flags = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    paths = write(folder, flags)
    readers = make_readers(paths, flags)
    rows = measure(readers, flags)
  by_name = {row["reader"]: row for row in rows}
  cpu = lambda name: by_name[name]["cpu_s_per_million"].median
  speed = lambda name: by_name[name]["thousand_records_per_s"].median
  goals = [
    harness.Goal("Parquet beside TFRecord, records per CPU second",
                 cpu("tfps TFRecord") / cpu("tfps Parquet"), 3.0, "times", at_least=True),
    harness.Goal("TFRecord beside tf.data, records/s",
                 speed("tfps TFRecord") / speed("tf.data TFRecord"), 1.0, "times", at_least=True),
  ]  # fmt: skip
  title = f"Reading {flags.records:,} records of 27 slots, {flags.values}"
  title += ", to feasigns" if flags.feasigns else ""
  sys.exit(harness.report(flags, title, rows, goals))


def write(folder, flags):
  """Writes the samples in each format; returns {format: path}."""
  random = np.random.default_rng(7)
  n = flags.records
  # About Zipf(1) of a million values.
  numbers = np.exp(random.uniform(0, np.log(1e6), [len(SLOTS), n])).astype(np.int64)
  lengths = random.integers(0, _MOST_TAGS + 1, n)
  tags = np.split(random.integers(0, 1000, lengths.sum()), np.cumsum(lengths)[:-1])
  clicks = random.integers(0, 2, n).astype(np.float32)
  text = flags.values == "texts"
  value = (lambda number: f"value-{number}") if text else int
  columns = {slot: [value(one) for one in row] for slot, row in zip(SLOTS, numbers)}
  columns["tags"] = [[value(tag) for tag in row] for row in tags]
  table = pa.table({**columns, "click": clicks})
  paths = {name: os.path.join(folder, f"samples.{name}") for name in ("tfrecord", "csv", "parquet")}
  pq.write_table(table, paths["parquet"], row_group_size=flags.row_group)
  with tf.io.TFRecordWriter(paths["tfrecord"]) as file, open(paths["csv"], "w") as lines:
    lines.write(",".join([*SLOTS, "tags", "click"]) + "\n")
    for row in zip(*columns.values(), clicks):
      *values, many, click = row
      feature = {slot: _feature([one], text) for slot, one in zip(SLOTS, values)}
      number = tf.train.Feature(float_list=tf.train.FloatList(value=[click]))
      feature |= {"tags": _feature(many, text), "click": number}
      file.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
      lines.write(",".join([*map(str, values), "|".join(map(str, many)), str(click)]) + "\n")
  return paths


def _feature(values, text):
  if text:
    value = [one.encode() for one in values]
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
  return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def make_readers(paths, flags):
  """{name: a function that reads all records and returns how many there were}."""
  text = flags.values == "texts"
  dtype = tf.string if text else tf.int64
  spec = {slot: tf.io.FixedLenFeature([], dtype) for slot in SLOTS}
  spec |= {"tags": tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)}
  spec |= {"click": tf.io.FixedLenFeature([1], tf.float32)}

  def finished(values, click):
    if flags.feasigns:
      values = {slot: tfps.feasign(slot, value) for slot, value in values.items()}
    return values, click

  def parse_examples(records):
    values = tf.io.parse_example(records, spec)
    return finished(values, values.pop("click"))

  def parse_texts(columns):
    number = lambda column: column if text else tf.strings.to_number(column, tf.int64)
    values = {slot: number(columns[slot]) for slot in SLOTS}
    tags = tf.strings.split(columns["tags"], "|")
    tags = tf.ragged.boolean_mask(tags, tags != "")
    values["tags"] = tags.with_values(number(tags.values))
    return finished(values, tf.strings.to_number(columns["click"])[:, tf.newaxis])

  def parse_columns(columns):
    values = {slot: columns[slot] for slot in [*SLOTS, "tags"]}
    return finished(values, columns["click"][:, tf.newaxis])

  cutting = dict(batch_size=flags.batch_size, batches_per_ticket=flags.batches_per_ticket)
  source = lambda form, parse, **kwargs: tfps.data.source(
    paths[form], parse, format=form, **cutting, **kwargs
  )
  names = [*SLOTS, "tags", "click"]
  lines = lambda lines: parse_texts(dict(zip(names, tf.io.decode_csv(lines, [[""]] * len(names)))))
  examples = tf.data.TFRecordDataset(paths["tfrecord"])
  texts = tf.data.TextLineDataset(paths["csv"]).skip(1)
  return {
    "tfps TFRecord": _of_source(source("tfrecord", parse_examples)),
    "tfps CSV": _of_source(source("csv", parse_texts, header=True)),
    "tfps Parquet": _of_source(source("parquet", parse_columns)),
    "tf.data TFRecord": _of_dataset(examples, parse_examples, flags),
    "tf.data CSV": _of_dataset(texts, lines, flags),
    "pyarrow Parquet": lambda: pq.read_table(paths["parquet"]).num_rows,
    "pandas Parquet": lambda: len(pandas.read_parquet(paths["parquet"])),
  }  # fmt: skip


def _of_source(source):
  """Reads as training does: while a ticket is used, the next one is opened."""
  ahead = ReadAhead(source)

  @tf.function(input_signature=list(ahead.spec))
  def count(iterator, first, known):
    count = tf.shape(first.get_value()[1], tf.int64)[0]
    for _, click in iterator:
      count += tf.shape(click, tf.int64)[0]
    return count

  def read():
    total = 0
    for ticket, following in itertools.pairwise([*source.tickets(), None]):
      ahead.begin(ticket)
      if following is not None:
        ahead.begin(following)
      total += int(count(*ahead.take(as_tensors(ticket))))
    ahead.close()
    return total

  return read


def _of_dataset(records, parse, flags):
  batches = records.batch(flags.batch_size).map(parse).prefetch(1)

  @tf.function
  def read():
    count = tf.zeros([], tf.int64)
    for _, click in batches:
      count += tf.shape(click, tf.int64)[0]
    return count

  return lambda: int(read())


def measure(readers, flags):
  """One row for each reader, measured in turn; the first round does not count."""
  seconds = {name: [] for name in readers}
  cpu = {name: [] for name in readers}
  for round_ in range(flags.repeats + 1):
    for name, read in readers.items():
      begin, cpu_begin = time.perf_counter(), time.process_time()
      assert read() == flags.records, name
      if round_:
        seconds[name].append(time.perf_counter() - begin)
        cpu[name].append(time.process_time() - cpu_begin)
  return [
    {
      "reader": name,
      "thousand_records_per_s": harness.spread(
        [flags.records / taken / 1e3 for taken in seconds[name]]
      ),
      "cpu_s_per_million": harness.spread([1e6 * taken / flags.records for taken in cpu[name]]),
    }
    for name in readers
  ]


if __name__ == "__main__":
  main()
