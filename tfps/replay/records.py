"""The records of log files, each with its place; those that cannot be read are counted."""

from __future__ import annotations

import collections
import gzip
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from tfps.data import index
from tfps.data.ranges import tfrecords

_AT_ONCE = 256  # records of a TFRecord file
_HEADER = struct.Struct("<QI")
_MOST_PLACES = 20  # that are kept of each kind of damage


class Place(NamedTuple):
  """Where a record is: a line of a text file, or a record of a TFRecord file."""

  path: str
  byte: int
  line: int | None = None

  def __str__(self) -> str:
    if self.line is None:
      return f"{self.path}, the record at byte {self.byte:,}"
    return f"{self.path}, line {self.line:,} (byte {self.byte:,})"


class Record(NamedTuple):
  """A record's place and its bytes."""

  place: Place
  content: bytes


class Unusable:
  """Counts the records that cannot be replayed.

  Attributes:
    counts: {reason: how many}.
    places: {reason: the places of the first of them, with what is wrong there}.
  """

  def __init__(self) -> None:
    self.counts: collections.Counter[str] = collections.Counter()
    self.places: dict[str, list[str]] = {}

  def add(self, reason: str, place: Place, detail: str = "") -> None:
    """Counts a record; `detail` is what is particular to it."""
    self.counts[reason] += 1
    places = self.places.setdefault(reason, [])
    if len(places) < _MOST_PLACES:
      places.append(f"{place}: {detail}" if detail else str(place))


def read(path: str, unusable: Unusable) -> Iterator[Record]:
  """Yields the records of a file, TFRecord or lines of JSON, compressed if its name ends in .gz.

  A TFRecord with a wrong checksum is counted and left out. Where the length of a record is damaged,
  or a compressed file is, the rest of the file is.
  """
  if _is_tfrecord(path):
    yield from _tfrecords(path, unusable)
  else:
    yield from _lines(path, unusable)


def _is_tfrecord(path: str) -> bool:
  """Whether the file does not begin as an object of JSON does."""
  try:
    with tf.io.gfile.GFile(path, "rb") as file:
      head = _stream(path, file).read(_HEADER.size + 1)
  except (EOFError, OSError, zlib.error):
    return True  # What is wrong is told when it is read.
  if len(head) >= _HEADER.size and _length_holds(head):
    return True
  return not head.lstrip().startswith(b"{")


def _length_holds(header: bytes) -> bool:
  length, crc = _HEADER.unpack_from(header)
  return index.first_wrong_length([(0, length, crc)]) is None


def _stream(path: str, file: Any) -> Any:
  return gzip.GzipFile(fileobj=file) if path.endswith(".gz") else file


def _lines(path: str, unusable: Unusable) -> Iterator[Record]:
  byte, number = 0, 0
  with tf.io.gfile.GFile(path, "rb") as file:
    stream = _stream(path, file)
    while True:
      number += 1
      try:
        line = stream.readline()
      except (EOFError, OSError, zlib.error) as error:
        unusable.add(
          "the rest of the file cannot be read", Place(path, byte, number), _words(error)
        )
        return
      if not line:
        return
      if line.strip():
        yield Record(Place(path, byte, number), line)
      byte += len(line)


def _tfrecords(path: str, unusable: Unusable) -> Iterator[Record]:
  if path.endswith(".gz"):
    yield from _compressed(path, unusable)
    return
  byte, at_once, size = 0, _AT_ONCE, tf.io.gfile.stat(path).length
  while byte < size:
    try:
      contents = tfrecords(path, byte, at_once).numpy()
    except (tf.errors.DataLossError, tf.errors.OutOfRangeError) as error:
      if at_once > 1:  # It is one of the next: find it.
        at_once = 1
        continue
      after = _after(path, byte, size)
      if after is None:
        unusable.add("the rest of the file cannot be read", Place(path, byte), _words(error))
        return
      unusable.add("the checksum of the record does not hold", Place(path, byte))
      byte, at_once = after, _AT_ONCE
      continue
    for content in contents:
      yield Record(Place(path, byte), content)
      byte += 16 + len(content)


def _compressed(path: str, unusable: Unusable) -> Iterator[Record]:
  """Yields the records of a compressed file: what comes behind a damaged place is lost."""
  byte = done = 0
  dataset = tf.data.TFRecordDataset(path, "GZIP", buffer_size=256 << 10)
  for at_once in (_AT_ONCE, 1):  # One by one where some at once cannot be read.
    try:
      for contents in dataset.skip(done).batch(at_once):
        for content in contents.numpy():
          yield Record(Place(path, byte), content)
          byte += 16 + len(content)
          done += 1
      return
    except (tf.errors.DataLossError, tf.errors.OutOfRangeError) as error:
      if at_once == 1:
        unusable.add("the rest of the file cannot be read", Place(path, byte), _words(error))


def _after(path: str, byte: int, size: int) -> int | None:
  """Where the record behind a damaged one begins; None if its length is damaged, too."""
  with tf.io.gfile.GFile(path, "rb") as file:
    file.seek(byte)
    header = file.read(_HEADER.size)
  if len(header) < _HEADER.size or not _length_holds(header):
    return None
  after = byte + 16 + _HEADER.unpack(header)[0]
  return after if after <= size else None


def _words(error: Exception) -> str:
  return " ".join(str(getattr(error, "message", error)).split())
