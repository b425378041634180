"""Where in a file a record is, for messages."""

import gzip
import struct

import tensorflow as tf

_HEADER = struct.Struct("<QI")


def of_line(path: str, begin: int, number: int) -> str:
  """Returns "FILE, line L (byte B)" for a text file's record.

  Args:
    path: the file.
    begin: a byte at which a line begins.
    number: of the record, from there; empty lines are none.
  """
  line, position = 1, 0
  with tf.io.gfile.GFile(path, "rb") as file:
    stream = gzip.GzipFile(fileobj=file) if path.endswith(".gz") else file
    while text := stream.readline():
      if position >= begin and text.removesuffix(b"\n").removesuffix(b"\r"):
        if number == 0:
          break
        number -= 1
      position += len(text)
      line += 1
  return f"{path}, line {line:,} (byte {position:,})"


def of_tfrecord(path: str, begin: int, number: int) -> str:
  """Returns "FILE, the record at byte B" for a TFRecord file's record.

  Arguments as of `of_line`.
  """
  with tf.io.gfile.GFile(path, "rb") as file:
    stream = gzip.GzipFile(fileobj=file) if path.endswith(".gz") else file
    position = begin
    for _ in range(number):
      stream.seek(position)
      header = stream.read(_HEADER.size)
      if len(header) < _HEADER.size:
        break
      position += 16 + _HEADER.unpack(header)[0]
  return f"{path}, the record at byte {position:,}"
