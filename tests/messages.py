"""The messages between worker and server in NumPy, as docs/design.md describes them."""

import struct
import typing

import numpy as np
import tensorflow as tf

_HEADER = struct.Struct("<IHBBqq")  # magic, width, dtype, flags, n, version
# And the step, how many runs, nonfinite counts, how many reader runs, nothing.
_PUSH_HEADER = struct.Struct("<IHBBqqqqqIIII")
_PULLED_MAGIC, _PUSH_MAGIC = (int.from_bytes(name, "little") for name in (b"TPL1", b"TPH2"))
_DTYPES = [np.float32, tf.bfloat16.as_numpy_dtype, np.float16]
NONE = 2**32 - 1  # the reference of an absent row


class Pulled(typing.NamedTuple):
  version: int
  references: np.ndarray | None  # uint32 [n]
  rows: np.ndarray  # [n, width], in the dtype of the message


class Push(typing.NamedTuple):
  version: int
  step: tuple  # (ticket, batch, finished_below)
  keys: np.ndarray  # int64 [n]
  slots: np.ndarray  # int32 [n]
  readers: np.ndarray | None  # int32 [n]
  references: np.ndarray | None  # uint32 [n]
  counts: np.ndarray  # [n, 2] show and click, in the dtype of the message
  step_show: np.ndarray | None  # float32 [n], NaN where a row is frozen
  gradients: np.ndarray  # [n, width], likewise
  nonfinite_counts: int  # examples


class _Parts:
  """Takes one part after the other."""

  def __init__(self, message, begin):
    self._message = message
    self._at = begin

  def take(self, dtype, *shape):
    count = int(np.prod(shape))
    part = np.frombuffer(self._message, dtype, count, self._at).reshape(shape)
    end = self._at + part.nbytes
    self._at = -(-end // 8) * 8
    assert not any(self._message[end : self._at])
    return part

  def check_end(self):
    assert self._at == len(self._message)


def read_pulled(message):
  """The `Pulled` of a uint8 array."""
  message = message.tobytes()
  magic, width, dtype, flags, n, version = _HEADER.unpack_from(message)
  assert magic == _PULLED_MAGIC and flags in (0, 1, 8, 9)
  parts = _Parts(message, _HEADER.size)
  references = parts.take(np.uint32, n) if flags & 1 else None
  if flags & 8:
    parts.take(np.float32, n, 2)
  rows = parts.take(_DTYPES[dtype], n, width)
  parts.check_end()
  return Pulled(version, references, rows)


def make_pulled(references, width, version=0):
  """A message of rows of zeros with these references."""
  n = len(references)
  parts = np.zeros(n + n % 2 + (n * width + 1) // 2 * 2, np.uint32)
  parts[:n] = references
  header = _HEADER.pack(_PULLED_MAGIC, width, 0, 1, n, version)
  return np.frombuffer(header + parts.tobytes(), np.uint8)


def read_push(message):
  """The `Push` of a uint8 array."""
  message = message.tobytes()
  magic, width, dtype, flags, n, version, *others = _PUSH_HEADER.unpack_from(message)
  *step, runs, nonfinite, reader_runs, unused = others
  assert magic == _PUSH_MAGIC and flags < 8 and unused == 0
  parts = _Parts(message, _PUSH_HEADER.size)
  slots, readers = (np.repeat(*parts.take(np.int32, count, 2).T) for count in (runs, reader_runs))
  keys = parts.take(np.int64, n)
  references = parts.take(np.uint32, n) if flags & 1 else None
  counts = parts.take(np.uint16 if flags & 2 else np.float32, n, 2)
  step_show = parts.take(np.float32, n) if flags & 4 else None
  gradients = parts.take(_DTYPES[dtype], n, width)
  parts.check_end()
  readers = readers if reader_runs else None
  return Push(
    version, tuple(step), keys, slots, readers, references, counts, step_show, gradients, nonfinite
  )
