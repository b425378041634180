"""The manifest: the JSON file that says what a checkpoint holds, and by which it is known to be complete."""

import json
import re
import zlib

import tensorflow as tf

from tfps.checkpoint import files
from tfps.checkpoint.errors import CheckpointError

NAME = "manifest.json"
CHECKPOINT = re.compile(r"checkpoint-(\d+)")
FORMAT = 2


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


def before(folder, content):
  """The path of the checkpoint that the one in `folder` is put over; None if it is a full one."""
  name = content["increment_of"]
  if name is None:
    return None
  if not CHECKPOINT.fullmatch(name):
    raise CheckpointError(f"{NAME} names '{name}', which is no checkpoint, as the one before it")
  return files.join(folder.rpartition("/")[0] or ".", name)


def chain(folder):
  """[(folder, manifest)]: the full checkpoint, then each one that is put over those before, up to that in `folder`.

  Raises:
    CheckpointError: as `read`.
  """
  links = [(folder, read(folder))]
  while (earlier := before(*links[0])) is not None:
    if earlier in (path for path, _ in links):
      raise CheckpointError(f"{NAME} is changed: {earlier} would come before itself")
    try:
      links.insert(0, (earlier, read(earlier)))
    except CheckpointError as error:
      raise CheckpointError(f"it goes over {earlier}, and there {error}") from None
  return links


def damage(folder, content, devices, wanted=None):
  """What is wrong with the files that a manifest names, as half a sentence; None if nothing is.

  Args:
    folder: the checkpoint's folder.
    content: its manifest, from `read`.
    devices: where the files are read, each on one of these.
    wanted: function of a file's name, whether to look at it; all by default.
  """
  expected = {
    name: measured for name, measured in content["files"].items() if not wanted or wanted(name)
  }
  for (name, there), found in zip(expected.items(), files.measure(folder, expected, devices)):
    if found is None:
      return f"{name} is missing"
    if found["bytes"] != there["bytes"]:
      return f"{name} has {found['bytes']} bytes instead of {there['bytes']}"
    if found != there:
      return f"{name} was changed: its checksum does not hold"
  return None


def _checksum(content):
  return zlib.crc32(json.dumps(content, sort_keys=True).encode())
