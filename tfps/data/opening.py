"""Opening files to index them."""

from __future__ import annotations

import contextlib
import gzip
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from tfps.data import file_systems

REMEDY = "Make the source again, and leave its files alone while it is used."
_REMOTE_SECONDS = 60.0


@contextlib.contextmanager
def opened(path: str, begin: int, length: int | None) -> Iterator[Any]:
  """The file's uncompressed bytes as a stream; a bar shows when reading it takes long."""
  with contextlib.ExitStack() as stack:
    stream = stack.enter_context(tf.io.gfile.GFile(path, "rb"))
    if begin:
      stream.seek(begin)
    bar = tqdm.wrapattr(stream, "read", total=length, desc=f"indexing {path}", delay=2, leave=False)
    stream = stack.enter_context(bar)
    if not path.endswith(".gz"):
      yield stream
      return
    try:
      with gzip.GzipFile(fileobj=stream) as uncompressed:
        yield uncompressed
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
      raise ValueError(f"{path} is not a complete gzip file: {error}.") from None


class Unchanged:
  """Recognises files that are written again, by their size and time.

  Args:
    paths: the files as they are now; of others nothing is known.
  """

  def __init__(self, paths: Iterable[str]):
    self._versions = {path: _version(path) for path in paths}
    self._checked = dict.fromkeys(self._versions, time.monotonic())

  def check(self, path: str) -> None:
    """Raises ValueError if the file is another one now. A remote one is looked at once a minute."""
    now = time.monotonic()
    is_due = file_systems.is_local(path) or now - self._checked.get(path, now) > _REMOTE_SECONDS
    if path not in self._versions or not is_due:
      return
    self._checked[path] = now
    try:
      same = _version(path) == self._versions[path]
    except (FileNotFoundError, tf.errors.NotFoundError):
      raise ValueError(f"{path} is gone since it was indexed. {REMEDY}") from None
    if not same:
      raise ValueError(f"{path} changed: it was written again since it was indexed. {REMEDY}")


def _version(path: str) -> tuple[int, int]:
  """(bytes, when they were written in ns), as far as the file system tells."""
  if file_systems.is_local(path):
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns
  found = tf.io.gfile.stat(path)
  return found.length, found.mtime_nsec


def refuse_parquet(path: str) -> None:
  """Raises ValueError if a file that is to be read by lines or records is a Parquet file."""
  with tf.io.gfile.GFile(path, "rb") as file:
    is_parquet = file.read(4) == b"PAR1" and file.size() >= 12
    if is_parquet:
      file.seek(-4, whence=2)
      is_parquet = file.read(4) == b"PAR1"
  if is_parquet:
    raise ValueError(f"{path} is a Parquet file; set format='parquet', and read its columns.")
