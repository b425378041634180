"""Snapshots of tables of Apache Iceberg as calendars."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfps.data.columns import partitions
from tfps.data.partitions import (
  PartitionFile,
  Where,
  calendar_of_partitions,
  chosen,
  fits,
  keys_of,
)

# Types that a column may have had before: what is read of such a file is the same.
_WIDENED = ({"int", "long"}, {"float", "double"})


def iceberg(
  table: Any,
  day: str | Sequence[str],
  *,
  snapshot: int | None = None,
  first: str | None = None,
  last: str | None = None,
  where: Where | None = None,
  properties: Mapping[str, str] | None = None,
) -> dict[str, list[str]]:
  """Makes the calendar of a snapshot of a table of Apache Iceberg that is partitioned by day.

  Give it to `tfps.data.source` as `files`, with format="parquet". It needs pyiceberg (`pip install
  'tfps[iceberg]'`) on the chief alone.

  Args:
    table: a table of pyiceberg's, as `load_catalog(...).load_table(...)` returns it, or the address
      of its metadata, a `.metadata.json`, or of a folder with `metadata/version-hint.text`.
    day: the field of its partition spec whose values are the days, such as "dt", or "time_day" of
      `day(time)`; or several.
    snapshot: its id; the current one by default.
    first: as of `tfps.data.partitions`.
    last: likewise.
    where: likewise, by fields of the partition spec.
    properties: pyiceberg's, such as keys of a cloud's storage, where `table` is an address.

  Returns:
    {day: paths of its files}, in the days' order.

  Raises:
    FileNotFoundError: no file is left.
    ValueError: pyiceberg is not installed, there is no such field or snapshot, or the files alone
      do not show what is in the table: it has delete files, columns that were renamed, replaced or
      given a default, partition columns that are not in the files, or files that are not Parquet.

  Examples:
    >>> files = tfps.data.iceberg("tables/clicks", "dt")  # doctest: +SKIP
    >>> train = tfps.data.source(files, parse, format="parquet")  # doctest: +SKIP
  """
  try:
    from pyiceberg.table import StaticTable
  except ImportError as error:
    raise ValueError(
      "tfps.data.iceberg needs pyiceberg, which is not installed: run `pip install "
      "'tfps[iceberg]'`."
    ) from error
  keys, wanted = keys_of(day), chosen(where)
  if isinstance(table, (str, os.PathLike)):
    table = StaticTable.from_metadata(os.fspath(table), dict(properties or {}))
  name = table.location()
  known = {field.name for spec in table.specs().values() for field in spec.fields}
  for key in (*keys, *wanted):
    if key not in known:
      raise ValueError(
        f"{name} is not partitioned by '{key}': its partition fields are "
        f"{', '.join(sorted(known)) or 'none'}; correct day or where."
      )
  if snapshot is not None and table.snapshot_by_id(snapshot) is None:
    raise ValueError(f"{name} has no snapshot {snapshot}: it may have expired; name another.")
  _check_columns(table, name)
  files, tasks = [], {}
  for task in table.scan(snapshot_id=snapshot).plan_files():
    folders = dict(_folders(table, task.file))
    if fits(folders, wanted):
      files.append(PartitionFile(folders, _path(task.file)))
      tasks[_path(task.file)] = task
  calendar = calendar_of_partitions(files, keys, first, last)
  if not calendar:
    of = "its current snapshot" if snapshot is None else f"snapshot {snapshot}"
    raise FileNotFoundError(
      f"{name} has no file in {of} that fits; check day, where, first and last."
    )
  for path in (path for paths in calendar.values() for path in paths):
    _check_file(table, tasks[path], name)
  return calendar


def _path(file: Any) -> str:
  return file.file_path.removeprefix("file://")


def _folders(table: Any, file: Any) -> Iterator[tuple[str, str]]:
  """(partition field, value as in a folder's name) of a data file."""
  spec, schema = table.specs()[file.spec_id], table.schema()
  types = {field.field_id: field.field_type for field in spec.partition_type(schema).fields}
  for i, field in enumerate(spec.fields):
    value = file.partition[i]
    if value is not None:
      yield field.name, field.transform.to_human_string(types[field.field_id], value)
    elif str(field.transform) != "void":
      yield field.name, partitions.NULL


def _check_columns(table: Any, name: str) -> None:
  """Refuses columns whose names in files may be other ones."""
  names: dict[int, set[str]] = {}
  ids: dict[str, set[int]] = {}
  types: dict[int, set[str]] = {}
  for schema in table.schemas().values():
    for number in schema.field_ids:
      column, field = schema.find_column_name(number), schema.find_field(number)
      names.setdefault(number, set()).add(column)
      ids.setdefault(column, set()).add(number)
      if not field.field_type.is_primitive:
        continue
      types.setdefault(number, set()).add(str(field.field_type))
      if getattr(field, "initial_default", None) is not None:
        raise ValueError(f"{name} has a default for the column '{column}': write it anew.")
  for number, of_column in names.items():
    if len(of_column) > 1:
      raise ValueError(
        f"{name} had a column renamed ({', '.join(sorted(of_column))}), so that its name differs "
        "from file to file: write the table anew."
      )
    kinds = {"decimal" if kind.startswith("decimal") else kind for kind in types.get(number, ())}
    if len(kinds) > 1 and not any(kinds <= widened for widened in _WIDENED):
      raise ValueError(
        f"{name} has changed the type of its column '{min(of_column)}' "
        f"({', '.join(sorted(kinds))}): write the table anew."
      )
  for column, numbers in ids.items():
    if len(numbers) > 1:
      raise ValueError(
        f"{name} has had several columns '{column}', of which older files have another: write the "
        "table anew."
      )
  mapping = table.name_mapping()
  for field in mapping.root if mapping else ():
    _check_mapping(field, "", names, name)


def _check_mapping(field: Any, within: str, names: Mapping[int, set[str]], table: str) -> None:
  for one in field.names:
    if names.get(field.field_id, {within + one}) != {within + one}:
      raise ValueError(
        f"{table} has a name mapping in which '{within + one}' stands for another column: write it "
        "anew."
      )
    for inner in field.fields:
      _check_mapping(inner, f"{within}{one}.", names, table)


def _check_file(table: Any, task: Any, name: str) -> None:
  """Refuses a data file whose rows or columns are not all those of the table."""
  path = _path(task.file)
  if task.delete_files:
    raise ValueError(
      f"{name} has delete files (merge-on-read), which say that rows of {path} are gone: compact "
      "it, for example with Spark's rewrite_data_files."
    )
  if task.file.file_format.name != "PARQUET":
    raise ValueError(f"{path} is not Parquet but {task.file.file_format.name}: write it anew.")
  of_path = partitions.values_of(path)
  missing = {
    column: of_path.get(column)
    for field in table.specs()[task.file.spec_id].fields
    if str(field.transform) == "identity"
    for column in [table.schema().find_column_name(field.source_id)]
    if column is not None and of_path.get(column) is None
  }
  if missing:
    from tfps.data.columns import reader

    there = reader.opened(path).kinds
    for column in missing:
      if column not in there:
        raise ValueError(
          f"{path} has neither a column nor a folder for the partition's '{column}': write it anew."
        )
