"""A log as files that keep arriving in a folder."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet

from tfps.errors import ConfigError
from tfps.join.records import BadRecord, Decoder

_SETTLED_SECONDS = 10.0  # after which a file is taken for complete
_UNFINISHED = (".tmp", ".inprogress", ".crc")


class FolderLog:
  """Reads a folder's files, subfolders too, in the order of their names.

  Files may come later, and JSON files may grow.

  Names that begin with a dot or underscore, or end in .tmp or .inprogress, are not read. A position
  is how many bytes (JSON) or row groups (Parquet) of a file are read.

  Args:
    folder: where the files are.
    format: "json", one object a line, or "parquet".
    positions: {file's path in the folder: position} from which to go on.
    decoder: reads JSON.
    once: take all files for complete as they are.
  """

  def __init__(
    self,
    folder: str,
    format: str,
    positions: Mapping[str, int],
    decoder: Decoder,
    once: bool = False,
  ):
    self._folder = pathlib.Path(folder)
    if not self._folder.is_dir():
      raise ConfigError(f"There is no folder {folder} to read a log from.")
    self._read = {"json": self._read_json, "parquet": self._read_parquet}[format]
    self._positions = dict(positions)
    self._changed: dict[str, int | None] = {}
    self._decoder = decoder
    self._once = once
    self._pending: list[str] = []
    self.behind_bytes = 0

  def poll(self, max_bytes: int) -> tuple[pa.Table, str] | None:
    """The next records, as (table, the file that they are from); None where there are none now."""
    if not self._pending:
      self._pending = self._list()[::-1]
    while self._pending:
      name = self._pending[-1]
      table, position, finished = self._read(
        self._folder / name, self._positions.get(name, 0), max_bytes
      )
      if position != self._positions.get(name):
        self._positions[name] = self._changed[name] = position
      if finished:
        self._pending.pop()
      if table is not None:
        return table, str(self._folder / name)
    return None

  def changed_positions(self) -> dict[str, int | None]:
    """The positions that changed since the last call."""
    changed, self._changed = self._changed, {}
    return changed

  def close(self) -> None:
    pass

  def _list(self) -> list[str]:
    """The files that have more than was read, in order; forgets those that are gone."""
    found = {}
    for folder, folders, names in os.walk(self._folder):
      folders[:] = [name for name in folders if not name.startswith((".", "_"))]
      for name in names:
        if not name.startswith((".", "_")) and not name.endswith(_UNFINISHED):
          path = pathlib.Path(folder, name)
          try:
            found[str(path.relative_to(self._folder))] = path.stat()
          except FileNotFoundError:
            continue  # It was moved away just now.
    for name in set(self._positions) - set(found):
      del self._positions[name]
      self._changed[name] = None
    return sorted(name for name, stat in found.items() if self._has_more(name, stat))

  def _has_more(self, name: str, stat: os.stat_result) -> bool:
    position = self._positions.get(name, 0)
    if self._read == self._read_parquet:
      return position == 0 or position < _row_groups(self._folder / name)
    if stat.st_size < position:
      raise BadRecord(
        f"{self._folder / name} is shorter than what was read of it; files of a log may only grow."
      )
    return stat.st_size > position

  def _settled(self, path: pathlib.Path) -> bool:
    return self._once or time.time() - path.stat().st_mtime > _SETTLED_SECONDS

  def _read_json(
    self, path: pathlib.Path, begin: int, max_bytes: int
  ) -> tuple[pa.Table | None, int, bool]:
    with open(path, "rb") as file:
      file.seek(begin)
      data = file.read(max_bytes)
      end = data.rfind(b"\n") + 1
      while not end and len(data) >= max_bytes:  # a line that is longer
        more = file.read(max_bytes)
        if not more:
          break
        data += more
        end = data.rfind(b"\n") + 1
      finished = begin + len(data) >= os.fstat(file.fileno()).st_size
    if finished and end < len(data) and self._settled(path):
      end = len(data)  # Nobody writes any more: the last line has no end.
    finished = finished or not end
    table = self._decoder.json_lines(data[:end], str(path)) if end else None
    return (table if table is not None and table.num_rows else None), begin + end, finished

  def _read_parquet(
    self, path: pathlib.Path, begin: int, max_bytes: int
  ) -> tuple[pa.Table | None, int, bool]:
    try:
      with pyarrow.parquet.ParquetFile(path) as file:
        groups = file.metadata.num_row_groups
        end, size = begin, 0
        while end < groups and (
          end == begin or size + file.metadata.row_group(end).total_byte_size <= max_bytes
        ):
          size += file.metadata.row_group(end).total_byte_size
          end += 1
        table = file.read_row_groups(list(range(begin, end))) if end > begin else None
    except pa.ArrowInvalid as error:
      if not self._settled(path):
        return None, begin, True  # It is being written; the next look finds it whole.
      raise BadRecord(f"{path} is no whole Parquet file: {str(error).splitlines()[0]}") from error
    _ROW_GROUPS[path] = groups
    return (table if table is not None and table.num_rows else None), end, end >= groups


_ROW_GROUPS: dict[pathlib.Path, int] = {}  # of files that were opened: complete files do not change


def _row_groups(path: pathlib.Path) -> int:
  if path not in _ROW_GROUPS:
    _ROW_GROUPS[path] = pyarrow.parquet.read_metadata(path).num_row_groups
  return _ROW_GROUPS[path]
