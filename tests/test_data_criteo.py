"""Criteo's format: buckets, missing fields, bad lines."""

import math
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import tfps.data
from tfps.table.feasigns import feasign

DATA = (
  pathlib.Path(os.environ.get("TFPS_DATA") or pathlib.Path(__file__).parents[2] / "shared" / "data")
  / "criteo"
)


def line(label="0", counts=("",) * 13, categories=("",) * 26):
  return "\t".join((label, *counts, *categories))


def read(path, lines):
  path.write_text("\n".join(lines))
  source = tfps.data.criteo(str(path))
  return next(iter(source.open(next(source.tickets()))))


def bucket(field):
  """The Kaggle winners' rule, in plain Python; 0 and below stand for their own kinds of text."""
  if field == "":
    return 0
  value = int(field)
  return math.floor(math.log(value) ** 2) if value > 2 else value - 3


def test_counts(tmp_path):
  fields = ["", "-3", "-1", "0", "1", "2", "3", "4", "7", "8", "100", "65535", "1000000000000"]
  lines = [line(counts=fields[i:] + fields[:i]) for i in range(13)]
  x, _ = read(tmp_path / "a", lines)
  expected = np.array([[bucket(field) for field in fields[i:] + fields[:i]] for i in range(13)])
  assert len(np.unique(expected)) == 12  # 3 and 4 share a bucket
  for column in range(13):
    slot = f"I{column + 1}"
    assert x[slot].numpy().tolist() == feasign(slot, expected[:, column]).numpy().tolist()


def test_dense_features_are_logarithms_of_counts(tmp_path):
  fields = ["", "-3", "0", "1", "100"]
  (tmp_path / "a").write_text("\n".join(line(counts=(field, "7") + ("",) * 11) for field in fields))
  source = tfps.data.criteo(str(tmp_path / "a"), dense="counts")
  x, _ = next(iter(source.open(next(source.tickets()))))
  assert x["counts"].shape == (5, 13) and len(x) == 40
  expected = np.zeros([5, 13])
  expected[:, 0] = [0, 0, 0, math.log(2), math.log(101)]
  expected[:, 1] = math.log(8)
  np.testing.assert_allclose(x["counts"], expected, rtol=1e-6)
  raw = source.raw_inputs
  sample = {name: tf.constant(value) for name, value in raw.sample(0, 5).items()}
  np.testing.assert_array_equal(raw.features(sample)["counts"], x["counts"])
  with pytest.raises(ValueError, match="dense is 'C3', which is a slot"):
    tfps.data.criteo(str(tmp_path / "a"), dense="C3")


def test_categories_labels_and_slots(tmp_path):
  categories = [f"{i:08x}" for i in range(26)]
  x, y = read(tmp_path / "a", [line("1", categories=categories), line("0"), line("1")])
  assert list(x) == [f"I{i}" for i in range(1, 14)] + [f"C{i}" for i in range(1, 27)]
  assert y.dtype == tf.float32 and y.numpy().tolist() == [[1.0], [0.0], [1.0]]
  for i, category in enumerate(categories):
    slot = f"C{i + 1}"
    assert x[slot].numpy().tolist() == feasign(slot, [category, "", ""]).numpy().tolist()
  # A missing field is a value of its own in each slot, and never the padding key.
  missing = [int(x[slot][1]) for slot in x]
  assert len(set(missing)) == 39 and 0 not in missing


@pytest.mark.parametrize(
  "bad, message",
  [
    (line() + "\tmore", "Expect 40 fields but have 41 in record 1"),
    ("0\t1", "Expect 40 fields but have 2 in record 1"),
    (line(counts=("x",) + ("",) * 12), "Field 1 in record 1 is not a valid int64: x"),
  ],
)
def test_bad_lines(tmp_path, bad, message):
  with pytest.raises(tf.errors.InvalidArgumentError, match=message):
    read(tmp_path / "a", [line(), bad])


if DATA.is_dir():

  def test_published_rows():
    source = tfps.data.criteo([str(DATA / name) for name in ("train.tsv", "dev.tsv", "test.tsv")])
    assert source.records == 8000
    clicks = rows = 0
    for ticket in source.tickets():
      for x, y in source.open(ticket):
        assert {value.shape for value in x.values()} == {(len(y),)}
        clicks, rows = clicks + float(tf.reduce_sum(y)), rows + len(y)
    expected = sum(
      line.startswith(b"1\t")
      for name in ("train.tsv", "dev.tsv", "test.tsv")
      for line in (DATA / name).open("rb")
    )
    assert (rows, clicks) == (8000, expected)
