"""Records: each record of a file is in a batch or counted as skipped, or the file is refused."""

import gzip
import os

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

import tfps
from tests.fuzz import mutate, reading
from tfps.cluster import failures
from tfps.data.ticket import Ticket
from tfps.training import tickets as tickets_lib

EXPECTED = reading.RefusedError
_LINES = b"".join(b"%d,%d,u%d\n" % (i % 2, i % 4, i) for i in range(20))


def make(folder, note):
  path = folder / "good"
  with tf.io.TFRecordWriter(str(path)) as writer:
    for line in _LINES.splitlines():
      writer.write(line)
  good = {"text": _LINES, "csv": _LINES, "tfrecord": path.read_bytes()}
  columns = {"click": [i % 2 for i in range(20)], "user": [f"u{i}" for i in range(20)]}
  columns["tags"] = [["a", None, "b"][: i % 4] for i in range(20)]
  pq.write_table(pa.table(columns), path, row_group_size=6)
  good["parquet"] = path.read_bytes()

  def read(form, path, on_bad_record):
    return tfps.data.source(
      str(path),
      {"csv": _parse_columns, "parquet": _parse_parquet}.get(form, _parse),
      format=form,
      columns=["click", "weight", "user"] if form == "csv" else None,
      batch_size=4,
      batches_per_ticket=2,
      on_bad_record=on_bad_record,
    )

  def one(rng):
    form = rng.choice(sorted(good))
    content = mutate.data(rng, good[form])
    file = folder / ("file.gz" if rng.random() < 0.05 and form != "parquet" else "file")
    if file.suffix:
      content = gzip.compress(content)
      content = mutate.data(rng, content) if rng.random() < 0.5 else content
    file.write_bytes(content)
    on_bad_record = rng.choice(("skip", "skip", "fail"))
    # What the file is when it is read, if it is not what was cut; None: it is gone.
    changes = (b"", content[:-1], content[:1], content + b"1,1,x\n", good[form][::-1], None)
    changed = rng.choice(changes) if rng.random() < 0.3 else content
    note(f"{form} {on_bad_record} {file.name} {content[:4000]!r}, then {changed!r}")
    try:
      # Errors come as in training where it is traced, which takes long; where all is skipped there
      # are none.
      source = read(form, file, on_bad_record)
      tickets, is_empty = source.tickets(), not source.records
      if rng.random() < 0.5:  # Who gives tickets out may not see the change before they are read.
        tickets = list(tickets)
      file.unlink() if changed is None else file.write_bytes(changed)
      if changed not in (None, content):
        os.utime(file, ns=(0, rng.randrange(10**18)))
      _read_all(source, tickets, traced=on_bad_record == "fail")
      is_told = isinstance(tickets, list) or is_empty or form == "parquet"
      assert is_told or changed == content, "a file that changed was read"
    except (ValueError, tf.errors.OpError) as error:
      sentence = failures.explain(error)
      assert str(file) in sentence, f"{type(error).__name__}: {sentence}"
      # Only gzip and Parquet turn out to be damaged when they are read; all others are read to
      # their end.
      later = file.suffix or form == "parquet" or changed != content
      assert on_bad_record == "fail" or later or not isinstance(error, tf.errors.OpError)
      raise reading.RefusedError(sentence) from error

  return one


def _read_all(source, tickets, traced):
  def read(*fields):
    return reading.read_all(source.reading(Ticket(*fields)))

  if traced:
    read = tf.function(read)
  strategy = tf.distribute.get_strategy()
  for ticket, (examples, skipped) in tickets_lib.scored(read, tickets, strategy, source.explain):
    assert examples + skipped.counts.sum() == ticket.records


def _parse(lines):
  click, weight, user = tf.io.decode_csv(lines, [tf.constant([], tf.float32), [1.0], [""]])
  return {"user": tfps.feasign("user", user)}, click[:, tf.newaxis], weight


def _parse_parquet(columns):
  x = {"user": columns["user"], "tags": columns["tags"]}
  return x, tf.cast(columns["click"], tf.float32)[:, tf.newaxis]


def _parse_columns(columns):
  click = tf.strings.to_number(columns["click"])
  tfps.data.reject(columns["user"] == "", "field 'user' is empty")
  return {"user": tf.strings.split(columns["user"], "1")}, click[:, tf.newaxis]
