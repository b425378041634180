"""The manifest: the JSON file that says what a checkpoint holds, and by which it is known to be complete."""

import json
import zlib

import tensorflow as tf

from tfps.checkpoint import files
from tfps.checkpoint.errors import CheckpointError

NAME = "manifest.json"
FORMAT = 1


def write(folder, content):
  """Writes the manifest of a checkpoint, whose other files are there, with a checksum of its own.

  Args:
    folder: the checkpoint's folder.
    content: a dict of what JSON has.
  """
  content = {"format": FORMAT, **content}
  with tf.io.gfile.GFile(files.join(folder, NAME), "w") as file:
    json.dump({**content, "checksum": _checksum(content)}, file)


def read(folder):
  """The manifest as a dict.

  Raises:
    CheckpointError: it is missing, damaged or of a format that this version of tfps does not know.
  """
  try:
    with tf.io.gfile.GFile(files.join(folder, NAME), "rb") as file:
      content = json.loads(file.read().decode())
    checksum = content.pop("checksum")
  except tf.errors.NotFoundError:
    raise CheckpointError(f"{NAME} is missing") from None
  except (ValueError, KeyError, AttributeError, TypeError):
    raise CheckpointError(f"{NAME} is truncated or was changed") from None
  if checksum != _checksum(content):
    raise CheckpointError(f"{NAME} was changed: its checksum does not hold")
  if content["format"] != FORMAT:
    raise CheckpointError(
      f"{NAME} has format {content['format']}, and this version of tfps reads format {FORMAT}"
    )
  return content


def damage(folder, content, devices):
  """What is wrong with the files that a manifest names, as half a sentence; None if nothing is.

  Args:
    folder: the checkpoint's folder.
    content: its manifest, from `read`.
    devices: where the files are read, each on one of these.
  """
  expected = content["files"]
  for (name, wanted), found in zip(expected.items(), files.measure(folder, expected, devices)):
    if found is None:
      return f"{name} is missing"
    if found["bytes"] != wanted["bytes"]:
      return f"{name} has {found['bytes']} bytes instead of {wanted['bytes']}"
    if found != wanted:
      return f"{name} was changed: its checksum does not hold"
  return None


def _checksum(content):
  return zlib.crc32(json.dumps(content, sort_keys=True).encode())
