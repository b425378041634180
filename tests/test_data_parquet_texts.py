"""Texts of Parquet files become feasigns without a tensor of texts, and the same ones."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import tfps
from tfps.data import ticket as ticket_lib


def recurring_table(random, rows):
  """Texts that recur, in columns of all forms; other ones in each row group."""
  text = lambda: random.choice([None, "", "aé", "b", f"c{random.integers(3)}", "a" * 90])
  many = lambda: None if random.random() < 0.1 else [text() for _ in range(random.integers(4))]
  entries = lambda: [{"value": text(), "weight": 1.0} for _ in range(random.integers(3))]
  of = lambda make, kind: pa.array([make() for _ in range(rows)], kind)
  entry = pa.struct([("value", pa.string()), ("weight", pa.float32())])
  return pa.table({
    "plain": of(text, pa.string()),
    "large": of(text, pa.large_string()),
    "bytes": of(lambda: b"x%d" % random.integers(3), pa.binary()),
    "unique": pa.array([f"{i}" + "u" * 20 for i in range(rows)]),
    "dictionary": of(text, pa.string()).dictionary_encode(),
    "list": of(many, pa.list_(pa.string())),
    "entries": of(entries, pa.list_(entry)),
    "pair": of(lambda: [text(), text()], pa.list_(pa.string(), 2)),
    "number": pa.array(random.integers(0, 9, rows)),
  })  # fmt: skip


@pytest.mark.parametrize("settings", ({}, {"shuffle": True}, {"on_bad_record": "skip"}), ids=str)
def test_feasigns_of_texts_that_recur(tmp_path, settings):
  """They come without a tensor of texts, and are those of the texts that pyarrow reads."""
  folder = tmp_path / "dt=2026-01-01"
  folder.mkdir()
  path = folder / "a.parquet"
  random = np.random.default_rng(3)
  tables = [recurring_table(random, rows) for rows in (200, 64, 40, 40)]
  with pq.ParquetWriter(path, tables[0].schema) as writer:
    for table in tables:
      writer.write_table(table)
  slots = [*tables[0].column_names[:-1], "dt"]
  paddings = {"plain": "", "list": "aé", "pair": "b"}

  def parse(columns):
    texts = {slot: columns[slot] for slot in slots}
    texts["entries"] = texts["entries"]["value"]
    x = {slot: tfps.feasign(slot, one, paddings.get(slot)) for slot, one in texts.items()}
    return x | {"number": columns["number"]}, tf.ones([tf.shape(columns["number"])[0], 1])

  cutting = dict(format="parquet", batch_size=8, batches_per_ticket=10)
  made = tfps.data.source(str(path), parse, **cutting, **settings)
  values = read_in_a_graph(made)
  rows = pq.read_table(path, partitioning=None).to_pylist()
  expected = [
    {
      slot: known(slot, "2026-01-01" if slot == "dt" else row[slot], paddings.get(slot))
      for slot in slots
    }
    for row in rows
  ]
  found = [dict(zip(values, row)) for row in zip(*values.values())]
  numbers = [row.pop("number") for row in found]
  if settings.get("shuffle"):
    key = lambda row: [str(row[slot]) for slot in slots]
    found, expected = sorted(found, key=key), sorted(expected, key=key)
  else:
    assert numbers == [row["number"] for row in rows]
  assert found == expected


def known(slot, value, padding):
  """The feasigns of a text, or of those of a list, made of tensors of these."""
  if isinstance(value, list):
    texts = [one["value"] if isinstance(one, dict) else one for one in value]
    missing = slot in ("pair", "entries")
    texts = [text or "" for text in texts if missing or text is not None]
    return tfps.feasign(slot, np.array(texts, object), padding).numpy().tolist() if texts else []
  if value is None:
    return [] if slot == "list" else known(slot, "", padding)
  return int(tfps.feasign(slot, value, padding))


def read_in_a_graph(made):
  """{name: all values}, read by a function that makes all feasigns without tensors of texts."""

  @tf.function(input_signature=list(ticket_lib.TICKET_SPEC))
  def read(*fields):
    return made._chosen(ticket_lib.Ticket(*fields)).values[0]

  found = {}
  for ticket in made.tickets():
    for name, value in read(*ticket_lib.as_tensors(ticket)).items():
      value = value.to_list() if isinstance(value, tf.RaggedTensor) else value.numpy().tolist()
      found.setdefault(name, []).extend(value)
  graph = read.get_concrete_function().graph.as_graph_def()
  ops = [node.op for node in graph.node]
  ops += [node.op for function in graph.library.function for node in function.node_def]
  assert "TfpsFeasigns" in ops and "Fingerprint" not in ops
  return found
