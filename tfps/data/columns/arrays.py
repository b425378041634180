"""Columns of Arrow's as NumPy arrays: those of `kinds.dtypes`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfps.data.columns import kinds
from tfps.data.columns.kinds import INT, LIST, STRING, STRUCT, Kind

_MOST_TEXTS = 8  # of a dictionary, for each row that is taken of it; else rows take their texts.


class Arrays:
  """From columns of Arrow's to the arrays of `kinds.dtypes`.

  Args:
    rows: how many rows the columns have.
    nulls: {path of a value: what a null is read as}.

  Attributes:
    number: of the column that is added, from 1.
    found: the arrays.
    null_in: int32 [rows]: for each row 0, or the number of the first column with a null that stands
      for no value.
  """

  def __init__(self, rows: int, nulls: Mapping[str, Any]):
    self.number = 0
    self.found: list[np.ndarray] = []
    self.null_in = np.zeros(rows, np.int32)
    self._nulls = nulls

  def add(self, kind: Kind, array: pa.Array, path: str, within: tuple) -> None:
    """Adds the arrays of a column or of what is within it.

    Args:
      kind: of the array.
      array: its values.
      path: its name.
      within: of each list around it the row splits, or the size that all its rows have.
    """
    if isinstance(array, pa.ExtensionArray):
      array = array.storage
    if kind.base == STRUCT:
      for (name, field), values in zip(kind.fields, array.flatten()):
        self.add(field, values, kinds.path_of(path, name), within)
    elif kind.base == LIST and kind.size:
      self.add(kind.element, _of_fixed(array, kind.size), path, (*within, kind.size))
    elif kind.base == LIST:
      splits, values = _of_list(array)
      self.found.append(splits)
      self.add(kind.element, values, path, (*within, splits))
    elif kind.base == STRING:
      self.found += _of_strings(array, self._nulls.get(path, ""))
    else:
      array = as_int64(array) if kind.base == INT else array.cast(pa.float32(), safe=False)
      if array.null_count:
        if path not in self._nulls:
          self._mark(array.is_null(), within)
        array = array.fill_null(self._nulls.get(path, 0))
      self.found.append(array.to_numpy(zero_copy_only=False))

  def _mark(self, is_null: pa.Array, within: tuple) -> None:
    """Notes in which rows there are nulls."""
    rows = np.flatnonzero(is_null.to_numpy(zero_copy_only=False))
    for level in reversed(within):
      rows = rows // level if isinstance(level, int) else np.searchsorted(level, rows, "right") - 1
    rows = rows[self.null_in[rows] == 0]
    self.null_in[rows] = self.number


def _of_list(array: pa.Array) -> tuple[np.ndarray, pa.Array]:
  """(int64 row splits, values) of a list or map; nulls in it are left out."""
  kind = array.type
  if pa.types.is_map(kind):
    entry = pa.struct([pa.field("key", kind.key_type), pa.field("value", kind.item_type)])
    array = array.cast(pa.list_(entry))
  lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
  splits = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
  values = array.flatten()
  if values.null_count:
    there = values.is_valid().to_numpy(zero_copy_only=False)
    splits = np.concatenate([[0], np.cumsum(there, dtype=np.int64)])[splits]
    values = values.drop_null()
  return splits, values


def _of_fixed(array: pa.Array, size: int) -> pa.Array:
  """The values of lists of one size, of which a null has that many nulls."""
  if not array.null_count:
    return array.flatten()
  there = np.repeat(array.is_valid().to_numpy(zero_copy_only=False), size)
  numbers = pa.array(np.cumsum(there) - 1, mask=~there)
  return array.flatten().take(numbers)


def _of_strings(array: pa.Array, null: str) -> list[np.ndarray]:
  """An array of texts as distinct ones, or ones that may recur, and which of them each row has.

  Returns:
    [uint8, all bytes of k texts; int64 [k + 1], their offsets; int32 [n], the number of a text].
  """
  if not pa.types.is_dictionary(array.type):
    codes = np.arange(len(array), dtype=np.int32)
  elif array.dictionary.null_count or len(array.dictionary) > _MOST_TEXTS * len(array):
    return _of_strings(array.dictionary_decode(), null)
  else:
    indices, array = array.indices.cast(pa.int32()), array.dictionary
    if indices.null_count:
      indices = indices.fill_null(len(array))
      array = pa.concat_arrays([array, pa.nulls(1, array.type)])
    codes = indices.to_numpy(zero_copy_only=False)
  if pa.types.is_decimal(array.type):
    array = array.cast(pa.string())
  if not (pa.types.is_string(array.type) or pa.types.is_binary(array.type)):
    array = array.cast(pa.large_binary())
  if array.null_count:
    array = array.fill_null(null if pa.types.is_string(array.type) else null.encode())
  _, offsets, data = array.buffers()
  if not len(array):
    return [np.zeros(0, np.uint8), np.zeros(1, np.int64), codes]
  dtype = np.int64 if pa.types.is_large_binary(array.type) else np.int32
  offsets = np.frombuffer(offsets, dtype)[array.offset : array.offset + len(array) + 1]
  begin, end = int(offsets[0]), int(offsets[-1])
  data = np.frombuffer(data or b"", np.uint8)[begin:end]
  return [data, np.subtract(offsets, begin, dtype=np.int64), codes]


def as_int64(array: pa.Array) -> pa.Array:
  """Numbers, truth values and times as int64: see docs/inputs.md."""
  kind = array.type
  if pa.types.is_dictionary(kind):
    array = array.dictionary_decode()
    kind = array.type
  if pa.types.is_uint64(kind):
    return array.view(pa.int64())
  if pa.types.is_timestamp(kind):
    return array.cast(pa.timestamp("us", kind.tz), safe=False).view(pa.int64())
  if pa.types.is_date(kind):
    return array.cast(pa.date32(), safe=False).view(pa.int32()).cast(pa.int64())
  if pa.types.is_time(kind):
    return array.cast(pa.time64("us"), safe=False).view(pa.int64())
  if pa.types.is_duration(kind):
    return array.cast(pa.duration("us"), safe=False).view(pa.int64())
  return array.cast(pa.int64())
