"""Reads columns of Parquet files as NumPy arrays, in whichever process runs a ticket."""

from __future__ import annotations

import collections
import functools
import json
import struct
import threading
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from tfps.data import file_systems
from tfps.data import pieces as pieces_lib
from tfps.data.columns import arrays, kinds, partitions, recurring
from tfps.data.columns.kinds import FLOAT, INT, LIST, STRING, STRUCT, Kind
from tfps.data.opening import REMEDY
from tfps.data.ticket import Ticket

MAGIC = b"PAR1"
_MOST_FILES = 8  # that stay open
_TAIL = struct.Struct("<I4s")  # The length of the footer, and the magic.

# What pyarrow and file systems raise, also where bytes are damaged.
_FAILURES = (
  OSError,
  pa.ArrowException,
  tf.errors.OpError,
  UnicodeError,
  OverflowError,
  MemoryError,
)
_lock = threading.RLock()


class NotReadError(ValueError):
  """A file cannot be read; the message is one sentence."""


class File:
  """An open Parquet file.

  Attributes:
    path: where it is.
    stamp: tells it from another file of its name: the checksum of its footer, never 0.
    kinds: {column: `Kind`, or None where the type has none}.
    types: {column: the type's name}.
    group_rows: int64 [row groups + 1]: at which row each begins.
    stat: of the file when it was opened.

  Raises:
    NotReadError: it is no Parquet file, or cannot be opened.
  """

  def __init__(self, path: str):
    self.path = path
    try:
      self.stat = file_systems.stat(path)
      local = file_systems.is_local(path)
      stream = pa.OSFile(path) if local else pa.PythonFile(file_systems.open_bytes(path), "r")
      footer = _footer(stream, path)
      metadata = pq.read_metadata(pa.BufferReader(footer))
      schema = metadata.schema.to_arrow_schema()
      self._parquet = pq.ParquetFile(
        stream,
        metadata=metadata,
        pre_buffer=not local,
        read_dictionary=recurring.columns(metadata, schema),
      )
      self._has_dictionaries_in_lists = recurring.in_lists(self._parquet.schema_arrow)
    except _FAILURES as error:
      raise NotReadError(unreadable(path, error)) from error
    self.stamp = zlib.crc32(footer) or 1
    self.kinds = {field.name: kinds.kind_of(field.type) for field in schema}
    self.types = {field.name: str(field.type) for field in schema}
    for name, times in collections.Counter(schema.names).items():
      if times > 1:
        self.kinds[name] = None
        self.types[name] += " and there twice"
    rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    self.group_rows = np.cumsum([0, *rows])

  def groups(self, begin: int, end: int) -> tuple[int, int]:
    """The row groups, as first and one past the last, that hold rows begin to end."""
    first = int(np.searchsorted(self.group_rows, begin, "right")) - 1
    return first, int(np.searchsorted(self.group_rows, end, "left"))

  def read(self, groups: tuple[int, int], columns: Sequence[str]) -> pa.Table:
    """The columns of row groups, as of `groups`.

    Raises:
      NotReadError: it cannot be read, or was written again while it was.
    """
    try:
      table = self._table(list(range(*groups)), list(columns))
      unchanged = file_systems.stat(self.path) == self.stat
    except _FAILURES as error:
      raise NotReadError(unreadable(self.path, error)) from error
    if not unchanged:
      raise NotReadError(f"{self.path} was written again while it was read. {REMEDY}")
    return table

  def _table(self, groups: list[int], columns: list[str]) -> pa.Table:
    if len(groups) == 1 or not self._has_dictionaries_in_lists:
      return self._parquet.read_row_groups(groups, columns=columns)
    # Of lists of dictionaries pyarrow reads one group at a time.
    return pa.concat_tables(self._parquet.read_row_group(i, columns=columns) for i in groups)

  def close(self) -> None:
    self._parquet.close(force=True)


def _footer(stream: Any, path: str) -> bytes:
  """A file's metadata with what comes after it; one read where it is small."""
  size = stream.size()
  tail_size = min(size, 1 << 16)
  stream.seek(size - tail_size)
  tail = stream.read(tail_size)
  if tail_size >= 12 and tail.endswith(b"PARE"):
    raise NotReadError(f"{path} has an encrypted footer, which tfps does not read; decrypt it.")
  if tail_size < 12 or not tail.endswith(MAGIC):
    raise NotReadError(
      f"{path} is no whole Parquet file: it does not end with Parquet's magic; write it again, or "
      "name its format."
    )
  length = _TAIL.unpack(tail[-_TAIL.size :])[0] + _TAIL.size
  if length > size:
    raise NotReadError(f"{path} is damaged: its footer does not fit into it; write it again.")
  if length > tail_size:
    stream.seek(size - length)
    tail = stream.read(length)
  return tail[-length:]


def unreadable(path: str, error: BaseException) -> str:
  """One sentence about a file that cannot be read."""
  said = (getattr(error, "message", None) or str(error)).strip().splitlines()
  said = said[0].rstrip(".") if said else type(error).__name__
  return f"{path} cannot be read: {said}; put it back or write it again."


class _Decoded(NamedTuple):
  """The row groups that were decoded last: the tickets of a large one follow each other."""

  path: str
  stamp: int
  columns: tuple[str, ...]
  groups: tuple[int, int]
  table: pa.Table


_open: collections.OrderedDict[str, File] = collections.OrderedDict()
_last: _Decoded | None = None


def opened(path: str) -> File:
  """A `File`; one on a local disk stays open for further calls, until it is written again."""
  with _lock:
    file = _open.pop(path, None)
    if file is not None:
      try:
        same = file_systems.stat(path) == file.stat
      except _FAILURES as error:
        file.close()
        raise NotReadError(unreadable(path, error)) from error
      if not same:
        file.close()
        file = None
    file = file or File(path)
    if not file_systems.is_local(path):
      return file  # Its times are too coarse to tell that it was written again.
    _open[path] = file
    while len(_open) > _MOST_FILES:
      _open.popitem(last=False)[1].close()
    return file


def seconds(file: File, column: str, per_second: float) -> np.ndarray:
  """The times in a column of timestamps or whole numbers: float64 seconds since 1970; NaN is null.

  Raises:
    NotReadError: there is no such column, or the file cannot be read.
  """
  if file.kinds.get(column) != Kind(INT):
    kind = file.types.get(column, "missing")
    raise NotReadError(
      f"{file.path} has no event time: the column '{column}' is {kind}, and must be timestamps or "
      "whole numbers; correct time."
    )
  with _lock:
    values = _one(file.read((0, len(file.group_rows) - 1), [column])[column], column, file.path)
  if pa.types.is_timestamp(values.type):
    per_second = 1e6
  elif pa.types.is_date(values.type):
    per_second = 1 / 86400
  return (
    arrays.as_int64(values).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    / per_second
  )


def request(columns: Mapping[str, Kind], of: Mapping[str, str], nulls: Mapping[str, Any]) -> str:
  """What `read` is to read, as text.

  Args:
    columns: {column: `Kind`}.
    of: {column: the file that it was found in}, for messages.
    nulls: {path of a value: what a null is read as}.
  """
  return json.dumps([[[name, kind.to_json(), of[name]] for name, kind in columns.items()], nulls])


class _Wanted(NamedTuple):
  columns: list[tuple[str, Kind, str]]
  nulls: dict[str, Any]


@functools.lru_cache(maxsize=8)
def _wanted(text: bytes) -> _Wanted:
  columns, nulls = json.loads(text)
  return _Wanted([(name, Kind.from_json(kind), of) for name, kind, of in columns], nulls)


def read(path: bytes, stamp: int, begin: int, end: int, pieces: bytes, wanted: bytes) -> list[Any]:
  """Reads rows of a Parquet file, or of several; the function that graphs call.

  Args:
    path: the file.
    stamp: of the file that was cut.
    begin, end: of the rows.
    pieces: of a ticket of several ranges, where they are, as in `Ticket`.
    wanted: what `request` returned.

  Returns:
    A list: bytes, why nothing was read, or b""; int32 [n]: for each row 0, or 1 + the number of the
    first column that has a null which stands for no value; for each column the arrays of
    `kinds.dtypes`.
  """
  columns, nulls = _wanted(wanted)
  place = Ticket(0, 0, 0, path.decode(), int(begin), int(end), 0, stamp=int(stamp))
  ranges = pieces_lib.ranges_of(place._replace(pieces=pieces.decode()))
  try:
    if len(ranges) == 1:
      return [b"", *_range(ranges[0], columns, nulls)]
    # Copies, lest the whole row groups stay in memory, of which a range may have a few rows.
    parts = [[array.copy() for array in _range(part, columns, nulls)] for part in ranges]
  except NotReadError as error:
    nothing = [np.zeros(0, d.as_numpy_dtype) for _, kind, _ in columns for d in kinds.dtypes(kind)]
    return [str(error).encode(), np.zeros(0, np.int32), *nothing]
  return [b"", *kinds.joined([kind for _, kind, _ in columns], parts)]


def _range(
  place: Ticket, columns: Sequence[tuple[str, Kind, str]], nulls: Mapping[str, Any]
) -> list[np.ndarray]:
  """What `read` returns of one range, without the reason why it could not."""
  made = arrays.Arrays(place.end - place.begin, nulls)
  try:
    found = _columns(place.path, place.stamp, place.begin, place.end, columns)
    for number, ((name, kind, _), column) in enumerate(zip(columns, found), 1):
      made.number = number
      made.add(kind, column, name, ())
  except _FAILURES as error:
    raise NotReadError(unreadable(place.path, error)) from error
  return [made.null_in, *made.found]


def _columns(
  path: str, stamp: int, begin: int, end: int, columns: Sequence[tuple[str, Kind, str]]
) -> list[pa.Array]:
  """Rows begin to end of some columns; one that the file lacks is its folders' key, or null."""
  global _last
  with _lock:
    file = opened(path)
    if file.stamp != stamp:
      raise NotReadError(f"{path} changed: it is not the file that was cut. {REMEDY}")
    for name, kind, of in columns:
      if name in file.kinds and file.kinds[name] != kind:
        raise NotReadError(
          f"{path} has the column '{name}' as {file.types[name]}, which is not what it is in {of}: "
          "write it with one type, or make a source of each kind."
        )
    there = tuple(name for name, _, _ in columns if name in file.kinds)
    groups = file.groups(begin, end)
    key = (path, stamp, there, groups)
    table = _last[-1] if _last and _last[:-1] == key else file.read(groups, there)
    first = int(file.group_rows[groups[0]])
    _last = None
    if end < file.group_rows[groups[1]]:
      _last = _Decoded(*key, table)
  keys = partitions.values_of(path)
  rows = table.slice(begin - first, end - begin)
  found = []
  for name, kind, _ in columns:
    if name in there:
      found.append(_one(rows.column(name), name, path))
    elif name in keys:
      text = pa.array([keys[name]], pa.string())
      found.append(pa.DictionaryArray.from_arrays(np.zeros(end - begin, np.int32), text))
    else:
      found.append(pa.nulls(end - begin, _plain_type(kind)))
  return found


def _one(column: pa.ChunkedArray, name: str, path: str) -> pa.Array:
  try:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
  except pa.ArrowException as error:
    raise NotReadError(
      f"{path} has more in the column '{name}' than fits into one ticket: {error}. Write smaller "
      "row groups."
    ) from error


def _plain_type(kind: Kind) -> pa.DataType:
  """A type of Arrow's of this kind."""
  if kind.base == STRUCT:
    return pa.struct([pa.field(name, _plain_type(field)) for name, field in kind.fields])
  if kind.base == LIST:
    return pa.list_(_plain_type(kind.element), kind.size or -1)
  return {STRING: pa.large_binary(), INT: pa.int64(), FLOAT: pa.float32()}[kind.base]
