"""Files wherever they are: those that TensorFlow opens, and else those of fsspec."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any, NamedTuple

import tensorflow as tf


class Stat(NamedTuple):
  """What changes when a file is written again."""

  size: int
  changed: str  # when, as its file system tells it


def exists(path: str) -> bool:
  """Whether there is a file or folder of this name."""
  if is_tensorflows(path):
    return tf.io.gfile.exists(path)
  system, inner = _fsspec(path)
  return system.exists(inner)


def glob(pattern: str) -> list[str]:
  """The paths that a pattern matches, sorted."""
  if is_tensorflows(pattern):
    return sorted(tf.io.gfile.glob(pattern))
  system, inner = _fsspec(pattern)
  return sorted(system.unstrip_protocol(path) for path in system.glob(inner))


def list_folder(folder: str) -> tuple[list[str], list[str]]:
  """(names of the folders, names of the files) in a folder, each sorted."""
  found: tuple[list[str], list[str]] = ([], [])
  if is_local(folder):
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
      for entry in entries:
        found[not entry.is_dir()].append(entry.name)
    return sorted(found[0]), sorted(found[1])
  if is_tensorflows(folder):
    with contextlib.suppress(tf.errors.NotFoundError):
      for name in tf.io.gfile.listdir(folder):
        inner = name.rstrip("/")
        # Each question for what it is costs a request: only a folder of a partition may matter.
        maybe = "=" in inner or name != inner
        found[not (maybe and tf.io.gfile.isdir(f"{folder}/{inner}"))].append(inner)
    return sorted(found[0]), sorted(found[1])
  system, inner = _fsspec(folder)
  for entry in system.ls(inner, detail=True) if system.exists(inner) else ():
    found[entry["type"] != "directory"].append(entry["name"].rstrip("/").rpartition("/")[2])
  return sorted(found[0]), sorted(found[1])


def stat(path: str) -> Stat:
  """Returns the `Stat` of a file."""
  if is_local(path):
    found = os.stat(path)
    return Stat(found.st_size, f"{found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}")
  if is_tensorflows(path):
    found = tf.io.gfile.stat(path)  # Its times are in whole seconds, and remote ones, too.
    return Stat(found.length, str(found.mtime_nsec))
  system, inner = _fsspec(path)
  return Stat(system.size(inner), str(system.ukey(inner)))


def open_bytes(path: str) -> Any:
  """A binary file object as Python has them."""
  if is_tensorflows(path):
    return _GFile(path)
  system, inner = _fsspec(path)
  return system.open(inner, "rb")


def is_local(path: str) -> bool:
  """Whether Python's own `open` opens it."""
  return "://" not in path


class _GFile(io.RawIOBase):
  """A file of tf.io.gfile, which lacks some methods of Python's files."""

  def __init__(self, path: str):
    self._file = tf.io.gfile.GFile(path, "rb")

  def readable(self) -> bool:
    return True

  def seekable(self) -> bool:
    return True

  def read(self, size: int | None = -1) -> bytes:
    return self._file.read(-1 if size is None else size)

  def seek(self, offset: int, whence: int = 0) -> int:
    self._file.seek(offset, whence=whence)
    return self._file.tell()

  def tell(self) -> int:
    return self._file.tell()

  def close(self) -> None:
    self._file.close()
    super().close()


def is_tensorflows(path: str) -> bool:
  """Whether ops of TensorFlow's open it."""
  return is_local(path) or path.partition("://")[0] in tf.io.gfile.get_registered_schemes()


def _fsspec(path: str) -> tuple[Any, str]:
  """The file system of a path and the path within it."""
  try:
    import fsspec
  except ImportError as error:
    scheme = path.partition("://")[0]
    raise ValueError(
      f"{path} is on a file system that TensorFlow does not know, {scheme}, on which fsspec reads "
      "Parquet: run `pip install fsspec`, and its package for it, such as s3fs, for every process."
    ) from error
  return fsspec.core.url_to_fs(path)
