"""Tickets of pieces of Parquet files: row groups from all over the day, mixed as a whole."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import tfps
from tfps.data import pieces as pieces_lib
from tfps.data import ticket as ticket_lib

ENTRY = pa.struct([("a", pa.string()), ("b", pa.int64())])
CUTTING = dict(format="parquet", batch_size=5, batches_per_ticket=8)


def parse(columns):
  return dict(columns), tf.ones([tf.shape(columns["n"])[0], 1])


def write(path, random, first, groups):
  """Rows with numbers that no other file has, as types that may differ from file to file."""
  rows = sum(groups)
  texts = [random.choice([None, "a", "bb", f"c{i}"]) for i in range(rows)]
  tags = [[f"t{tag}" for tag in random.integers(0, 9, random.integers(4))] for _ in range(rows)]
  table = pa.table({
    "n": pa.array(range(first, first + rows), random.choice([pa.int64(), pa.int32()])),
    "text": pa.array(texts, pa.string()),
    "tags": pa.array(tags, pa.list_(pa.string())),
    "pair": pa.array([[i, -i] for i in range(rows)], pa.list_(pa.int64(), 2)),
    "entry": pa.array([{"a": str(i % 3), "b": i} for i in range(rows)], ENTRY),
  })  # fmt: skip
  if random.random() < 0.5:
    table = table.set_column(1, "text", table["text"].dictionary_encode())
  with pq.ParquetWriter(path, table.schema) as writer:
    for begin, size in zip(np.cumsum([0, *groups]), groups):
      writer.write_table(table.slice(begin, size), row_group_size=max(size, 1))


def read(source, tickets):
  """Of each ticket its rows as Python's values."""
  batch = lambda x: zip(*[
    value.to_list() if isinstance(value, tf.RaggedTensor) else value.numpy().tolist()
    for value in (x["n"], x["text"], x["tags"], x["pair"], x["entry"]["a"], x["entry"]["b"])
  ])  # fmt: skip
  return [[row for x, _ in source.open(ticket) for row in batch(x)] for ticket in tickets]


def as_pyarrow_reads(paths):
  """{number: the row} of all files."""
  text = lambda value: (value or "").encode()
  return {
    row["n"]: (
      row["n"], text(row["text"]), [text(tag) for tag in row["tags"]], row["pair"],
      text(row["entry"]["a"]), row["entry"]["b"],
    )
    for path in paths for row in pq.read_table(path).to_pylist()
  }  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_pieces_hold_each_row_once_whole_and_in_the_same_order_again(tmp_path, seed):
  random = np.random.default_rng(seed)
  paths = []
  for i in range(random.integers(1, 5)):
    paths.append(str(tmp_path / f"{i}.parquet"))
    write(
      paths[-1], random, 10_000 * i, random.choice([0, 1, 3, 7, 15, 200], random.integers(1, 6))
    )
  pieces = int(random.choice([2, 4, 13]))
  make = lambda: tfps.data.source(paths, parse, **CUTTING).shuffled(seed, pieces=pieces)
  source, expected = make(), as_pyarrow_reads(paths)
  tickets = list(source.tickets())
  for ticket in tickets:
    ranges = pieces_lib.ranges_of(ticket)
    assert len(ranges) == 1 or ticket.records <= -(-40 // pieces) * pieces
  found = read(source, tickets)
  numbers = [[row[0] for row in of_ticket] for of_ticket in found]
  for ticket, of_ticket in zip(tickets, numbers):
    places = [source.place_of(ticket, i) for i in range(ticket.records)]
    known = [f"{paths[n // 10_000]}, row {n % 10_000:,}" for n in of_ticket]
    assert sorted(known) == sorted(places)
  assert all(row == expected[row[0]] for row in itertools.chain(*found))
  assert sorted(itertools.chain(*numbers)) == sorted(expected)
  # A source made anew, as a resume makes it, goes on from anywhere.
  again = make()
  assert list(again.tickets()) == tickets
  begin = len(tickets) // 2
  assert read(again, tickets[begin:]) == found[begin:]
  other = source.with_epoch(1)
  assert sorted(row[0] for row in itertools.chain(*read(other, other.tickets()))) == sorted(
    expected
  )
  assert len(expected) < 60 or list(other.tickets()) != tickets


def test_a_ticket_has_rows_from_many_files_in_a_graph_too(tmp_path):
  random = np.random.default_rng(1)
  paths = [str(tmp_path / f"{i}.parquet") for i in range(6)]
  for i, path in enumerate(paths):
    write(path, random, 10_000 * i, [10] * 4)
  source = tfps.data.source(paths, parse, **CUTTING).shuffled(3, pieces=4)

  @tf.function(input_signature=list(ticket_lib.TICKET_SPEC))
  def numbers(*fields):
    return source.whole_tickets()._chosen(ticket_lib.Ticket(*fields)).values[0]["n"]

  tickets = list(source.tickets())
  assert [ticket.records for ticket in tickets] == [40] * 6
  for ticket, found in zip(tickets, read(source, tickets)):
    of_ticket = [row[0] for row in found]
    assert len({n // 10_000 for n in of_ticket}) > 1
    assert (
      sorted(of_ticket) != of_ticket == numbers(*ticket_lib.as_tensors(ticket)).numpy().tolist()
    )


def test_a_file_of_a_ticket_of_pieces_that_changes_is_named(tmp_path):
  random = np.random.default_rng(1)
  paths = [str(tmp_path / f"{i}.parquet") for i in range(3)]
  for i, path in enumerate(paths):
    write(path, random, 10_000 * i, [10])
  source = tfps.data.source(paths, parse, **CUTTING).shuffled(3, pieces=4)
  (ticket,) = source.tickets()
  write(paths[1], random, 20_000, [10])
  with pytest.raises(tf.errors.InvalidArgumentError, match="1.parquet changed: it is not the file"):
    read(source, [ticket])
