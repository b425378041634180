"""What a value of a log becomes, exactly: ids, times, and the three types of features.

`identifier`, `text`, `whole`, `number` and `moment` say it for one value; `identifiers`, `features`
and `moments` do the same to a column. A value never depends on those beside it.
"""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

KINDS = ("string", "int", "float")
EXACT = 2**53  # whole numbers below it are exact as doubles
_UNITS = {"s": 1000.0, "ms": 1.0, "us": 1e-3}
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_ZONE = r"(Z|[+-]\d\d:?\d\d)$"
_BEYOND_MICROSECONDS = r"(\.\d{6})\d+"
_LARGEST = float(np.finfo(np.float32).max)
_ARROW = {"string": pa.string(), "int": pa.int64(), "float": pa.float32()}


class UnfitError(ValueError):
  """A value that cannot be what it should be; the message says what it is not."""


def identifier(value: Any) -> str:
  """An id as a text: a text as it is, a whole number in decimal."""
  if isinstance(value, str):
    return _unicode(value)
  if isinstance(value, bytes):
    return _decoded(value)
  if isinstance(value, bool) or not isinstance(value, (int, float, decimal.Decimal)):
    raise UnfitError("no text or whole number")
  return str(_as_int(value))


def text(value: Any) -> str | bytes:
  """A feature as a text; a number that is whole is written without a fraction."""
  if isinstance(value, bytes):
    return value
  if isinstance(value, str):
    return _unicode(value)
  if isinstance(value, bool):
    return "true" if value else "false"
  if isinstance(value, float):
    if math.isinf(value):
      raise UnfitError("not finite")
    return str(int(value)) if value.is_integer() and abs(value) < EXACT else repr(value)
  if isinstance(value, (int, decimal.Decimal)):
    return str(value)
  raise UnfitError("no text, number or list of these")


def whole(value: Any) -> int:
  """A feature as 64 bits; those of 2^63 and more are the int64 with the same bits."""
  if isinstance(value, bytes):
    value = _decoded(value)
  if isinstance(value, str):
    if not _WHOLE.fullmatch(value):
      raise UnfitError("no whole number")
    value = _parsed(int, value)
  if not isinstance(value, (int, float, decimal.Decimal)):
    raise UnfitError("no whole number")
  value = _as_int(value)
  if not -(2**63) <= value < 2**64:
    raise UnfitError("no whole number of 64 bits")
  return value - 2**64 if value >= 2**63 else value


def number(value: Any) -> float:
  """A feature, or an action's value, as the nearest float32."""
  if isinstance(value, bytes):
    value = _decoded(value)
  if isinstance(value, str) and _NUMBER.fullmatch(value):
    value = _parsed(float, value)
  if not isinstance(value, (int, float, decimal.Decimal)):
    raise UnfitError("no number")
  value = _parsed(float, value)
  with np.errstate(over="ignore"):
    nearest = float(np.float32(value))
  if not math.isfinite(nearest):
    raise UnfitError("no finite number of 32 bits")
  return nearest


def moment(value: Any, unit: str) -> int:
  """A time in milliseconds since 1970; a text without a time zone is in UTC."""
  problem = "no time: seconds since 1970, or a text like 2026-01-31T12:00:00Z"
  if isinstance(value, str):
    try:
      return int(_instants(pa.array([_unicode(value)]))[0])
    except pa.ArrowInvalid as error:
      raise UnfitError(problem) from error
  if isinstance(value, bool) or not isinstance(value, (int, float, decimal.Decimal)):
    raise UnfitError(problem)
  scaled = _parsed(float, value) * _UNITS[unit]
  if not abs(scaled) < EXACT:
    raise UnfitError(problem)
  return round(scaled)


def missing(value: Any) -> bool:
  """Whether a value is none: null, or NaN, as pandas and Python's json write it."""
  return value is None or (isinstance(value, float) and math.isnan(value))


CONVERT: dict[str, Callable[[Any], Any]] = {"string": text, "int": whole, "float": number}


def elements(value: Any, kind: str) -> list:
  """A feature's values, one or a list, without those that are missing."""
  values = value if isinstance(value, list) else [value]
  return [CONVERT[kind](one) for one in values if not missing(one)]


def identifiers(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
  """(texts, bool [n]: which are unfit); null where there is none."""
  column = _plain(column)
  if pa.types.is_string(column.type) or pa.types.is_integer(column.type):
    return column.cast(pa.string()), np.zeros(len(column), bool)
  return _each(column, identifier, pa.string())


def features(column: pa.Array, kind: str) -> tuple[pa.Array, np.ndarray]:
  """(values or lists of values of a kind, bool [n]: which rows are unfit)."""
  column = _plain(column)
  if not pa.types.is_list(column.type):
    return _flat(column, kind)
  sizes = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
  ends = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
  values, unfit = _flat(_plain(column.flatten()), kind)
  bad = np.concatenate([[0], np.cumsum(unfit)])
  lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values)
  return lists, bad[ends[1:]] > bad[ends[:-1]]


def numbers(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
  """(float32, bool [n]: which are unfit, as lists are); null where there is none."""
  column = _plain(column)
  if pa.types.is_list(column.type):
    return pa.nulls(len(column), pa.float32()), ~_nulls(column)
  return _flat(column, "float")


def moments(column: pa.Array, unit: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(int64 milliseconds, bool [n]: which are missing, bool [n]: which are unfit)."""
  column = _plain(column)
  kind, no = column.type, np.zeros(len(column), bool)
  if pa.types.is_integer(kind) or pa.types.is_floating(kind):
    values = _numpy(column, np.float64) * _UNITS[unit]
    none = _nulls(column) | np.isnan(values)
    unfit = ~none & ~(np.abs(values) < EXACT)
    return np.where(none | unfit, 0, np.round(values)).astype(np.int64), none, unfit
  try:
    if pa.types.is_string(kind):
      return _instants(column), _nulls(column), no
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
      return _microseconds(column) // 1000, _nulls(column), no
  except pa.ArrowInvalid:
    pass
  if pa.types.is_timestamp(kind):  # Some are too far from 1970 for microseconds.
    return np.zeros(len(column), np.int64), _nulls(column), ~_nulls(column)
  made, unfit = _each(column, lambda value: moment(value, unit), pa.int64())
  return _numpy(made, np.int64), _nulls(column), unfit


def _flat(column: pa.Array, kind: str) -> tuple[pa.Array, np.ndarray]:
  of, fits = column.type, np.zeros(len(column), bool)
  is_whole = pa.types.is_integer(of) or pa.types.is_boolean(of)
  if kind == "string":
    if pa.types.is_string(of) or pa.types.is_binary(of):
      return column, fits
    if is_whole or pa.types.is_temporal(of):
      return column.cast(pa.string()), fits
  if kind == "int" and is_whole:
    values = _numpy(column, np.uint64 if pa.types.is_uint64(of) else np.int64)
    return pa.array(values.view(np.int64), mask=_nulls(column)), fits
  if kind == "float" and (is_whole or pa.types.is_floating(of)):
    wide = _numpy(column, np.float64)
    with np.errstate(over="ignore"):
      values = wide.astype(np.float32)
    none = _nulls(column) | np.isnan(wide)
    return pa.array(values, mask=none), ~none & ~np.isfinite(values)
  return _each(column, CONVERT[kind], _ARROW[kind])


def _each(
  column: pa.Array, convert: Callable[[Any], Any], kind: pa.DataType
) -> tuple[pa.Array, np.ndarray]:
  """Value by value, where no column's function does the same."""
  unfit = np.zeros(len(column), bool)
  made: list[Any] = []
  for row, value in enumerate(column.to_pylist()):
    try:
      made.append(None if missing(value) else convert(value))
    except UnfitError:
      made.append(None)
      unfit[row] = True
  return pa.array(made, kind), unfit


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
  """One array, without dictionaries and the types that only differ in the size of offsets."""
  if isinstance(column, pa.ChunkedArray):
    column = column.combine_chunks()
  if pa.types.is_dictionary(column.type):
    column = column.dictionary_decode()
  kind = column.type
  if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
    return column.cast(pa.string())
  if pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
    return column.cast(pa.binary())
  if pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
    return column.cast(pa.list_(kind.value_type))
  return column


def _instants(column: pa.Array) -> np.ndarray:
  """Milliseconds of texts; raises ArrowInvalid about one that is no time."""
  column = pc.replace_substring_regex(pc.utf8_trim_whitespace(column), _BEYOND_MICROSECONDS, r"\1")
  zoned = pc.fill_null(pc.match_substring_regex(column, _ZONE), True)
  day = pc.fill_null(pc.equal(pc.binary_length(column), 10), False)  # takes no zone
  midnight = pc.binary_join_element_wise(column, "T00:00:00Z", "")
  in_utc = pc.if_else(day, midnight, pc.binary_join_element_wise(column, "Z", ""))
  column = pc.if_else(pc.and_(zoned, pc.invert(day)), column, in_utc)
  return _microseconds(column.cast(pa.timestamp("us", "UTC"))) // 1000


def _microseconds(column: pa.Array) -> np.ndarray:
  is_nano = pa.types.is_timestamp(column.type) and column.type.unit == "ns"
  zone = column.type.tz if pa.types.is_timestamp(column.type) else None
  return _numpy(column.cast(pa.timestamp("us", zone), safe=not is_nano).cast(pa.int64()), np.int64)


def _numpy(column: pa.Array, dtype: type) -> np.ndarray:
  """Values, 0 where they are null."""
  if column.null_count:
    column = pc.fill_null(column, pa.scalar(0, pa.int64()).cast(column.type))
  return column.to_numpy(zero_copy_only=False).astype(dtype)


def _nulls(column: pa.Array) -> np.ndarray:
  return column.is_null().to_numpy(zero_copy_only=False)


def _as_int(value: Any) -> int:
  if isinstance(value, float) and not (value.is_integer() and abs(value) < EXACT):
    raise UnfitError("no whole number below 2^53, above which decimal numbers are not exact")
  if isinstance(value, decimal.Decimal) and value != value.to_integral_value():
    raise UnfitError("no whole number")
  return int(value)


def _parsed(kind: type, value: Any) -> Any:
  try:
    return kind(value)
  except (ValueError, OverflowError) as error:
    raise UnfitError("too large a number") from error


def _unicode(value: str) -> str:
  try:
    value.encode()
  except UnicodeEncodeError as error:
    raise UnfitError("no Unicode text") from error
  return value


def _decoded(value: bytes) -> str:
  try:
    return value.decode()
  except UnicodeDecodeError as error:
    raise UnfitError("no UTF-8 text") from error
