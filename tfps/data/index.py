"""Where a file can be cut: the offset of every k-th record, found by streaming it once."""

import struct
from collections.abc import Sequence
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

_BLOCK_BYTES = 4 << 20
_NEWLINE, _RETURN = 10, 13
_MARK = b"\xef\xbb\xbf"  # UTF-8's byte order mark


class Cuts(NamedTuple):
  """The tickets of one file or partition, as bounds: ticket i holds [bounds[i], bounds[i+1])."""

  path: str
  bounds: np.ndarray  # int64 [tickets + 1]; [1] when there are no records
  step: int  # records of every ticket but the last; 0 where the bounds are numbers of records
  records: int
  damage: str = ""  # why nothing behind them could be read
  stamp: int = 0  # see `Ticket`

  def __len__(self) -> int:
    return len(self.bounds) - 1

  def range(self, i: int) -> tuple[int, int, int]:
    """Returns (begin, end, records) of ticket i."""
    begin, end = int(self.bounds[i]), int(self.bounds[i + 1])
    return begin, end, min(self.step, self.records - i * self.step) if self.step else end - begin


def whole(path: str, size: int, records: int) -> Cuts:
  """The cuts of a file that can only be read from its first byte to its last: one ticket."""
  return Cuts(path, np.array([0, size] if records else [0]), max(records, 1), records)


def cut_text(
  stream: IO[bytes],
  path: str,
  *,
  step: int,
  header: bool = False,
  begin: int = 0,
  end: int | None = None,
  refuse_returns: bool = False,
) -> Cuts:
  """Cuts lines, of which the empty ones are no records. A file's byte order mark is left out.

  Args:
    stream: a binary file positioned at byte `begin`.
    path: the file's name, kept in the result.
    step: records per ticket.
    header: whether the first line that is not empty names the columns and is no record.
    begin, end: the byte range to cut; `end` None is the file's end.
    refuse_returns: whether no carriage return may stand within a line.

  Returns:
    `Cuts`.

  Raises:
    ValueError: one does.
  """
  offsets = []
  seen = -1 if header else 0
  tail, position = (
    (stream.read(len(_MARK)) if not begin and (end is None or end >= 3) else b""),
    begin,
  )
  if tail == _MARK:
    tail, position = b"", len(_MARK)
  while True:
    wanted = _BLOCK_BYTES if end is None else min(_BLOCK_BYTES, end - position - len(tail))
    block = stream.read(wanted) if wanted else b""
    last = not block
    block = tail + (b"\n" if last and tail else block)
    starts, rest = _line_starts(np.frombuffer(block, np.uint8))
    if refuse_returns and (at := _return_within(block[:rest])) >= 0:
      raise ValueError(
        f"{path} has a carriage return within a line, at byte {position + at:,} of its "
        "uncompressed text, which is lost where a compressed file is read; unpack the file."
      )
    if seen < 0 and len(starts):
      starts, seen = starts[1:], 0
    offsets.append(position + starts[-seen % step :: step])
    seen += len(starts)
    if last:
      bounds = np.concatenate([*offsets, np.full(1, position + len(tail), np.int64)])
      return Cuts(path, bounds, step, max(seen, 0))
    tail = block[rest:]
    position += rest


def _return_within(lines: bytes) -> int:
  """Where the first carriage return is that does not end a line, -1 if there is none."""
  if b"\r" not in lines:
    return -1
  data = np.frombuffer(lines, np.uint8)
  returns = np.flatnonzero(data == _RETURN)
  within = returns[data[returns + 1] != _NEWLINE]
  return int(within[0]) if len(within) else -1


def _line_starts(block: np.ndarray) -> tuple[np.ndarray, int]:
  """Returns where a uint8 block's whole, non-empty lines start, and where its last part does."""
  newlines = np.flatnonzero(block == _NEWLINE)
  if not len(newlines):
    return np.empty(0, np.int64), 0
  starts = np.empty_like(newlines)
  starts[0] = 0
  starts[1:] = newlines[:-1] + 1
  lengths = newlines - starts
  full = lengths > 0
  single = np.flatnonzero(lengths == 1)
  full[single] = block[starts[single]] != _RETURN
  return starts if full.all() else starts[full], int(newlines[-1]) + 1


def cut_tfrecord(stream: IO[bytes], path: str, *, step: int, skip_damage: bool = False) -> Cuts:
  """Cuts a TFRecord file by walking its length headers.

  Each record is its length (uint64), the length's masked CRC-32C (uint32), the data, and the data's
  masked CRC-32C (uint32), all little-endian (tensorflow/core/lib/io/record_writer.h).

  Args:
    stream: a binary file at its first byte.
    path: the file's name, for the result and for errors.
    step: records per ticket.
    skip_damage: whether what comes before a place that cannot be read is cut nevertheless.

  Returns:
    `Cuts`.

  Raises:
    ValueError: the file is cut short, or is no TFRecord file at some byte.
  """
  read_header = struct.Struct("<QI").unpack_from
  bounds: list[int] = []
  unchecked: list[tuple[int, int, int]] = []
  records = 0
  start = position = 0  # of the record read last: its first byte, and one past its last
  block, block_begin = stream.read(_BLOCK_BYTES), 0
  damage = ""
  while not damage:
    here = position - block_begin
    while here + 12 <= len(block):
      length, crc = read_header(block, here)
      unchecked.append((position, length, crc))
      if records % step == 0:
        bounds.append(position)
      records += 1
      start, position = position, position + 16 + length
      here += 16 + length
    wrong = first_wrong_length(unchecked)
    if wrong is not None:
      records -= len(unchecked) - wrong
      position = unchecked[wrong][0]
      damage = (
        f"{path} is not a TFRecord file at byte {position}: the checksum of a record's "
        "length does not match; write the file again, or name its format."
      )
      break
    unchecked.clear()
    rest, block_begin = block[here:], min(position, block_begin + len(block))
    block = stream.read(_BLOCK_BYTES)
    if not block:
      if not rest and position == block_begin:
        break
      if not rest:
        records, position = records - 1, start
      damage = (
        f"{path} is cut short: its record at byte {position} is not complete; write the file again."
      )
    block = rest + block
  if damage and not skip_damage:
    raise ValueError(damage)
  bounds = [*(bound for bound in bounds if bound < position), position]
  return Cuts(path, np.array(bounds, np.int64), step, records, damage)


def first_wrong_length(headers: Sequence[tuple[int, int, int]]) -> int | None:
  """Finds the first wrong one of some (position, length, length's checksum); None if all fit."""
  if not headers:
    return None
  _, lengths, crcs = zip(*headers)
  wrong = np.flatnonzero(_masked_crc32c(lengths) != np.array(crcs, np.uint32))
  return int(wrong[0]) if len(wrong) else None


def _crc_table() -> np.ndarray:
  table = np.arange(256, dtype=np.uint32)
  for _ in range(8):
    table = (table >> np.uint32(1)) ^ np.where(
      table & np.uint32(1), np.uint32(0x82F63B78), np.uint32(0)
    )
  return table


_CRC_TABLE = _crc_table()


def _masked_crc32c(lengths: npt.ArrayLike) -> np.ndarray:
  """TensorFlow's masked CRC-32C of each of some uint64, little-endian, as uint32."""
  lengths = np.array(lengths, np.uint64)
  crc = np.full(len(lengths), 0xFFFFFFFF, np.uint32)
  for octet in lengths.astype("<u8").view(np.uint8).reshape(-1, 8).T:
    crc = _CRC_TABLE[(crc ^ octet) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
  crc = ~crc
  rotated = (crc >> np.uint32(15)) | (crc << np.uint32(17))
  return rotated + np.uint32(0xA282EAD8)
