"""Snapshots of Delta Lake tables as sources."""

import pyarrow as pa
import pytest
import tensorflow as tf

import tfps

deltalake = pytest.importorskip("deltalake")


def parse(columns):
  return {"n": columns["n"]}, tf.ones([tf.size(columns["n"]), 1])


def read(calendar):
  """{day: its numbers, sorted}."""
  source = tfps.data.source(calendar, parse, format="parquet")
  return {
    day.name: sorted(
      int(n) for ticket in source.tickets(day) for x, _ in source.open(ticket) for n in x["n"]
    )
    for day in source.days()
  }


def test_versions_are_what_deltalake_reads(tmp_path):
  path = str(tmp_path / "table")
  days = ["2026-01-01", "2026-01-02", "2026-01-02"]
  clicks = pa.table({"dt": days, "hour": ["3", "3", "12"], "n": [1, 2, 3]})
  deltalake.write_deltalake(path, clicks, partition_by=["dt", "hour"])
  more = pa.table({"dt": ["2026-01-02"], "hour": ["3"], "n": [9]})
  deltalake.write_deltalake(path, more, mode="overwrite", predicate="dt = '2026-01-02'")
  assert read(tfps.data.delta(path, "dt", version=0)) == {"2026-01-01": [1], "2026-01-02": [2, 3]}
  assert read(tfps.data.delta(path, "dt")) == {"2026-01-01": [1], "2026-01-02": [9]}
  assert read(tfps.data.delta(path, "dt", first="2026-01-02")) == {"2026-01-02": [9]}
  assert read(tfps.data.delta(path, "dt", version=0, where={"hour": "12"})) == {"2026-01-02": [3]}
  with pytest.raises(FileNotFoundError, match="no file in version 1 that fits"):
    tfps.data.delta(path, "dt", first="2027")
  with pytest.raises(ValueError, match="in no folder named day="):
    tfps.data.delta(path, "day")


def test_what_the_files_alone_do_not_show_is_refused(tmp_path):
  path = str(tmp_path / "table")
  clicks = pa.table({"dt": ["2026-01-01"], "n": [1]})
  settings = {"delta.enableDeletionVectors": "true"}
  deltalake.write_deltalake(path, clicks, partition_by=["dt"], configuration=settings)
  with pytest.raises(ValueError, match="has deletion vectors"):
    tfps.data.delta(path, "dt")
