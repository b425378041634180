"""The files of a checkpoint: where they are, what they hold, and that they reach the disk."""

import contextlib
import os
from concurrent import futures

import tensorflow as tf

from tfps import native
from tfps.storage.paths import join as join

_READERS_PER_DEVICE = 2


def list_files(folder):
  """The paths of all files below `folder`, relative to it, in order."""
  return sorted(
    os.path.relpath(join(where, name), folder)
    for where, _, names in tf.io.gfile.walk(folder)
    for name in names
  )


def measure(folder, names, devices):
  """Reads the named files of `folder`, each on one of `devices`, several at once.

  Returns:
    For each name, in order, {"bytes": int, "crc32c": int}, or None where there is no such file.
  """
  with futures.ThreadPoolExecutor(_READERS_PER_DEVICE * len(devices)) as pool:
    paths = [join(folder, name) for name in names]
    return list(pool.map(_measure, paths, [devices[i % len(devices)] for i in range(len(paths))]))


def _measure(path, device):
  try:
    with tf.device(device):
      size, crc32c = native.ops.tfps_checksum(path=path)
  except tf.errors.NotFoundError:
    return None
  return {"bytes": int(size), "crc32c": int(crc32c)}


def sizes(folder, names):
  """The bytes of the named files of `folder`, in order; None where there is no such file."""
  return [_size(join(folder, name)) for name in names]


def _size(path):
  try:
    return tf.io.gfile.stat(path).length
  except tf.errors.NotFoundError:
    return None


def sync(path):
  """Makes a file or folder outlast a power cut; other file systems than this machine's do so themselves."""
  if "://" in path:
    return
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def sync_all(folder):
  """`sync` for a folder, all folders in it and all files."""
  for where, _, names in tf.io.gfile.walk(folder):
    for name in names:
      sync(join(where, name))
    sync(where)


def remove(folder):
  """Removes a folder with all that is in it, if it is there."""
  with contextlib.suppress(tf.errors.NotFoundError):
    tf.io.gfile.rmtree(folder)
