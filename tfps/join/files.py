"""A log as files that keep arriving in a folder."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet

from tfps.errors import ConfigError
from tfps.join import tails as tails_lib
from tfps.join.lines import Place, Records
from tfps.join.records import BadRecord, Decoded, Decoder
from tfps.join.schema import SAMPLE_BYTES

_SETTLED_SECONDS = 10.0  # after which a file is taken for complete
_UNFINISHED = (".tmp", ".inprogress", ".crc")
_LISTING_SHARE = 0.05  # of the time that a join takes


class FolderLog:
  """Reads a folder's files, subfolders too: that which is behind in event time first.

  Files may come later, and JSON files may grow.

  Names that begin with a dot or underscore, or end in .tmp or .inprogress, are not read. A position
  is how many bytes (JSON) or row groups (Parquet) of a file are read. A file of which something was
  read may not be replaced by another one of its name.

  Args:
    config: of the join.
    log: "features" or "actions".
    positions: {file's path in the folder: position} from which to go on.
    tails: {file: the checksum of what was read last of it}, where it is known.
    times: {file: the newest time that was read in it} of those that may have more.
    decoder: says the times of records.
    once: take all files for complete as they are.
  """

  def __init__(
    self,
    config: Any,
    log: str,
    positions: Mapping[str, int],
    tails: Mapping[str, int],
    times: Mapping[str, int],
    decoder: Decoder,
    once: bool = False,
  ):
    self._folder = pathlib.Path(config[log].folder)
    if not self._folder.is_dir():
      raise ConfigError(f"There is no folder {self._folder} to read a log from.")
    self._log, self._decoder, self._once = log, decoder, once
    self._is_parquet = config[log].format == "parquet"
    self._read = self._read_parquet if self._is_parquet else self._read_json
    self._idle = config.idle
    self._positions, self._tails = dict(positions), dict(tails)
    self._changed: dict[str, int | None] = {}
    self._changed_tails: dict[str, int | None] = {}
    self.times = dict(times)
    self._begins: dict[str, tuple[int, int | None]] = {}  # the first time after a position
    self._stats: dict[str, os.stat_result] = {}
    self._listed_at, self._listing_took = float("-inf"), 0.0
    self._heard = time.monotonic()
    self._last = ""

  def poll(self, max_bytes: int) -> Records | None:
    """The next records, of one file; None where there are none now."""
    self._list()
    for name in self._unread():
      position = self._positions.get(name, 0)
      try:
        records = self._read_on(name, position, max_bytes)
      except FileNotFoundError:
        self._listed_at = float("-inf")
        self._list()
        continue
      if records is not None:
        self._last, self._heard = name, time.monotonic()
        return records
    return None

  def _read_on(self, name: str, begin: int, max_bytes: int) -> Records | None:
    path = self._folder / name
    with open(path, "rb") as file:
      self._stats[name] = os.fstat(file.fileno())  # It may have grown since it was listed.
      if name in self._tails:
        tails_lib.check(path, file, self._read_to(name), self._tails[name])
      records, end = self._read(path, file, begin, max_bytes)
      if end != begin:
        self._positions[name] = self._changed[name] = end
        self._tails[name] = self._changed_tails[name] = tails_lib.tail(file, self._read_to(name))
    return records

  def came(self, decoded: Decoded) -> None:
    """Takes note of the times of the records that the last `poll` gave."""
    if len(decoded.times):
      newest = int(decoded.times.max())
      self.times[self._last] = max(self.times.get(self._last, newest), newest)

  def first(self) -> tuple[bytes | pa.Schema, str]:
    """The beginning of the file that the last `poll` read, and its name."""
    path = self._folder / self._last
    if self._is_parquet:
      return pyarrow.parquet.read_schema(path), str(path)
    with open(path, "rb") as file:
      data = file.read(SAMPLE_BYTES)
    return data[: data.rfind(b"\n") + 1] or data, str(path)

  def reached(self) -> int | None:
    """The event time to which all of the files are read, None where one has not begun.

    A file counts until it is read to its end and complete: a Parquet file at once, a JSON file when
    it has not changed for some time. Without such a file it is the newest time of all.
    """
    self._list()
    reached: list[int | None] = []
    newest = max(self.times.values(), default=None)
    for name in list(self._stats):
      if self._has_more(name):
        begin = self.times[name] if name in self.times else self._begin(name)
        reached.append(begin)
      elif name in self.times and not self._is_complete(name):
        reached.append(self.times[name])
    if None in reached:
      return None
    known = [each for each in reached if each is not None]
    return min(known) if known else newest

  def forget_complete(self) -> None:
    """Forgets the times of complete files but that of the newest; to be called before a commit."""
    newest = max(self.times, key=lambda name: self.times[name], default=None)
    for name in list(self.times):
      is_there = name in self._stats
      if name != newest and not (
        is_there and (self._has_more(name) or not self._is_complete(name))
      ):
        del self.times[name]

  def is_idle(self) -> bool:
    """Whether nothing came for config.idle seconds, and nothing is there to be read."""
    silent = bool(self._idle) and time.monotonic() - self._heard > self._idle
    return silent and not any(self._has_more(name) for name in self._stats)

  def changed_positions(self) -> dict[str, int | None]:
    """The positions that changed since the last call."""
    changed, self._changed = self._changed, {}
    return changed

  def changed_tails(self) -> dict[str, int | None]:
    """The checksums that changed since the last call."""
    changed, self._changed_tails = self._changed_tails, {}
    return changed

  def close(self) -> None:
    pass

  def _list(self) -> None:
    """Looks which files there are; forgets those that are gone."""
    begin = time.monotonic()
    if begin - self._listed_at < self._listing_took / _LISTING_SHARE:
      return
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
      self._changed[name] = self._changed_tails[name] = None
    for name in (set(self._positions) | set(self._stats)) - set(found):
      self._forget(name)
    before, self._stats = self._stats, dict(sorted(found.items()))
    for name in self._tails:
      if name not in before or _version(before[name]) != _version(found[name]):
        self._check_tail(name)
    for name in set(before) & set(self._begins):
      if _version(before[name]) != _version(found.get(name, before[name])):
        del self._begins[name]
    self._listed_at = time.monotonic()
    self._listing_took = self._listed_at - begin

  def _forget(self, name: str) -> None:
    """Forgets a file that is gone; raises BadRecord if its rest was not read."""
    stat, position = self._stats.pop(name, None), self._positions.pop(name, 0)
    self._tails.pop(name, None)
    end = 0 if stat is None else stat.st_size
    if stat is not None and self._is_parquet:
      end = _ROW_GROUPS.get((self._folder / name, *_version(stat)), 0)
    if 0 < position < end:
      raise BadRecord(
        f"{self._folder / name} went away before the rest of it was read, from "
        f"{'row group' if self._is_parquet else 'byte'} {position:,} of {end:,} on; leave a file "
        "where it is until it was read."
      )
    if position < end:
      print(f"tfps: {self._folder / name} went away before it was read", file=sys.stderr)

  def _check_tail(self, name: str) -> None:
    """Raises BadRecord if a file is another one than that of which something was read."""
    path = self._folder / name
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
      if os.fstat(file.fileno()).st_size >= self._positions[name]:  # `_has_more` refuses it.
        tails_lib.check(path, file, self._read_to(name), self._tails[name])

  def _read_to(self, name: str) -> int:
    """Where what was read of a file ends; of a Parquet file that is its footer's end."""
    return self._stats[name].st_size if self._is_parquet else self._positions[name]

  def _unread(self) -> list[str]:
    """The files that have more than was read, that which is behind first."""

    def order(name: str) -> tuple[float, str]:
      at = self.times[name] if name in self.times else self._begin(name)
      return (float("-inf") if at is None else at), name

    names = [name for name in self._stats if self._has_more(name)]
    return names if len(names) < 2 else sorted(names, key=order)

  def _has_more(self, name: str) -> bool:
    position, size = self._positions.get(name, 0), self._stats[name].st_size
    if self._is_parquet:
      stat = self._stats[name]
      groups = _row_groups(self._folder / name, stat, self._settled(stat))
      return groups is None or position < groups
    if size < position:
      raise BadRecord(
        f"{self._folder / name} is shorter than what was read of it; files of a log may only grow."
      )
    return size > position

  def _is_complete(self, name: str) -> bool:
    """Whether a file that is read to its end will not grow."""
    return self._is_parquet or self._settled(self._stats[name], self._idle)

  def _begin(self, name: str) -> int | None:
    """The time of the first record that is not read, None where it cannot be told."""
    position = self._positions.get(name, 0)
    at, begin = self._begins.get(name, (-1, None))
    if at != position or begin is None:
      try:
        begin = self._first_time(self._folder / name, position)
      except FileNotFoundError:
        return None
      self._begins[name] = position, begin
    return begin

  def _first_time(self, path: pathlib.Path, position: int) -> int | None:
    records: Records | None
    stat = path.stat()
    if self._is_parquet:
      whole = _row_groups(path, stat, self._settled(stat)) is not None
      records = _first_rows(path, position) if whole else None
    else:
      with open(path, "rb") as file:
        records, _ = self._read_json(path, file, position, 1 << 16)
    return None if records is None else self._decoder.first_time(self._log, records)

  def _settled(self, stat: os.stat_result, seconds: float = 0.0) -> bool:
    return self._once or time.time() - stat.st_mtime > (seconds or _SETTLED_SECONDS)

  def _read_json(
    self, path: pathlib.Path, file: BinaryIO, begin: int, max_bytes: int
  ) -> tuple[Records | None, int]:
    if not begin:
      file.seek(0)
      tails_lib.check_lines(path, self._log, file.read(4))
    file.seek(begin)
    data = file.read(max_bytes)
    end = data.rfind(b"\n") + 1
    while not end and len(data) >= max_bytes:  # a line that is longer
      more = file.read(max_bytes)
      if not more:
        break
      data += more
      end = data.rfind(b"\n") + 1
    stat = os.fstat(file.fileno())
    finished = begin + len(data) >= stat.st_size
    if finished and end < len(data) and self._settled(stat):
      end = len(data)  # Nobody writes any more: the last line has no end.
      data += b"\n"
      return Records(data, _line_of(path, begin)), begin + end
    return (Records(data[:end], _line_of(path, begin)) if end else None), begin + end

  def _read_parquet(
    self, path: pathlib.Path, file: BinaryIO, begin: int, max_bytes: int
  ) -> tuple[Records | None, int]:
    stat = os.fstat(file.fileno())
    if _row_groups(path, stat, self._settled(stat)) is None:
      return None, begin  # It is being written; a later look finds it whole.
    with pyarrow.parquet.ParquetFile(path) as rows:
      if _version(path.stat()) != _version(stat):
        return None, begin  # It is another file by now; a later look says so.
      groups = rows.metadata.num_row_groups
      sizes = [rows.metadata.row_group(group).total_byte_size for group in range(groups)]
      end = begin
      while end < groups and (end == begin or sum(sizes[begin : end + 1]) <= max_bytes):
        end += 1
      before = sum(rows.metadata.row_group(group).num_rows for group in range(begin))
      table = rows.read_row_groups(list(range(begin, end))) if end > begin else None
    if table is None or not table.num_rows:
      return None, end
    return Records(table, lambda number: f"{path}, row {before + number + 1}"), end


def _first_rows(path: pathlib.Path, begin: int) -> Records | None:
  with pyarrow.parquet.ParquetFile(path) as file:
    for batch in file.iter_batches(64, row_groups=range(begin, file.metadata.num_row_groups)):
      return Records(pa.Table.from_batches([batch]), lambda number: str(path))
  return None


def _line_of(path: pathlib.Path, begin: int) -> Place:
  """Names lines after a position."""

  def place(number: int) -> str:
    with open(path, "rb") as file:
      left, before = begin, 0
      while left > 0 and (data := file.read(min(left, 1 << 24))):
        before += data.count(b"\n")
        left -= len(data)
    return f"{path}, line {before + number + 1}"

  return place


_ROW_GROUPS: dict[tuple[pathlib.Path, int, int, int], int] = {}  # of files that were opened


def _version(stat: os.stat_result) -> tuple[int, int, int]:
  """What changes when a file is written again."""
  return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _row_groups(path: pathlib.Path, stat: os.stat_result, settled: bool) -> int | None:
  """None while a file is being written."""
  file = (path, *_version(stat))
  if file not in _ROW_GROUPS:
    try:
      _ROW_GROUPS[file] = pyarrow.parquet.read_metadata(path).num_row_groups
    except pa.ArrowInvalid as error:
      if not settled:
        return None
      raise BadRecord(f"{path} is no whole Parquet file: {str(error).splitlines()[0]}") from error
  return _ROW_GROUPS[file]
