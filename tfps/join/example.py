"""tf.Example and TFRecord, written for whole columns at once.

A tf.Example is a map of named lists of bytes, int64 or float32. Here the map entries of all rows of
a column are made by a few vectorised calls; entries of several columns are concatenated row by row,
which is what protocol buffers allow (https://protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Mapping, Sequence

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_LENGTHS = 1 << 16  # below it, what depends on a row's length is looked up in a table
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = b"\x0a", b"\x12", b"\x1a"
_CRC_MASK = 0xA282EAD8


def entries(name: str, column: pa.Array) -> list[pa.Array]:
  """The map entries of one feature: pieces that `concatenate` puts together row by row.

  Args:
    name: the feature's name.
    column: n values or lists of values: strings, binary, whole numbers (uint64 keeps its bits),
      bools or floats, which become float32. A row that is null, or an empty list, gets no entry.

  Raises:
    TypeError: if the values are of another type.
  """
  kind, flat, offsets = _flatten(name, column)
  if kind == _BYTES_LIST:
    payload = _slice(_length_prefixed(flat), offsets)
  elif kind == _INT64_LIST:
    payload = _slice(_varints(flat), offsets)
  else:
    payload = _binary(offsets * 4, np.ascontiguousarray(flat, "<f4"))
  return [_by_length(lengths(payload), lambda length: _header(name, kind, length)), payload]


def floats(columns: Mapping[str, np.ndarray], rows: int) -> pa.Array:
  """The map entries of features that have one float in each row: {name: float32 [rows]}."""
  template, places = b"", {}
  for name in columns:
    template += _header(name, _FLOAT_LIST, 4)
    places[name] = slice(len(template), len(template) + 4)
    template += bytes(4)
  data = np.empty((rows, len(template)), np.uint8)
  data[:] = np.frombuffer(template, np.uint8)
  for name, values in columns.items():
    data[:, places[name]] = np.ascontiguousarray(values, "<f4").view(np.uint8).reshape(rows, 4)
  return _binary(np.arange(rows + 1) * len(template), data)


def concatenate(pieces: Sequence[pa.Array], rows: int) -> pa.Array:
  """Joins binary columns row by row; `rows` is their length, needed where there is no column."""
  if not pieces:
    return pa.array([b""] * rows, pa.binary())
  return pc.binary_join_element_wise(*pieces, b"")


def examples(pieces: Sequence[pa.Array], rows: int) -> pa.Array:
  """Serialized tf.Examples from pieces of their map entries, as for `concatenate`."""
  pieces = pieces or [concatenate([], rows)]
  sizes = np.zeros(rows, np.int64)
  for piece in pieces:
    sizes += len(piece.as_py()) if isinstance(piece, pa.Scalar) else lengths(piece)
  return concatenate([_by_length(sizes, lambda n: b"\x0a" + varint(n)), *pieces], rows)


def tfrecords(records: pa.Array) -> pa.Buffer:
  """The bytes of a TFRecord file that holds these records, in order."""
  if not len(records):
    return pa.py_buffer(b"")

  def header(length: int) -> bytes:
    packed = struct.pack("<Q", length)
    return packed + struct.pack("<I", int(_masked(np.array([google_crc32c.value(packed)]))[0]))

  # Slices of the column's bytes, which take less time than to_pylist.
  checksum, data, places = google_crc32c.value, _bytes(records), _offsets(records)
  each = (checksum(data[begin:end]) for begin, end in itertools.pairwise(places.tolist()))
  crcs = np.fromiter(each, np.uint64, len(records))
  footer = _binary(np.arange(len(records) + 1) * 4, _masked(crcs).astype("<u4"))
  framed = concatenate([_by_length(lengths(records), header), records, footer], len(records))
  return _data(framed)


def lengths(column: pa.Array) -> np.ndarray:
  """The number of bytes of each row of a binary column without nulls."""
  return np.diff(_offsets(column))


def varint(value: int) -> bytes:
  out = bytearray()
  while value > 0x7F:
    out.append(value & 0x7F | 0x80)
    value >>= 7
  out.append(value)
  return bytes(out)


def _header(name: str, kind: bytes, length: int) -> bytes:
  """What a map entry has before its payload of `length` bytes."""
  if not length:
    return b""
  key = name.encode()
  packed = b"" if kind == _BYTES_LIST else b"\x0a" + varint(length)
  values = kind + varint(len(packed) + length) + packed
  start = b"\x0a" + varint(len(key)) + key + b"\x12" + varint(len(values) + length) + values
  return b"\x0a" + varint(len(start) + length) + start


def _flatten(name: str, column: pa.Array) -> tuple[bytes, pa.Array | np.ndarray, np.ndarray]:
  """Returns the kind of list, all values without nulls, and where each row begins in them."""
  if isinstance(column, pa.ChunkedArray):
    column = column.combine_chunks()
  if pa.types.is_dictionary(column.type):
    column = column.dictionary_decode()
  rows = len(column)
  is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
  if is_list:
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    column = column.flatten()
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
  else:
    offsets = np.arange(rows + 1, dtype=np.int64)
  if column.null_count:
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(valid, dtype=np.int64)])[offsets]
    column = column.drop_null()
  kind = column.type
  if pa.types.is_boolean(kind):
    column, kind = column.cast(pa.int64()), pa.int64()
  if pa.types.is_integer(kind):
    return (
      _INT64_LIST,
      column.to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64),
      offsets,
    )
  if pa.types.is_floating(kind):
    return _FLOAT_LIST, column.to_numpy(zero_copy_only=False).astype(np.float32), offsets
  if pa.types.is_null(kind):
    return _BYTES_LIST, pa.array([], pa.binary()), offsets
  if pa.types.is_string(kind) or pa.types.is_binary(kind):
    return _BYTES_LIST, column.cast(pa.binary()), offsets
  if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
    return _BYTES_LIST, column.cast(pa.large_binary()).cast(pa.binary()), offsets
  raise TypeError(
    f"The feature {name!r} has values of type {kind}; a sample can hold texts, whole numbers and "
    "decimal numbers, and lists of these."
  )


def _length_prefixed(values: pa.Array) -> pa.Array:
  header = _by_length(lengths(values), lambda length: b"\x0a" + varint(length))
  return concatenate([header, values], len(values))


def _varints(values: np.ndarray) -> pa.Array:
  """Base-128 varints of uint64 values."""
  width = max(1, -(-int(values.max(initial=0)).bit_length() // 7))
  out = np.empty((len(values), width), np.uint8)
  sizes = np.ones(len(values), np.int64)
  for i in range(width):
    rest = values >> np.uint64(7 * i)
    more = rest > 0x7F
    out[:, i] = (rest & np.uint64(0x7F)).astype(np.uint8) | (more.astype(np.uint8) << 7)
    sizes += more
  kept = out[np.arange(width) < sizes[:, None]]
  return _binary(np.concatenate([[0], np.cumsum(sizes)]), kept)


def _by_length(row_lengths: np.ndarray, make: Callable[[int], bytes]) -> pa.Array | pa.Scalar:
  """make(length) for each row, called once for each length that occurs."""
  if not len(row_lengths):
    return pa.array([], pa.binary())
  largest = int(row_lengths.max())
  if largest < _LENGTHS:
    seen = np.zeros(largest + 1, bool)
    seen[row_lengths] = True
    occurring = np.flatnonzero(seen)
    places = np.zeros(largest + 1, np.int32)
    places[occurring] = np.arange(len(occurring), dtype=np.int32)
    places = places[row_lengths]
  else:
    occurring, places = np.unique(row_lengths, return_inverse=True)
  made = pa.array([make(int(length)) for length in occurring], pa.binary())
  return made[0] if len(made) == 1 else made.take(pa.array(places))


def _slice(flat: pa.Array, offsets: np.ndarray) -> pa.Array:
  """Rows of several neighbours of a binary column, put together: no byte is copied."""
  return _binary(_offsets(flat)[offsets], _data(flat))


def _binary(offsets: np.ndarray, data: np.ndarray | pa.Buffer) -> pa.Array:
  if int(offsets[-1]) >= 1 << 31:
    raise ValueError("A batch of samples is larger than 2 GiB; make config.batch_bytes smaller.")
  buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)]
  return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)


def _offsets(column: pa.Array) -> np.ndarray:
  """n + 1 positions of a binary column in its data."""
  whole = (
    np.frombuffer(column.buffers()[1], np.int32) if column.buffers()[1] else np.zeros(1, np.int32)
  )
  return whole[column.offset : column.offset + len(column) + 1].astype(np.int64)


def _data(column: pa.Array) -> pa.Buffer:
  """The bytes of a binary column that is no slice, one row after the other."""
  data = column.buffers()[2]
  return pa.py_buffer(b"") if data is None else data[: int(_offsets(column)[-1])]


def _bytes(column: pa.Array) -> bytes:
  """All bytes that a binary column's positions point into."""
  data = column.buffers()[2]
  return b"" if data is None else data.to_pybytes()


def _masked(crcs: np.ndarray) -> np.ndarray:
  """TFRecord's masked CRC-32C (tensorflow/core/lib/hash/crc32c.h)."""
  crcs = crcs.astype(np.uint64)
  rotated = (crcs >> np.uint64(15)) | (crcs << np.uint64(17) & np.uint64(0xFFFFFFFF))
  return (rotated + np.uint64(_CRC_MASK)) & np.uint64(0xFFFFFFFF)
