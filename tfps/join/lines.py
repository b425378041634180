"""JSON objects, one a line, as columns of fields: fast where Arrow reads them exactly.

Arrow's reader is told the type of every field, so that it guesses none. Where a line is not as it
was told, the lines are halved, and the few that remain are read one by one; both give the same.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from tfps.join.values import EXACT

_FEW = 500  # lines that are read one by one
_MARK = b"\xef\xbb\xbf"  # UTF-8's byte order mark
_NEWLINE, _OPEN, _CLOSE = b"\n{}"
_BLANKS = b" \t\r\n"
_Path = tuple[str, ...]


class Piece(NamedTuple):
  """Some lines: as a table of the fields that are used, or, read one by one, as they are."""

  numbers: np.ndarray  # int64 [n], of the lines, from 0
  table: pa.Table | None
  rows: list[dict | str] | None  # {field: value}, or why there is none


class DoubledError(ValueError):
  """A field is there twice."""


class _InexactError(ValueError):
  """Arrow may not have read it as it is written."""


class LineReader:
  """Reads lines that have some fields, and learns from them which types these have.

  Args:
    names: the fields that are used.
    decimals: those of them of which the nearest double says enough.
  """

  def __init__(self, names: frozenset[str], decimals: frozenset[str] = frozenset()):
    self._names, self._decimals = names, decimals
    self._types: dict[_Path, pa.DataType] = {}
    self._schema: pa.Schema | None = None

  def pieces(self, lines: bytes) -> Iterator[Piece]:
    """Yields the pieces of whole lines; empty ones are left out."""
    lines, numbers, are_objects = clean(lines)
    if len(numbers):
      if self._schema is None:
        self._learn(row for row in map(parse, lines.split(b"\n", 100)[:-1]))
      yield from self._read(lines, numbers, are_objects)

  def _read(self, lines: bytes, numbers: np.ndarray, are_objects: bool) -> Iterator[Piece]:
    """Reads whole lines; `are_objects` is what `_are_objects` says about them."""
    try:
      if not are_objects:
        raise _InexactError
      yield Piece(numbers, self._table(lines, len(numbers)), None)
      return
    except (pa.ArrowInvalid, UnicodeDecodeError, _InexactError):
      pass
    parts = lines.split(b"\n")[:-1]
    if len(parts) > _FEW:
      half = len(parts) // 2
      for part, of_part in ((parts[:half], numbers[:half]), (parts[half:], numbers[half:])):
        whole = b"\n".join(part) + b"\n"
        yield from self._read(whole, of_part, _are_objects(whole, _ends(whole)))
      return
    rows = [parse(part) for part in parts]
    self._learn(rows)
    yield Piece(
      numbers, None, [self._fields(row) if isinstance(row, dict) else row for row in rows]
    )

  def _fields(self, record: dict) -> dict | str:
    try:
      return leaves(record, self._names)
    except DoubledError as error:
      return str(error)

  def _table(self, lines: bytes, count: int) -> pa.Table:
    table = _arrow_table(lines, count, self._schema)
    columns: dict[str, pa.Array] = {}
    for name, column in flat(table):
      _check_finite(column)
      if name in self._names:
        if pa.types.is_temporal(_values(column).type):
          raise _InexactError  # It is a text.
        if name not in self._decimals:
          _check_exact(column)
        columns[name] = _either(columns[name], column) if name in columns else column
      elif column.null_count < len(column):
        columns.setdefault(name, column)
    return pa.table(columns) if columns else pa.table({"": pa.nulls(count)})

  def _learn(self, rows: Any) -> None:
    def learn(path: _Path, value: Any) -> None:
      if isinstance(value, dict):
        for name, inner in value.items():
          learn((*path, name), inner)
      elif path[-1] in self._names and (kind := _type(value)) is not None:
        self._types[path] = _common(self._types.get(path), kind)

    for row in rows:
      if isinstance(row, dict):
        for name, value in row.items():
          learn((name,), value)
    self._schema = pa.schema(_nested(self._types))


def guessed(lines: bytes) -> pa.Table | None:
  """Lines with the types that Arrow's reader guesses, None if it cannot read them."""
  lines, numbers, are_objects = clean(lines)
  try:
    return _arrow_table(lines, len(numbers)) if are_objects else None
  except (pa.ArrowInvalid, UnicodeDecodeError, _InexactError):
    return None


def parse(line: bytes) -> dict | str:
  """A line's object, or why it is none."""
  try:
    made = _DECODER.decode(line.decode())
  except DoubledError as error:
    return str(error)
  except (ValueError, RecursionError):
    made = None
  return made if isinstance(made, dict) else f"it is no JSON object: {line[:60]!r}"


def leaves(record: Mapping, names: frozenset[str] | None = None) -> dict[str, Any]:
  """{name: value} of a record's fields and those of its objects.

  Raises DoubledError about one of `names` that has two values.
  """
  found: dict[str, Any] = {}
  for name, value in _leaves(record):
    if found.get(name) is not None and value is not None and (names is None or name in names):
      raise DoubledError(f"the field {name!r} is there twice")
    if value is not None or name not in found:
      found[name] = value
  return found


def flat(table: pa.Table) -> Iterator[tuple[str, pa.Array]]:
  """Yields (name, column) of a table's fields and those of its structs."""
  for name, column in zip(table.column_names, table.columns):
    yield from _flat(name, column.combine_chunks())


def is_doubled(problem: str) -> bool:
  return problem.endswith("is there twice")


def _flat(name: str, column: pa.Array) -> Iterator[tuple[str, pa.Array]]:
  if pa.types.is_struct(column.type):
    for field, inner in zip(column.type, column.flatten()):
      yield from _flat(field.name, inner)
  else:
    yield name, column


def _leaves(record: Mapping) -> Iterator[tuple[str, Any]]:
  for name, value in record.items():
    if isinstance(value, dict):
      yield from _leaves(value)
    else:
      yield name, value


def _object(pairs: list[tuple[str, Any]]) -> dict:
  made = dict(pairs)
  if len(made) < len(pairs):
    names = [name for name, _ in pairs]
    raise DoubledError(f"the field {next(n for n in names if names.count(n) > 1)!r} is there twice")
  return made


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _arrow_table(lines: bytes, count: int, told: pa.Schema | None = None) -> pa.Table:
  if not lines.isascii():
    lines.decode()
  # One block: what it does not know has one type in all of it.
  options = pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines) + 2)
  parsing = pyarrow.json.ParseOptions(explicit_schema=told)
  table = pyarrow.json.read_json(pa.BufferReader(lines), options, parsing)
  table.validate(full=True)  # Lists that it does not know and that begin with null come broken.
  if table.num_rows != count:
    raise _InexactError
  return table


def clean(lines: bytes) -> tuple[bytes, np.ndarray, bool]:
  """Lines without marks and blanks around them, their numbers, and whether each is an object."""
  if not lines.endswith(b"\n"):
    lines += b"\n"
  ends = _ends(lines)
  if _are_objects(lines, ends):
    return lines, np.arange(len(ends)), True
  parts = [part.strip(_BLANKS).removeprefix(_MARK).strip(_BLANKS) for part in lines.split(b"\n")]
  numbers = [number for number, part in enumerate(parts) if part]
  lines = b"".join(parts[number] + b"\n" for number in numbers)
  return lines, np.array(numbers, np.int64), bool(numbers) and _are_objects(lines, _ends(lines))


def _ends(lines: bytes) -> np.ndarray:
  return np.flatnonzero(np.frombuffer(lines, np.uint8) == _NEWLINE)


def _are_objects(lines: bytes, ends: np.ndarray) -> bool:
  """Whether each line begins and ends with a brace, and so no record reaches over its end."""
  data = np.frombuffer(lines, np.uint8)
  braces = lines[:1] == b"{" and (data[ends - 1] == _CLOSE).all()
  return bool(braces and (data[ends[:-1] + 1] == _OPEN).all())


def _type(value: Any) -> pa.DataType | None:
  if isinstance(value, bool):
    return pa.bool_()
  if isinstance(value, str):
    return pa.string()
  if isinstance(value, int):
    return pa.int64() if value < 2**63 else pa.uint64()
  if isinstance(value, float):
    return pa.float64()
  if isinstance(value, list):
    kinds = [kind for kind in map(_type, value) if kind is not None]
    common = None
    for kind in kinds:
      common = _common(common, kind)
    return None if common is None else pa.list_(common)
  return None


def _common(one: pa.DataType | None, other: pa.DataType) -> pa.DataType:
  """The type of both where there is one, otherwise that of the newer."""
  if one is None or one == other:
    return other
  if pa.types.is_list(one) and pa.types.is_list(other):
    return pa.list_(_common(one.value_type, other.value_type))
  numbers = [pa.int64(), pa.uint64(), pa.float64()]
  if one in numbers and other in numbers:
    return numbers[max(numbers.index(one), numbers.index(other))]
  return other


def _nested(types: Mapping[_Path, pa.DataType]) -> list[pa.Field]:
  groups: dict[str, dict[_Path, pa.DataType]] = {}
  for path, kind in types.items():
    groups.setdefault(path[0], {})[path[1:]] = kind
  fields = []
  for name, inner in groups.items():
    leaf = inner.pop((), None)
    fields.append(pa.field(name, pa.struct(_nested(inner)) if inner else leaf))
  return fields


def _values(column: pa.Array) -> pa.Array:
  while pa.types.is_list(column.type):
    column = column.flatten()
  return column


def _check_finite(column: pa.Array) -> None:
  """Arrow reads Inf, which is no JSON."""
  values = _values(column)
  if pa.types.is_floating(values.type) and pc.any(pc.is_inf(values)).as_py():
    raise _InexactError
  if pa.types.is_struct(values.type):
    for inner in values.flatten():
      for _, leaf in _flat("", inner):
        _check_finite(leaf)


def _check_exact(column: pa.Array) -> None:
  values = _values(column)
  if pa.types.is_floating(values.type):
    largest = pc.max(pc.abs(values)).as_py()
    if largest is not None and largest >= EXACT:
      raise _InexactError


def _either(one: pa.Array, other: pa.Array) -> pa.Array:
  """The values of two columns of one name, of which each row has at most one."""
  if pa.types.is_null(one.type) or pa.types.is_null(other.type):
    return other if pa.types.is_null(one.type) else one
  if one.type != other.type or pc.any(pc.and_(one.is_valid(), other.is_valid())).as_py():
    raise _InexactError
  return pc.coalesce(one, other)


Place = Callable[[int], str]


@dataclasses.dataclass(frozen=True)
class Records:
  """What a log holds next: lines of JSON, or rows of Parquet."""

  data: bytes | pa.Table
  place: Place  # names the line or row of a number, from 0

  def __len__(self) -> int:
    if isinstance(self.data, pa.Table):
      return self.data.num_rows
    return int(np.count_nonzero(np.frombuffer(self.data, np.uint8) == _NEWLINE))
