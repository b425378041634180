"""Columns of numbers in memory or in files, read from their beginning in chunks."""

import math
from collections.abc import Sequence
from typing import IO

import numpy as np
import numpy.typing as npt
import tensorflow as tf


class ArrayColumn:
  """A column in memory.

  Args:
    name: what errors call it.
    array: [n, ...].
  """

  def __init__(self, name: str, array: npt.ArrayLike) -> None:
    self.name = name
    self._array = np.asarray(array)
    self._at = 0
    _check_dtype(name, self._array.dtype)
    self.dtype, self.shape = self._array.dtype, self._array.shape

  def read(self, count: int) -> np.ndarray:
    """The next `count` rows, fewer at the end."""
    self._at += count
    return self._array[self._at - count : self._at]


class RawColumn:
  """A file that holds nothing but the numbers, one after the other.

  Args:
    name: its path.
    file: binary file at its first number.
    dtype, shape: of the column.
  """

  def __init__(
    self, name: str, file: IO[bytes], dtype: npt.DTypeLike, shape: Sequence[int]
  ) -> None:
    self.name, self.dtype, self.shape = name, np.dtype(dtype), tuple(shape)
    self._file = file
    self._left = self.shape[0]
    _check_dtype(name, self.dtype)

  @property
  def nbytes(self) -> int:
    """How many bytes the numbers take."""
    return self.dtype.itemsize * math.prod(self.shape)

  def read(self, count: int) -> np.ndarray:
    """The next `count` rows, fewer at the end; raises ValueError if the file ends before."""
    count = min(count, self._left)
    self._left -= count
    shape = (count, *self.shape[1:])
    size = self.dtype.itemsize * math.prod(shape)
    data = self._file.read(size)
    if len(data) != size:
      raise ValueError(f"{self.name} is truncated: it ends before its {self.shape[0]:,} rows.")
    return np.frombuffer(data, self.dtype).reshape(shape)


Column = ArrayColumn | RawColumn


def npy_column(name: str, file: IO[bytes], size: int) -> RawColumn:
  """A `RawColumn` of a file in NumPy's .npy format.

  Args:
    name: its path.
    file: binary file at its beginning.
    size: bytes of the whole file.

  Raises:
    ValueError: it is no such file, is truncated, or holds something else than numbers or text.
  """
  try:
    version = np.lib.format.read_magic(file)
    read = {
      (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0
    }[version]  # fmt: skip
    shape, fortran_order, dtype = read(file)
  except (ValueError, KeyError, EOFError, tf.errors.OpError) as error:
    raise ValueError(f"{name} is no file in NumPy's .npy format, or is truncated.") from error
  if fortran_order and len(shape) > 1:
    raise ValueError(f"{name} is stored column after column: save np.ascontiguousarray(values).")
  if not shape:
    raise ValueError(f"{name} holds a single number, and no array.")
  column = RawColumn(name, file, dtype, shape)
  if size - file.tell() != column.nbytes:
    raise ValueError(
      f"{name} is truncated or was changed: it has {size - file.tell():,} bytes of numbers, and "
      f"by its header {column.nbytes:,}."
    )
  return column


def open_file(path: str) -> tuple[IO[bytes], int]:
  """Opens a file on any of TensorFlow's file systems; returns it, and its size in bytes.

  Raises:
    FileNotFoundError: there is none.
  """
  if not tf.io.gfile.exists(path):
    raise FileNotFoundError(f"There is no file {path}.")
  return tf.io.gfile.GFile(path, "rb"), tf.io.gfile.stat(path).length


def _check_dtype(name: str, dtype: np.dtype) -> None:
  if dtype.kind not in "biufUSO":
    raise ValueError(f"{name} holds {dtype}, which are neither numbers nor text.")
