"""What every source of files does: cutting values, calendar, shuffling, graphs, errors."""

import os

import numpy as np
import pytest
import tensorflow as tf

import tfps.data
from tests.test_data_files import LINES, keep, make, read, read_all, write, write_tfrecord
from tfps.data.ticket import TICKET_SPEC, as_tensors


@pytest.mark.parametrize("splits", [tf.int32, tf.int64])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 6, 7, 8])
def test_ragged_and_sparse_values(tmp_path, count, splits):
  """Values of every kind are cut into the same batches."""
  lines = [" ".join(f"{i}.{j}" for j in range(i % 3)) or "-" for i in range(count)]
  write(tmp_path / "a", "\n".join(lines).encode())

  def parse(lines):
    ragged = tf.strings.split(tf.strings.regex_replace(lines, "-", ""))
    x = {"dense": lines, "ragged": ragged.with_row_splits_dtype(splits)}
    return {**x, "sparse": ragged.to_sparse()}, tf.zeros_like(lines)[:, tf.newaxis]

  source = tfps.data.source(str(tmp_path / "a"), parse, batch_size=3, batches_per_ticket=2)
  assert isinstance(source.element_spec[0]["ragged"], tf.RaggedTensorSpec)
  assert source.element_spec[0]["ragged"].row_splits_dtype == splits
  assert isinstance(source.element_spec[0]["sparse"], tf.SparseTensorSpec)
  read = []
  for ticket in source.tickets():
    for x, _ in source.open(ticket):
      dense, ragged, sparse = (x[name] for name in ("dense", "ragged", "sparse"))
      assert int(ragged.nrows()) == sparse.dense_shape[0] == len(dense)
      values = [[value.decode() for value in row] for row in ragged.to_list()]
      assert values == [[] if line == b"-" else line.decode().split() for line in dense.numpy()]
      assert tf.RaggedTensor.from_sparse(sparse).to_list() == ragged.to_list()
      read += dense.numpy().astype(str).tolist()
  assert read == lines


def test_parse_must_keep_the_rows(tmp_path):
  write(tmp_path / "a", b"\n".join(LINES))
  source = tfps.data.source(
    str(tmp_path / "a"), lambda lines: (lines, lines[1:]), batch_size=3, batches_per_ticket=2
  )
  with pytest.raises(
    tf.errors.InvalidArgumentError, match="(?s)parse must return one row for each record.*6.*6.*5"
  ):
    list(source.open(next(source.tickets())))
  source = tfps.data.source(str(tmp_path / "a"), lambda lines: (lines, tf.size(lines)))
  with pytest.raises(ValueError, match="parse returned a scalar"):
    source.element_spec  # pylint: disable=pointless-statement


def test_calendar(tmp_path):
  for day in ("mon", "tue", "wed"):
    write(tmp_path / day, b"".join(b"%s %d\n" % (day.encode(), i) for i in range(8)))
  files = {day: [tmp_path / day] for day in ("mon", "tue", "wed")}
  source = tfps.data.source(files, keep, batch_size=3, batches_per_ticket=2)
  days = source.days()
  assert days == [tfps.data.Day(i, day, 8) for i, day in enumerate(("mon", "tue", "wed"))]
  tickets = list(source.tickets())
  assert [(ticket.day, ticket.sequence, ticket.records) for ticket in tickets] == [
    (0, 0, 6), (0, 1, 2), (1, 2, 6), (1, 3, 2), (2, 4, 6), (2, 5, 2),
  ]  # fmt: skip
  for tuesday in (days[1], 1, "tue"):
    assert list(source.tickets(tuesday)) == tickets[2:4]
    assert list(source.day(tuesday).tickets()) == tickets[2:4]
    assert source.day(tuesday).days() == [days[1]]
    assert source.day(tuesday).records == 8
  assert source.day("tue").opener == source.with_epoch(3).opener == source.opener
  assert [day.name for day in tfps.data.source(files, keep, days=["tue", "wed"]).days()] == [
    "tue",
    "wed",
  ]
  for day, message in (
    ("thu", "no day 'thu' among the 3 days"),
    (3, "no day 3 "),
    ("tues", "did you mean 'tue'"),
  ):
    with pytest.raises(ValueError, match=message):
      source.day(day)
  with pytest.raises(ValueError, match="no day 'mon' among the 1 days"):
    list(source.day("tue").tickets("mon"))
  with pytest.raises(
    ValueError, match="days names 'sun', which is not in the calendar; it has mon, tue, wed"
  ):
    tfps.data.source(files, keep, days=["sun"])


@pytest.mark.parametrize("format", ["text", "tfrecord", "gz"])
def test_shuffle(tmp_path, format):
  if format == "tfrecord":
    path = write_tfrecord(tmp_path / "a", LINES)
  else:
    path = write(tmp_path / f"a.{format}", b"\n".join(LINES))

  def shuffled(seed=1):
    kwargs = {"format": "tfrecord"} if format == "tfrecord" else {}
    return make(path, **kwargs, batches_per_ticket=1, shuffle=True, seed=seed)

  source = shuffled()
  first = read_all(source)
  assert first != LINES and sorted(first) == sorted(LINES)
  assert read_all(source) == read_all(shuffled()) == first
  assert read_all(shuffled(seed=2)) != first
  tickets = list(source.tickets())
  assert [ticket.sequence for ticket in tickets] == list(range(len(tickets)))
  assert read(source, tickets[0]) == read(source, tickets[0]) == read(shuffled(), tickets[0])
  if format != "gz":
    later = source.with_epoch(1)
    assert read_all(later) != first and sorted(read_all(later)) == sorted(LINES)
    assert list(later.tickets()) == list(shuffled().with_epoch(1).tickets())
    # The tickets' order is shuffled, and each holds the records of its range, shuffled.
    assert [ticket.begin for ticket in tickets] != sorted(ticket.begin for ticket in tickets)
    plain = make(path, format=format, batches_per_ticket=1)
    for ticket in tickets:
      assert sorted(read(source, ticket)) == sorted(read(plain, ticket))
    assert any(read(source, ticket) != read(plain, ticket) for ticket in tickets)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("format", ["text", "tfrecord", "gz"])
def test_open_in_a_graph(tmp_path, format, shuffle):
  """One trace with tensor fields serves all tickets, and reads what eager Python values read."""
  if format == "tfrecord":
    paths = [write_tfrecord(tmp_path / "a", LINES), write_tfrecord(tmp_path / "b", LINES[:7])]
  else:
    paths = [write(tmp_path / f"{name}.{format}", b"\n".join(LINES)) for name in "ab"]
  source = tfps.data.source(
    paths,
    keep,
    format=format if format == "tfrecord" else "text",
    batch_size=3,
    batches_per_ticket=2,
    shuffle=shuffle,
  )

  @tf.function(input_signature=list(TICKET_SPEC))
  def read_in_graph(*ticket):
    records = tf.TensorArray(
      tf.string, 0, dynamic_size=True, infer_shape=False, element_shape=[None]
    )
    for x, _ in iter(source.open(tfps.data.Ticket(*ticket))):
      records = records.write(records.size(), x["record"])
    return records.concat()

  for ticket in source.tickets():
    tensors = as_tensors(ticket)
    assert read_in_graph(*tensors).numpy().tolist() == read(source, ticket)


def test_element_spec_needs_no_data(tmp_path):
  path = write(tmp_path / "a", b"\n".join(LINES))
  source = make(path)
  path.unlink()
  x, y = source.element_spec
  assert x["record"] == tf.TensorSpec([None], tf.string)
  assert y == tf.TensorSpec([None, 1], tf.float32)


def test_a_text_file_that_changed(tmp_path):
  path = write(tmp_path / "a", b"\n".join(LINES))
  source = make(path)
  ticket = list(source.tickets())[1]
  content = path.read_bytes()
  for changed, message in (
    (content + b"x", f'input file "{path}" has body length'),
    (content[:-1], f'input file "{path}" has body length'),
    (content[: ticket.begin // 2], f'input file "{path}" has body length'),
    # As many bytes more, and fewer, as the ticket has.
    (content + content[: ticket.end - ticket.begin], f"(?s){path}.*changed; its size"),
    (content[ticket.end - ticket.begin :], f"(?s){path}.*changed; its size"),
    (content.replace(b"line 7", b"line\n7"), "(?s)changed; records.*Make the source again"),
  ):
    path.write_bytes(changed)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
      read(source, ticket)
  path.unlink()
  with pytest.raises(tf.errors.NotFoundError, match=str(path)):
    read(source, ticket)


def test_a_tfrecord_file_that_changed(tmp_path):
  path = write_tfrecord(tmp_path / "a", LINES)
  source = make(path, format="tfrecord")
  ticket = list(source.tickets())[-1]
  path.write_bytes(path.read_bytes()[:-30])
  with pytest.raises((tf.errors.DataLossError, tf.errors.InvalidArgumentError)):
    read(source, ticket)


@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_a_file_that_is_written_again_while_its_tickets_are_given_out(tmp_path, name):
  """Also by one of the same size and as many lines: nothing of it is trained without a word."""
  path = write(tmp_path / name, b"\n".join(LINES))
  source = make(path)
  others = [make(write(tmp_path / other, b"\n".join(LINES))) for other in ("b", "c")]
  sources = (
    [source] if path.suffix else [source, tfps.data.mix(dict(zip("abc", [*others, source])))]
  )
  begun = [each.tickets() for each in sources]
  for tickets in begun:
    next(tickets)
  os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
  for tickets in [*begun, *(each.tickets() for each in sources)]:
    with pytest.raises(ValueError, match=f"{path} changed: it was written again.*Make the source"):
      list(tickets)
  path.unlink()
  with pytest.raises(ValueError, match=f"{path} is gone since it was indexed. Make the source"):
    next(source.tickets())


def test_a_compressed_file_that_changed(tmp_path):
  path = write(tmp_path / "a.gz", b"\n".join(LINES))
  source = make(path)
  ticket = next(source.tickets())
  write(path, b"\n".join(LINES[:10]))
  with pytest.raises(
    tf.errors.FailedPreconditionError, match="expected to contain 7 elements but contained only 4"
  ):
    read(source, ticket)


@pytest.mark.parametrize(
  "kwargs, error, message",
  [
    (
      {"format": "orc"},
      ValueError,
      "format is 'orc'; it must be one of text, csv, tfrecord, parquet",
    ),
    ({"batch_size": 0}, ValueError, "batch_size is 0; it must be a whole number, at least 1"),
    ({"batches_per_ticket": 1.5}, ValueError, "batches_per_ticket is 1.5"),
    ({"seed": -1}, ValueError, "seed is -1; it must be a whole number from 0"),
    ({"format": "csv"}, ValueError, "needs columns"),
    ({"columns": ["a"]}, ValueError, "columns is for format='csv'"),
    ({"format": "tfrecord", "header": True}, ValueError, "TFRecord files have none"),
  ],
)
def test_bad_arguments(tmp_path, kwargs, error, message):
  with pytest.raises(error, match=message):
    make(write(tmp_path / "a", b"a\n"), **kwargs)


def test_bad_files(tmp_path):
  for pattern in ("nothing", "nothing*"):
    with pytest.raises(
      FileNotFoundError, match="nothing.* does not exist, and as a glob it matches no file"
    ):
      make(tmp_path / pattern)
  write(tmp_path / "a", b"a\n"), write(tmp_path / "a.gz", b"a\n")
  with pytest.raises(ValueError, match="partly compressed"):
    make(tmp_path / "a*")
  with pytest.raises(
    ValueError, match=r"parse returned dict; it must return \(x, y\) or \(x, y, weight\)"
  ):
    tfps.data.source(str(tmp_path / "a"), lambda lines: {"x": lines}).element_spec


@pytest.mark.parametrize("compression", ["", ".gz"])
def test_ragged_features_of_a_tfrecord_train(tmp_path, compression):
  """tf.io.RaggedFeature has int32 row splits unless told otherwise."""
  records = []
  for i in range(40):
    count = i % 4
    feature = {
      "tags": tf.train.Feature(int64_list=tf.train.Int64List(value=range(1, count + 1))),
      "weights": tf.train.Feature(float_list=tf.train.FloatList(value=[0.5] * count)),
      "label": tf.train.Feature(float_list=tf.train.FloatList(value=[i % 2])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    records.append(example.SerializeToString())
  path = write_tfrecord(tmp_path / f"a{compression}", records, "GZIP" if compression else "")

  class Weighted(tfps.Model):
    def __init__(self):
      super().__init__()
      self.table = tfps.FeasignTable("test", mf_dim=2)
      self.pooled = tfps.Embedding(self.table, ["tags"], "mean")
      self.sequence = tfps.Embedding(self.table, ["tags"], None)

    def call(self, x, training=None):
      sequence = self.sequence(x, training=training)
      logit = tf.reduce_sum(sequence.sequences["tags"], axis=[1, 2])[:, tf.newaxis]
      pooled = self.pooled(x, {"tags": x["weights"]}, training=training)
      return tf.sigmoid(logit + pooled.lr_logit + sequence.lr_logit)

  predicted = []
  for splits in (tf.int32, tf.int64):

    def parse(records, splits=splits):
      x = tf.io.parse_example(records, {
        "tags": tf.io.RaggedFeature(tf.int64, row_splits_dtype=splits),
        "weights": tf.io.RaggedFeature(tf.float32, row_splits_dtype=splits),
        "label": tf.io.FixedLenFeature([1], tf.float32),
      })  # fmt: skip
      return x, x.pop("label")

    settings = dict(format="tfrecord", batch_size=16, batches_per_ticket=2)
    source = tfps.data.source(str(path), parse, **settings)
    assert source.element_spec[0]["tags"].row_splits_dtype == splits
    model = Weighted()
    model.compile("adam", "binary_crossentropy")
    model.fit(source, verbose=0)
    assert model.table.statistics()["show"] == 2 * 60
    _, counts = next(model.score(source, features=["tags"]))["features"]["tags"]
    assert counts[:5].tolist() == [0, 1, 2, 3, 0]
    predicted.append(model.predict(source, verbose=0))
  assert (predicted[0] == predicted[1]).all() and np.ptp(predicted[0]) > 0
