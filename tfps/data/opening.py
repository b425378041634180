"""Opening files to index them."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tqdm import tqdm


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


def refuse_parquet(path: str) -> None:
  """Raises ValueError if a file that is to be read by lines or records is a Parquet file."""
  with tf.io.gfile.GFile(path, "rb") as file:
    is_parquet = file.read(4) == b"PAR1" and file.size() >= 12
    if is_parquet:
      file.seek(-4, whence=2)
      is_parquet = file.read(4) == b"PAR1"
  if is_parquet:
    raise ValueError(f"{path} is a Parquet file; set format='parquet', and read its columns.")
