"""Files on any of TensorFlow's file systems: listed, measured, synced and removed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Sequence
from concurrent import futures

import tensorflow as tf

from tfps import native
from tfps.storage.fields import FileDigest
from tfps.storage.paths import join

__all__ = ["join", "list_files", "measure", "remove", "sizes", "sync", "sync_all"]

_READERS_PER_DEVICE = 2


def list_files(folder: str) -> list[str]:
  """The paths of all files below `folder`, relative to it, in order."""
  return sorted(
    os.path.relpath(join(where, name), folder)
    for where, _, names in tf.io.gfile.walk(folder)
    for name in names
  )


def measure(
  folder: str, names: Collection[str], devices: Sequence[str | None]
) -> list[FileDigest | None]:
  """Reads the named files of `folder`, each on one of `devices`, several at once.

  Returns:
    The digest of each file, in order; None where there is no such file.
  """
  with futures.ThreadPoolExecutor(_READERS_PER_DEVICE * len(devices)) as pool:
    paths = [join(folder, name) for name in names]
    return list(pool.map(_measure, paths, [devices[i % len(devices)] for i in range(len(paths))]))


def _measure(path: str, device: str | None) -> FileDigest | None:
  try:
    with tf.device(device):
      size, crc32c = native.ops.tfps_checksum(path=path)
  except tf.errors.NotFoundError:
    return None
  return FileDigest(int(size), int(crc32c))


def sizes(folder: str, names: Collection[str]) -> list[int | None]:
  """The bytes of the named files of `folder`, in order; None where there is no such file."""
  return [_size(join(folder, name)) for name in names]


def _size(path: str) -> int | None:
  try:
    return tf.io.gfile.stat(path).length
  except tf.errors.NotFoundError:
    return None


def sync(path: str) -> None:
  """Makes a file or folder of this machine survive a power cut; other file systems do so anyway."""
  if "://" in path:
    return
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def sync_all(folder: str) -> None:
  """`sync` for a folder with all its folders and files."""
  for where, _, names in tf.io.gfile.walk(folder):
    for name in names:
      sync(join(where, name))
    sync(where)


def remove(folder: str) -> None:
  """Removes a folder with all its content, if it is there."""
  with contextlib.suppress(tf.errors.NotFoundError):
    tf.io.gfile.rmtree(folder)
