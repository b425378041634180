"""Samples as bytes: TensorFlow reads what the join's own encoder writes."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfps.join import example, samples

VALUES = {
  "text": (pa.string(), st.text(max_size=200)),
  "bytes": (pa.binary(), st.binary(max_size=200)),
  "int": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
  "float": (pa.float32(), st.floats(width=32, allow_nan=False)),
}


@st.composite
def columns(draw):
  rows = draw(st.integers(0, 20))
  made = {}
  for name in draw(
    st.lists(st.sampled_from([*VALUES, *(f"{kind}s" for kind in VALUES)]), unique=True)
  ):
    kind, values = VALUES.get(name) or VALUES[name[:-1]]
    if name not in VALUES:
      kind, values = pa.list_(kind), st.lists(values, max_size=5)
    made[name] = pa.array(draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), kind)
  return rows, made


@settings(max_examples=100, deadline=None)
@given(columns())
def test_tensorflow_reads_the_same_values(drawn):
  rows, slots = drawn
  pieces = [piece for name, column in slots.items() for piece in example.entries(name, column)]
  made = example.examples(pieces, rows).to_pylist()
  assert len(made) == rows
  for i, record in enumerate(made):
    read = tf.train.Example.FromString(record).features.feature
    expected = {name: as_list(column[i].as_py()) for name, column in slots.items()}
    assert {name: values(feature) for name, feature in read.items()} == {
      name: listed for name, listed in expected.items() if listed
    }
    # It is what protocol buffers write themselves, but for the order of the map.
    whole = tf.train.Example.FromString(record)
    assert len(whole.SerializeToString()) == len(record)


def as_list(value):
  if value is None:
    return []
  listed = value if isinstance(value, list) else [value]
  return [one.encode() if isinstance(one, str) else one for one in listed]


def values(feature):
  kind = feature.WhichOneof("kind")
  return list(getattr(feature, kind).value)


def test_lists_with_nulls_and_slices_of_columns():
  column = pa.array([["x"], ["a", None, "b"], None, [], ["c"]]).slice(1)
  made = example.examples(example.entries("tags", column), 4).to_pylist()
  read = [tf.train.Example.FromString(record).features.feature for record in made]
  assert [values(one["tags"]) if "tags" in one else [] for one in read] == [
    [b"a", b"b"],
    [],
    [],
    [b"c"],
  ]


def test_unsigned_integers_keep_their_bits_and_other_types_are_refused():
  made = example.examples(example.entries("id", pa.array([2**64 - 1], pa.uint64())), 1)
  assert values(tf.train.Example.FromString(made[0].as_py()).features.feature["id"]) == [-1]
  with pytest.raises(TypeError, match="'when' has values of type timestamp"):
    example.entries("when", pa.array([0], pa.timestamp("ms")))


def test_records_and_files(tmp_path):
  rows = 70_000
  ids = pa.array([f"r{i}" for i in range(rows)])
  tags = pa.array([["x" * (i % 300)] * (i % 3) for i in range(rows)])
  entries = samples.shown(ids, ids, pa.array(np.arange(rows)), {"tags": tags})
  click = np.arange(rows) % 2
  made = samples.records(
    entries,
    np.arange(rows) + 5,
    np.ones(rows),
    click,
    np.ones(rows),
    {"click": click},
    {"click": click},
  )
  folder = samples.SampleFolder(tmp_path / "samples")
  folder.stage(0, [made.slice(0, 500), made.slice(500)])
  folder.stage(1, [made.slice(0, 10)])
  assert folder.newest() == -1
  folder.publish(below=1)
  assert [path.name for path in folder.folder.iterdir()] == ["samples-000000000000.tfrecord"]
  assert folder.newest() == 0
  spec = {
    "request_id": tf.io.FixedLenFeature([], tf.string),
    "time": tf.io.FixedLenFeature([], tf.int64),
    "label_time": tf.io.FixedLenFeature([], tf.int64),
    "tags": tf.io.RaggedFeature(tf.string),
    **{
      name: tf.io.FixedLenFeature([], tf.float32)
      for name in ("show", "click", "weight", "label/click", "weight/click")
    },
  }
  dataset = tf.data.TFRecordDataset(str(folder.path(0))).batch(rows)
  read = tf.io.parse_example(next(iter(dataset)), spec)
  assert read["request_id"].numpy().tolist() == [f"r{i}".encode() for i in range(rows)]
  assert read["tags"].to_list()[301] == [b"x"] and read["tags"].row_lengths().numpy()[302] == 2
  np.testing.assert_array_equal(read["label_time"], np.arange(rows) + 5)
  np.testing.assert_array_equal(read["label/click"], click)
  np.testing.assert_array_equal(read["show"], np.ones(rows))
