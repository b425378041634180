"""What tells a file that has grown from another one of its name: the last bytes that were read."""

from __future__ import annotations

import pathlib
import zlib
from typing import BinaryIO

from tfps.join.records import BadRecord

_BYTES = 1 << 16
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh")  # gzip, Zstandard, bzip2
_WIDE = (b"\xff\xfe", b"\xfe\xff")  # the byte order marks of UTF-16


def tail(file: BinaryIO, end: int) -> int:
  """A checksum of the bytes before a position; it moves the file's own."""
  begin = max(0, end - _BYTES)
  file.seek(begin)
  return zlib.crc32(file.read(end - begin))


def check(path: pathlib.Path, file: BinaryIO, end: int, expected: int) -> None:
  """Raises BadRecord if what was read of a file, up to a position, is no longer there."""
  if tail(file, end) != expected:
    raise BadRecord(
      f"{path} was replaced: its first {end:,} bytes are not those that were read. Files of a log "
      "may only grow; give a new one a name of its own."
    )


def check_lines(path: pathlib.Path, log: str, begin: bytes) -> None:
  """Raises BadRecord if the first bytes of a file say that it holds no lines in UTF-8."""
  if begin.startswith(b"PAR1"):
    raise BadRecord(f'{path} is a Parquet file; set config.{log}.format = "parquet".')
  if begin.startswith(_COMPRESSED):
    raise BadRecord(f"{path} is compressed; unpack it, the join reads lines as they are.")
  if begin.startswith(_WIDE):
    raise BadRecord(f"{path} is a text in UTF-16; write it in UTF-8.")
