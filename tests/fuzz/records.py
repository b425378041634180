"""Records: each record of a file is in a batch or counted as skipped, or the file is refused."""

import gzip

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

  def read(form, path, on_bad_record):
    return tfps.data.source(
      str(path),
      _parse_columns if form == "csv" else _parse,
      format=form,
      columns=["click", "weight", "user"] if form == "csv" else None,
      batch_size=4,
      batches_per_ticket=2,
      on_bad_record=on_bad_record,
    )

  def one(rng):
    form = rng.choice(sorted(good))
    content = mutate.data(rng, good[form])
    file = folder / ("file.gz" if rng.random() < 0.05 else "file")
    if file.suffix:
      content = gzip.compress(content)
      content = mutate.data(rng, content) if rng.random() < 0.5 else content
    file.write_bytes(content)
    on_bad_record = rng.choice(("skip", "skip", "fail"))
    note(f"{form} {on_bad_record} {file.name} {content[:4000]!r}")
    try:
      # Errors come as in training where it is traced, which takes long; where all is skipped there
      # are none.
      _read_all(read(form, file, on_bad_record), traced=on_bad_record == "fail")
    except (ValueError, tf.errors.OpError) as error:
      sentence = failures.explain(error)
      assert str(file) in sentence, f"{type(error).__name__}: {sentence}"
      # Only a gzip file turns out to be damaged when it is read; all others are read to their end.
      assert on_bad_record == "fail" or file.suffix or not isinstance(error, tf.errors.OpError)
      raise reading.RefusedError(sentence) from error

  return one


def _read_all(source, traced):
  def read(*fields):
    return reading.read_all(source.reading(Ticket(*fields)))

  if traced:
    read = tf.function(read)
  strategy = tf.distribute.get_strategy()
  for ticket, (examples, skipped) in tickets_lib.scored(
    read, source.tickets(), strategy, source.explain
  ):
    assert examples + skipped.counts.sum() == ticket.records


def _parse(lines):
  click, weight, user = tf.io.decode_csv(lines, [tf.constant([], tf.float32), [1.0], [""]])
  return {"user": tfps.feasign("user", user)}, click[:, tf.newaxis], weight


def _parse_columns(columns):
  click = tf.strings.to_number(columns["click"])
  tfps.data.reject(columns["user"] == "", "field 'user' is empty")
  return {"user": tf.strings.split(columns["user"], "1")}, click[:, tf.newaxis]
