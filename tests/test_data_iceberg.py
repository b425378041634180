"""Snapshots of Apache Iceberg tables as sources."""

import itertools
import json

import pyarrow as pa
import pytest
import tensorflow as tf

import tfps

pytest.importorskip("pyiceberg")
pytest.importorskip("sqlalchemy")  # Of pyiceberg's catalog in memory.

from pyiceberg import manifest, schema, types
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.transforms import DayTransform, IdentityTransform
from pyiceberg.typedef import Record

FIELDS = {"dt": types.StringType(), "hour": types.LongType(), "n": types.LongType()}


def parse(columns):
  return {"n": columns["n"], "hour": columns["hour"]}, tf.ones([tf.size(columns["n"]), 1])


def read(calendar):
  """{day: its (number, hour)s, sorted}."""
  source = tfps.data.source(calendar, parse, format="parquet")
  return {
    day.name: sorted(
      row
      for ticket in source.tickets(day)
      for x, _ in source.open(ticket)
      for row in zip(x["n"].numpy().tolist(), x["hour"].numpy().tolist())
    )
    for day in source.days()
  }


def make(folder, partitioned=("dt", "hour"), fields=FIELDS, transform=IdentityTransform, **more):
  (folder / "warehouse").mkdir()
  catalog = InMemoryCatalog("catalog", warehouse=str(folder / "warehouse"))
  catalog.create_namespace("logs")
  columns = [types.NestedField(i, name, kind) for i, (name, kind) in enumerate(fields.items(), 1)]
  numbers = {name: i for i, name in enumerate(fields, 1)}
  spec = PartitionSpec(*(
    PartitionField(numbers[name], 1000 + i, transform(), more.get("name", name))
    for i, name in enumerate(partitioned)
  ))  # fmt: skip
  return catalog.create_table("logs.clicks", schema.Schema(*columns), partition_spec=spec)


def rows(days, hours, numbers):
  return pa.table({"dt": days, "hour": hours, "n": numbers})


def test_snapshots_are_what_pyiceberg_reads(tmp_path):
  table = make(tmp_path)
  table.append(rows(["2026-01-01", "2026-01-02", "2026-01-02"], [3, 3, 12], [1, 2, 3]))
  older = table.current_snapshot().snapshot_id
  table.overwrite(rows(["2026-01-02"], [3], [9]), "dt = '2026-01-02'")
  old = {"2026-01-01": [(1, 3)], "2026-01-02": [(2, 3), (3, 12)]}
  new = {"2026-01-01": [(1, 3)], "2026-01-02": [(9, 3)]}
  for snapshot, expected in ((older, old), (None, new)):
    assert read(tfps.data.iceberg(table, "dt", snapshot=snapshot)) == expected
    found = table.scan(snapshot_id=snapshot).to_arrow().to_pylist()
    assert sorted((row["n"], row["hour"]) for row in found) == sorted(
      itertools.chain(*expected.values())
    )
  assert read(tfps.data.iceberg(table.metadata_location, "dt")) == new
  assert read(tfps.data.iceberg(table, "dt", first="2026-01-02")) == {"2026-01-02": [(9, 3)]}
  twelve = tfps.data.iceberg(table, "dt", snapshot=older, where={"hour": "12"})
  assert read(twelve) == {"2026-01-02": [(3, 12)]}
  assert list(tfps.data.iceberg(table, ["dt", "hour"])) == ["2026-01-01 3", "2026-01-02 3"]
  with pytest.raises(FileNotFoundError, match="no file in its current snapshot that fits"):
    tfps.data.iceberg(table, "dt", first="2027")
  for arguments, message in (
    (dict(day="day"), "is not partitioned by 'day': its partition fields are dt, hour"),
    (dict(day="dt", where={"houR": "3"}), "is not partitioned by 'houR'"),
    (dict(day="dt", snapshot=1), "has no snapshot 1"),
  ):
    with pytest.raises(ValueError, match=message):
      tfps.data.iceberg(table, **arguments)


def test_days_of_a_timestamp(tmp_path):
  pytest.importorskip("pyiceberg_core")  # pyiceberg writes such partitions with it.
  fields = {"time": types.TimestampType(), "hour": types.LongType(), "n": types.LongType()}
  table = make(tmp_path, ["time"], fields, DayTransform, name="time_day")
  times = pa.array([0, 86_400_000_000 - 1, 86_400_000_000], pa.timestamp("us"))
  table.append(pa.table({"time": times, "hour": [0, 23, 0], "n": [1, 2, 3]}))
  assert read(tfps.data.iceberg(table, "time_day")) == {
    "1970-01-01": [(1, 0), (2, 23)], "1970-01-02": [(3, 0)]
  }  # fmt: skip


def test_files_that_were_added_as_they_are(tmp_path):
  table = make(tmp_path)
  path = str(tmp_path / "a.parquet")
  pa.parquet.write_table(rows(["2026-01-01"], [3], [1]), path)
  table.add_files([path])
  assert table.name_mapping() is not None
  assert tfps.data.iceberg(table, "dt") == {"2026-01-01": [path]}
  names = '[{"field-id": 1, "names": ["dt"]}, {"field-id": 3, "names": ["n", "number"]}]'
  with table.transaction() as transaction:
    transaction.set_properties({"schema.name-mapping.default": names})
  with pytest.raises(ValueError, match="name mapping in which 'number' stands for another column"):
    tfps.data.iceberg(table, "dt")


def test_columns_that_files_name_otherwise_are_refused(tmp_path):
  table = make(tmp_path)
  table.append(rows(["2026-01-01"], [3], [1]))
  with table.update_schema() as update:
    update.add_column("more", types.LongType())
  assert read(tfps.data.iceberg(table, "dt")) == {"2026-01-01": [(1, 3)]}
  with table.update_schema() as update:
    update.rename_column("more", "most")
  with pytest.raises(ValueError, match=r"had a column renamed \(more, most\)"):
    tfps.data.iceberg(table, "dt")


def test_a_column_of_an_earlier_ones_name_is_refused(tmp_path):
  table = make(tmp_path)
  table.append(rows(["2026-01-01"], [3], [1]))
  with table.update_schema() as update:
    update.delete_column("n")
  with table.update_schema() as update:
    update.add_column("n", types.LongType())
  with pytest.raises(ValueError, match="has had several columns 'n'"):
    tfps.data.iceberg(table, "dt")


def test_rows_that_a_delete_file_takes_away_are_refused(tmp_path):
  table = make(tmp_path)
  table.append(rows(["2026-01-01", "2026-01-01"], [3, 3], [1, 2]))
  address = with_delete_file(table, tmp_path)
  with pytest.raises(ValueError, match=r"has delete files \(merge-on-read\)"):
    tfps.data.iceberg(address, "dt")
  with pytest.raises(FileNotFoundError, match="no file in its current snapshot"):
    tfps.data.iceberg(address, "dt", first="2026-01-02")


def test_a_partitions_column_that_files_lack_is_refused(tmp_path):
  """As of files of Hive's, which were added as they are; their folders say it, or nothing does."""
  table = make(tmp_path)
  table.append(rows(["2026-01-02"], [3], [9]))
  folder = tmp_path / "dt=2026-01-01" / "hour=3"
  folder.mkdir(parents=True)
  path = str(folder / "a.parquet")
  pa.parquet.write_table(pa.table({"n": [1]}), path)
  address = with_file(table, tmp_path, path)
  assert tfps.data.iceberg(address, "dt", last="2026-01-01") == {"2026-01-01": [path]}
  (tmp_path / "b.parquet").write_bytes((folder / "a.parquet").read_bytes())
  address = with_file(table, tmp_path, str(tmp_path / "b.parquet"))
  with pytest.raises(ValueError, match="neither a column nor a folder for the partition's 'dt'"):
    tfps.data.iceberg(address, "dt")


class DeleteManifest(manifest.ManifestWriterV2):
  def content(self):
    return manifest.ManifestContent.DELETES


def with_delete_file(table, folder):
  """The table's metadata, written again with a file of deleted positions."""
  (task,) = table.scan().plan_files()
  positions = str(folder / "positions.parquet")
  pa.parquet.write_table(pa.table({"file_path": [task.file.file_path], "pos": [0]}), positions)
  content = manifest.DataFileContent.POSITION_DELETES
  return with_file(table, folder, positions, content, DeleteManifest)


def with_file(
  table, folder, path, content=manifest.DataFileContent.DATA, writer=manifest.ManifestWriterV2
):
  """The address of metadata of the table with one file more, of dt=2026-01-01/hour=3."""
  snapshot = table.current_snapshot()
  number = snapshot.snapshot_id
  file = manifest.DataFile.from_args(
    content=content, file_path=path, file_format="PARQUET", partition=Record("2026-01-01", 3),
    record_count=1, file_size_in_bytes=1,
  )  # fmt: skip
  file.spec_id = 0
  output = table.io.new_output(str(folder / f"{len(path)}.avro"))
  with writer(table.spec(), table.schema(), output, number, "null") as made:
    made.add_entry(manifest.ManifestEntry.from_args(
      status=manifest.ManifestEntryStatus.ADDED, snapshot_id=number, sequence_number=1,
      file_sequence_number=1, data_file=file,
    ))  # fmt: skip
  output = table.io.new_output(str(folder / f"{len(path)}-list.avro"))
  with manifest.write_manifest_list(2, output, number, None, 1, "null") as lists:
    lists.add_manifests([*snapshot.manifests(table.io), made.to_manifest_file()])
  metadata = json.loads(table.metadata.model_dump_json())
  metadata["snapshots"][-1]["manifest-list"] = str(folder / f"{len(path)}-list.avro")
  (folder / "a.metadata.json").write_text(json.dumps(metadata))
  return str(folder / "a.metadata.json")
