"""Sources of files: every record exactly once, whatever the file looks like."""

import gzip

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

import tfps.data
from tfps.data import index


def keep(records):
  """A parse that keeps the records, so that tests can compare them byte for byte."""
  return {"record": records}, tf.cast(tf.strings.length(records), tf.float32)[:, tf.newaxis]


def make(path, **kwargs):
  kwargs = {"batch_size": 3, "batches_per_ticket": 2, **kwargs}
  return tfps.data.source(str(path), keep, **kwargs)


def read(source, ticket):
  """The records of a ticket as a list, checking the batch sizes."""
  batches = [x["record"].numpy().tolist() for x, _ in source.open(ticket)]
  assert [len(batch) for batch in batches[:-1]] == [source.batch_size] * (len(batches) - 1)
  records = [record for batch in batches for record in batch]
  assert len(records) == ticket.records
  return records


def read_all(source):
  return [record for ticket in source.tickets() for record in read(source, ticket)]


def write(path, content):
  path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
  return path


LINES = [b"line %d" % i for i in range(20)]

AWKWARD = {
  "plain": (b"".join(line + b"\n" for line in LINES), LINES),
  "no newline at the end": (b"\n".join(LINES), LINES),
  "carriage returns": (b"".join(line + b"\r\n" for line in LINES), LINES),
  "carriage returns, no newline at the end": (b"\r\n".join(LINES) + b"\r", LINES),
  "a carriage return inside": (b"a\rb\nc\n", [b"a\rb", b"c"]),
  "a byte order mark": (b"\xef\xbb\xbf" + b"".join(line + b"\r\n" for line in LINES), LINES),
  "a byte order mark alone": (b"\xef\xbb\xbf", []),
  "less than a byte order mark": (b"\xef\xbb", [b"\xef\xbb"]),
  "empty": (b"", []),
  "only empty lines": (b"\n\r\n\n", []),
  "empty lines": (b"\n\na\n\n\r\nb\n\n\nc\n\n", [b"a", b"b", b"c"]),
  "one record": (b"a\n", [b"a"]),
  "one record, no newline": (b"a", [b"a"]),
  "exactly one ticket": (b"".join(line + b"\n" for line in LINES[:6]), LINES[:6]),
  "bytes that are no text": (b"\x00\xff\n\xfe\n", [b"\x00\xff", b"\xfe"]),
  "long records": (
    b"a" * 300_000 + b"\n" + b"b" * 300_000 + b"\n",
    [b"a" * 300_000, b"b" * 300_000],
  ),
}


# Compressed text with a carriage return inside is refused.
PACKED = [name for name in AWKWARD if name != "a carriage return inside"]


@pytest.mark.parametrize(
  "name, compression", [*((name, "") for name in AWKWARD), *((name, ".gz") for name in PACKED)]
)
def test_every_line_once(tmp_path, name, compression):
  content, expected = AWKWARD[name]
  source = make(write(tmp_path / f"lines.txt{compression}", content))
  assert read_all(source) == expected
  assert source.days() == [tfps.data.Day(0, "all", len(expected))]
  assert source.records == len(expected)


@pytest.mark.parametrize("compression", ["", ".gz"])
@pytest.mark.parametrize("content", [b"h\na\nb\n", b"\n\r\nh\n\na\r\nb", b"h\na\n\nb\n"])
def test_header_is_no_record(tmp_path, content, compression):
  assert read_all(make(write(tmp_path / f"a{compression}", content), header=True)) == [b"a", b"b"]


@pytest.mark.parametrize("content", [b"", b"h", b"h\n\n"])
def test_header_alone(tmp_path, content):
  source = make(write(tmp_path / "a", content), header=True)
  assert list(source.tickets()) == [] and source.records == 0


def test_cutting(tmp_path):
  """Tickets hold batches_per_ticket batches, never span files, and leave no gap."""
  for name, count in (("a", 20), ("b", 0), ("c", 7)):
    write(tmp_path / name, b"".join(b"%s %d\n" % (name.encode(), i) for i in range(count)))
  source = make(tmp_path / "*")
  tickets = list(source.tickets())
  assert [ticket.records for ticket in tickets] == [6, 6, 6, 2, 6, 1]
  assert [ticket.sequence for ticket in tickets] == list(range(6))
  assert [ticket.path[-1] for ticket in tickets] == list("aaaacc")
  assert [ticket.begin for ticket in tickets[1:4]] == [ticket.end for ticket in tickets[:3]]
  assert tickets[3].end == (tmp_path / "a").stat().st_size
  assert all(isinstance(field, (int, str)) for ticket in tickets for field in ticket)


def write_tfrecord(path, records, compression=""):
  with tf.io.TFRecordWriter(str(path), compression) as writer:
    for record in records:
      writer.write(record)
  return path


@pytest.mark.parametrize("compression", ["", "GZIP"])
@pytest.mark.parametrize(
  "records", [[], [b""], [b"one"], [b"r%d" % i for i in range(20)], [b"", b"x" * 5_000_000, b"y"]]
)
def test_every_tfrecord_once(tmp_path, records, compression):
  path = write_tfrecord(tmp_path / f"a{'.gz' if compression else ''}", records, compression)
  source = make(path, format="tfrecord")
  assert read_all(source) == records
  assert source.records == len(records)


def test_tfrecord_cut_short(tmp_path):
  path = write_tfrecord(tmp_path / "a", [b"r%d" % i for i in range(20)])
  content = path.read_bytes()
  starts = [0]
  for i in range(20):
    starts.append(starts[-1] + 16 + len(b"r%d" % i))
  assert starts[-1] == len(content)
  for size in range(1, len(content)):
    path.write_bytes(content[:size])
    if size in starts:
      assert make(path, format="tfrecord").records == starts.index(size)
      continue
    start = max(begin for begin in starts if begin < size)
    with pytest.raises(
      ValueError, match=f"{path} is cut short: its record at byte {start} is not complete"
    ):
      list(make(path, format="tfrecord").tickets())


def test_tfrecord_damaged(tmp_path):
  path = write_tfrecord(tmp_path / "a", [b"r%d" % i for i in range(10)])
  content = bytearray(path.read_bytes())
  content[18 * 3 + 2] ^= 1
  path.write_bytes(content)
  with pytest.raises(ValueError, match=f"{path} is not a TFRecord file at byte 54"):
    list(make(path, format="tfrecord").tickets())


@pytest.mark.parametrize(
  "content, lines, refused_at",
  [
    (b"\xef\xbb\xbfa\n\n\xef\xbb\xbfb \r\n\r\n\xe9\r", [b"a", b"\xef\xbb\xbfb ", b"\xe9"], None),
    (b"\xef\xbb\xbf\na", [b"a"], None),
    (b"a\r\nb\rc", [b"a", b"b\rc"], 4),
    (b"a\r\r\nb", [b"a\r", b"b"], 1),
  ],
)
def test_compressed_text_is_read_as_other_text_or_refused(
  tmp_path, content, lines, refused_at, monkeypatch
):
  """A mark is left out at the beginning of a file alone; a return within a line is a part of it."""
  assert read_all(make(write(tmp_path / "a", content))) == lines
  monkeypatch.setattr(index, "_BLOCK_BYTES", 2)
  source = make(write(tmp_path / "a.gz", content))
  if refused_at is None:
    assert read_all(source) == lines
  else:
    sentence = f"a.gz has a carriage return within a line, at byte {refused_at} of"
    with pytest.raises(ValueError, match=sentence):
      source.days()


def test_gzip_cut_short(tmp_path):
  path = write(tmp_path / "a.gz", b"\n".join(LINES))
  path.write_bytes(path.read_bytes()[:-12])
  with pytest.raises(ValueError, match=f"{path} is not a complete gzip file"):
    make(path).days()


def test_csv(tmp_path):
  path = write(tmp_path / "a.csv", b'user,item,click\n1,"a,b",1\n2,,0\n')

  def parse(columns):
    return {name: columns[name] for name in ("user", "item")}, tf.strings.to_number(
      columns["click"]
    )[:, tf.newaxis]

  source = tfps.data.source([path], parse, format="csv", header=True)
  x, y = next(iter(source.open(next(source.tickets()))))
  assert x["user"].numpy().tolist() == [b"1", b"2"]
  assert x["item"].numpy().tolist() == [b"a,b", b""]
  assert y.numpy().tolist() == [[1.0], [0.0]]

  # A mark, carriage returns and blanks at the ends of lines change nothing.
  write(path, b'\xef\xbb\xbfuser,item,click \r\n1,"a,b",1 \r\n2,,0\t\r\n')
  odd = tfps.data.source([path], parse, format="csv", header=True)
  for one, other in zip(
    tf.nest.flatten(next(iter(odd.open(next(odd.tickets()))))), tf.nest.flatten((x, y))
  ):
    np.testing.assert_array_equal(one, other)

  write(tmp_path / "b.tsv", b"1\ta\t1\n2\tb\n")
  source = tfps.data.source(
    str(tmp_path / "b.tsv"), parse, format="csv", columns=["user", "item", "click"], delimiter="\t"
  )
  with pytest.raises(
    tf.errors.InvalidArgumentError, match="Expect 3 fields but have 2 in record 1"
  ):
    list(source.open(next(source.tickets())))


def test_parse_of_examples_with_weights(tmp_path):
  examples = [
    tf.train.Example(
      features=tf.train.Features(
        feature={"u": tf.train.Feature(int64_list=tf.train.Int64List(value=[i]))}
      )
    ).SerializeToString()
    for i in range(8)
  ]
  path = write_tfrecord(tmp_path / "a", examples)

  def parse(serialized):
    u = tf.io.parse_example(serialized, {"u": tf.io.FixedLenFeature([], tf.int64)})["u"]
    return {"u": u}, tf.cast(u % 2, tf.float32)[:, tf.newaxis], tf.ones_like(u, tf.float32)

  source = tfps.data.source(str(path), parse, format="tfrecord", batch_size=3, batches_per_ticket=2)
  batches = [batch for ticket in source.tickets() for batch in source.open(ticket)]
  assert np.concatenate([x["u"] for x, _, _ in batches]).tolist() == list(range(8))
  assert [spec.shape.rank for spec in tf.nest.flatten(source.element_spec)] == [1, 2, 1]


LINE = st.binary(max_size=6).filter(lambda line: b"\n" not in line)


@hypothesis.settings(
  deadline=None,
  max_examples=30,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
  lines=st.lists(st.tuples(LINE, st.sampled_from([b"\n", b"\r\n"])), max_size=16),
  last=LINE,
  batch_size=st.integers(1, 4),
  batches_per_ticket=st.integers(1, 3),
  block_bytes=st.integers(1, 40),
  header=st.booleans(),
)
def test_any_text(tmp_path, lines, last, batch_size, batches_per_ticket, block_bytes, header):
  content = b"".join(line + end for line, end in lines) + last
  stripped = [line.removesuffix(b"\r") for line in content.split(b"\n")]
  expected = [line for line in stripped if line][1 if header else 0 :]
  source = make(
    write(tmp_path / "a", content),
    batch_size=batch_size,
    batches_per_ticket=batches_per_ticket,
    header=header,
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(index, "_BLOCK_BYTES", block_bytes)
    tickets = list(source.tickets())
  assert [ticket.records for ticket in tickets[:-1]] == [batch_size * batches_per_ticket] * (
    len(tickets) - 1
  )
  assert read_all(source) == expected


@hypothesis.settings(
  deadline=None,
  max_examples=20,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
  records=st.lists(st.binary(max_size=50), max_size=10),
  step=st.integers(1, 5),
  block_bytes=st.integers(1, 80),
)
def test_any_tfrecord(tmp_path, records, step, block_bytes):
  source = make(
    write_tfrecord(tmp_path / "a", records),
    format="tfrecord",
    batch_size=step,
    batches_per_ticket=1,
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(index, "_BLOCK_BYTES", block_bytes)
    assert len(list(source.tickets())) == -(-len(records) // step)
  assert read_all(source) == records
