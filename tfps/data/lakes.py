"""Snapshots of tables of Delta Lake as calendars."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from tfps.data.columns.partitions import key_of
from tfps.data.partitions import (
  PartitionFile,
  Where,
  calendar_of_partitions,
  chosen,
  fits,
  keys_of,
)


def delta(
  table: str | os.PathLike,
  day: str | Sequence[str],
  *,
  version: int | None = None,
  first: str | None = None,
  last: str | None = None,
  where: Where | None = None,
  storage_options: Mapping[str, str] | None = None,
) -> dict[str, list[str]]:
  """Makes the calendar of a snapshot of a table of Delta Lake that is partitioned by day.

  Give it to `tfps.data.source` as `files`, with format="parquet". It needs deltalake (`pip install
  'tfps[delta]'`) on the chief alone.

  Args:
    table: its folder or address.
    day: as of `tfps.data.partitions`.
    first: likewise.
    last: likewise.
    where: likewise.
    version: of the table; the newest by default.
    storage_options: deltalake's, such as keys of a cloud's storage.

  Returns:
    {day: paths of its files}, in the days' order.

  Raises:
    FileNotFoundError: no file is left.
    ValueError: deltalake is not installed, the files lie in no folders of such keys, or the table
      has deletion vectors or renamed columns, which its files alone do not show.

  Examples:
    >>> files = tfps.data.delta("tables/clicks", "dt", version=7)  # doctest: +SKIP
    >>> train = tfps.data.source(files, parse, format="parquet")  # doctest: +SKIP
  """
  try:
    import deltalake
  except ImportError as error:
    raise ValueError(
      "tfps.data.delta needs deltalake, which is not installed: run `pip install 'tfps[delta]'`."
    ) from error
  keys = keys_of(day)
  options = dict(storage_options) if storage_options else None
  snapshot = deltalake.DeltaTable(os.fspath(table), version=version, storage_options=options)
  for feature, words in (
    ("deletionVectors", "deletion vectors: run its REORG or VACUUM, which write the rows anew"),
    ("columnMapping", "column mapping, so that names in its files are others: write it anew"),
  ):
    if feature in (snapshot.protocol().reader_features or ()):
      raise ValueError(f"{table} has {words}.")
  wanted = chosen(where)
  files = []
  for path in snapshot.file_uris():
    folders = dict(filter(lambda pair: pair[0], map(key_of, path.split("/")[:-1])))
    if fits(folders, wanted):
      files.append(PartitionFile(folders, path))
  calendar = calendar_of_partitions(files, keys, first, last)
  if not calendar:
    raise FileNotFoundError(
      f"{table} has no file in version {snapshot.version()} that fits; check day, where, first and "
      "last."
    )
  return calendar
