"""The folder that holds the checkpoints of a run: their names, and how one comes to be."""

import re

import tensorflow as tf

from tfps.checkpoint import manifest
from tfps.errors import CheckpointError
from tfps.storage import files, paths

_COMPLETE = re.compile(r"checkpoint-(\d+)/?")
_TEMPORARY = re.compile(r"(writing|removing)-checkpoint-\d+/?")


def path_of(folder, number):
  """The path of the checkpoint with this number."""
  return files.join(folder, f"checkpoint-{number}")


def numbers(folder):
  """The numbers of the checkpoints in order; one without a manifest is none."""
  found = (int(_COMPLETE.fullmatch(name)[1]) for name in _names(folder, _COMPLETE))
  return sorted(number for number in found if is_checkpoint(path_of(folder, number)))


def is_checkpoint(path):
  """Whether there is a checkpoint at `path`, damaged or not."""
  return tf.io.gfile.exists(files.join(path, manifest.NAME))


def find(path):
  """`path` if it is a checkpoint, or the newest one in it; CheckpointError if there is none."""
  path = paths.absolute(path)
  if is_checkpoint(path):
    return path
  if not tf.io.gfile.isdir(path):
    raise CheckpointError(f"There is no checkpoint at {path}: there is no such folder.")
  found = numbers(path)
  if not found:
    raise CheckpointError(
      f"There is no checkpoint at {path}: it has no {manifest.NAME}, and no checkpoints are in it."
    )
  return path_of(path, found[-1])


def remove_unfinished(folder):
  """Removes what an earlier process left half written or half removed."""
  for name in _names(folder, _TEMPORARY):
    files.remove(files.join(folder, name))


def remove(folder, number):
  """Removes a checkpoint; what an interruption leaves of it does not look like one."""
  removing = files.join(folder, f"removing-checkpoint-{number}")
  tf.io.gfile.rename(path_of(folder, number), removing)
  files.remove(removing)


def publish(folder, write, devices):
  """Writes the next checkpoint beside the others, and renames it once it is on the disk.

  Args:
    folder: where the checkpoints are.
    write: a function of the path to write to; returns the manifest's content without `files`.
    devices: where the files are read again for their checksums.

  Returns:
    The checkpoint's path.
  """
  number = max([0, *numbers(folder)]) + 1
  writing = files.join(folder, f"writing-checkpoint-{number}")
  files.remove(writing)
  tf.io.gfile.makedirs(writing)
  try:
    content = write(writing)
    names = files.list_files(writing)
    measured = dict(zip(names, files.measure(writing, names, devices)))
    manifest.write(writing, {**content, "files": measured})
    files.sync_all(writing)
  except BaseException:
    files.remove(writing)
    raise
  path = path_of(folder, number)
  tf.io.gfile.rename(writing, path)
  files.sync(folder)
  return path


def _names(folder, pattern):
  if not tf.io.gfile.isdir(folder):
    return []
  return [name for name in tf.io.gfile.listdir(folder) if pattern.fullmatch(name)]
