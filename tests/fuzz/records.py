"""Records: of any file, every record is in a batch or counted as skipped, or the file is refused."""

import gzip

import tensorflow as tf
import tfps

from tests.fuzz import mutate

# A gzip file may turn out to be damaged only when it is read; all others must be read to their end.
EXPECTED = (ValueError, tf.errors.DataLossError)
_LINES = b"".join(b"%d,%d,u%d\n" % (i % 2, i % 4, i) for i in range(20))


def make(folder, note):
  path = folder / "good"
  with tf.io.TFRecordWriter(str(path)) as writer:
    for line in _LINES.splitlines():
      writer.write(line)
  good = {"text": _LINES, "csv": _LINES, "tfrecord": path.read_bytes()}

  def read(form, path):
    return tfps.data.source(
      str(path),
      _parse_columns if form == "csv" else _parse,
      format=form,
      columns=["click", "weight", "user"] if form == "csv" else None,
      batch_size=4,
      batches_per_ticket=2,
      on_bad_record="skip",
    )

  def one(rng):
    form = rng.choice(sorted(good))
    content = mutate.data(rng, good[form])
    file = folder / ("file.gz" if rng.random() < 0.05 else "file")
    if file.suffix:
      content = gzip.compress(content)
      content = mutate.data(rng, content) if rng.random() < 0.5 else content
    file.write_bytes(content)
    note(f"{form} {file.name} {content[:4000]!r}")
    source = read(form, file)
    for ticket in source.tickets():
      reading = source.reading(ticket)
      examples = sum(len(y) for _, y, *_ in reading.batches)
      skipped = reading.skipped(tf.constant(examples, tf.int64))
      assert examples + int(tf.reduce_sum(skipped.counts)) == ticket.records

  return one


def _parse(lines):
  click, weight, user = tf.io.decode_csv(lines, [tf.constant([], tf.float32), [1.0], [""]])
  return {"user": tfps.feasign("user", user)}, click[:, tf.newaxis], weight


def _parse_columns(columns):
  click = tf.strings.to_number(columns["click"])
  tfps.data.reject(columns["user"] == "", "field 'user' is empty")
  return {"user": tf.strings.split(columns["user"], "1")}, click[:, tf.newaxis]
