"""Folders of partitions as calendars."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import tfps


@pytest.fixture(name="folder")
def _folder(tmp_path):
  """Three days of two hours and two countries, and what is no partition."""
  for day in ("2026-01-01", "2026-01-02", "2026-01-10"):
    for hour in (3, 12):
      for country in ("de", "a=t"):
        inner = tmp_path / f"dt={day}" / f"hour={hour}" / f"country={country.replace('=', '%3D')}"
        inner.mkdir(parents=True)
        for part in range(2):
          table = pa.table({"n": [int(day[-2:]) * 1000 + hour * 10 + part]})
          pq.write_table(table, inner / f"part-{part}.parquet")
        (inner / ".part-9.parquet.crc").write_text("x")
    if day != "2026-01-10":
      (tmp_path / f"dt={day}" / "_SUCCESS").touch()
  (tmp_path / "_temporary" / "dt=2026-01-09").mkdir(parents=True)
  (tmp_path / "other").mkdir()
  return tmp_path


def numbers(calendar):
  """{day: the numbers in its files, in their order}."""
  return {
    day: [int(pq.read_table(path, partitioning=None)["n"][0].as_py()) for path in paths]
    for day, paths in calendar.items()
  }


def test_days_hours_and_files_are_in_their_order(folder):
  calendar = tfps.data.partitions(folder, "dt")
  assert list(calendar) == ["2026-01-01", "2026-01-02", "2026-01-10"]
  assert numbers(calendar)["2026-01-02"] == [2030, 2031, 2030, 2031, 2120, 2121, 2120, 2121]
  by_hour = tfps.data.partitions(folder, ("dt", "hour"), where={"country": "de"})
  assert list(by_hour)[:3] == ["2026-01-01 3", "2026-01-01 12", "2026-01-02 3"]
  assert numbers(by_hour)["2026-01-10 12"] == [10120, 10121]
  hours = tfps.data.partitions(folder, "hour", first="4")
  assert list(hours) == ["12"] and len(hours["12"]) == 12


def test_filters_are_those_of_arrows_own_dataset(folder):
  dataset = pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive")
  field = pyarrow.dataset.field
  for where, expression in (
    ({"country": "de"}, field("country") == "de"),
    ({"country": ["a=t"], "hour": lambda hour: int(hour) > 5},
     (field("country") == "a=t") & (field("hour") > 5)),
  ):  # fmt: skip
    calendar = tfps.data.partitions(folder, "dt", where=where, last="2026-01-02")
    expected = dataset.filter(expression & (field("dt") <= "2026-01-02"))
    found = sorted(itertools.chain(*numbers(calendar).values()))
    assert found and found == sorted(expected.to_table()["n"].to_pylist())


def test_only_complete_folders(folder):
  complete = lambda: list(tfps.data.partitions(folder, "dt", marker="_SUCCESS"))
  assert complete() == ["2026-01-01", "2026-01-02"]
  (folder / "dt=2026-01-10" / "hour=3" / "_SUCCESS").touch()
  assert complete() == ["2026-01-01", "2026-01-02", "2026-01-10"]
  calendar = tfps.data.partitions(folder, "dt", marker="_SUCCESS")
  assert set(numbers(calendar)["2026-01-10"]) == {10030, 10031}


def test_what_does_not_fit_is_refused(folder):
  for settings, error, message in (
    (dict(day="hour", where={"dt": "2027"}), FileNotFoundError, "named hour=... that fits"),
    (dict(day="dt", marker="_DONE"), FileNotFoundError, "complete, with a _DONE"),
    (dict(day="date"), ValueError, "in no folder named date=..."),
    (dict(day=()), ValueError, "day is empty"),
  ):
    with pytest.raises(error, match=message):
      tfps.data.partitions(folder, **settings)
  with pytest.raises(FileNotFoundError):
    tfps.data.partitions(folder / "nothing", "dt")


def test_a_source_of_them(folder):
  files = tfps.data.partitions(folder, "dt", pattern="part-*")

  def parse(columns):
    x = {name: columns[name] for name in ("n", "hour", "country")}
    return x, tf.ones([tf.size(columns["n"]), 1])

  source = tfps.data.source(files, parse, format="parquet")
  assert [(day.name, day.records) for day in source.days()] == [(day, 8) for day in files]
  batches = [x for ticket in source.tickets("2026-01-02") for x, _ in source.open(ticket)]
  hours = np.concatenate([x["hour"] for x in batches])
  assert hours.tolist() == [b"3"] * 4 + [b"12"] * 4
  assert {country for x in batches for country in x["country"].numpy()} == {b"a=t", b"de"}


def test_tensorflows_and_fsspecs_file_systems(folder):
  expected = list(numbers(tfps.data.partitions(folder, "dt")).values())
  roots = ["ram://partitions"]
  try:
    import fsspec

    roots.append("memory://partitions")
  except ImportError:
    fsspec = None
  for root in roots:
    for path in sorted(folder.rglob("*.parquet")):
      target = f"{root}/{path.relative_to(folder)}"
      if root.startswith("ram"):
        tf.io.gfile.makedirs(target.rpartition("/")[0])
        tf.io.gfile.copy(str(path), target, overwrite=True)
      else:
        with fsspec.open(target, "wb") as file:
          file.write(path.read_bytes())
    calendar = tfps.data.partitions(root, "dt")
    source = tfps.data.source(
      calendar,
      lambda columns: (columns["n"], tf.ones([tf.size(columns["n"]), 1])),
      format="parquet",
    )
    found = [
      [int(n) for ticket in source.tickets(day) for x, _ in source.open(ticket) for n in x]
      for day in source.days()
    ]
    assert found == expected
