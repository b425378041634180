"""Artifacts: folders that are complete or not there at all, each with a manifest."""

import json
import re
import zlib

import tensorflow as tf

from tfps.errors import ExportError
from tfps.storage import fields, files, lock

MANIFEST = "manifest.json"
FORMAT = 1
_UNFINISHED = re.compile(r"(writing|removing)-\d+/?")


def hold(bases):
  """The `tfps.storage.lock.Hold` of the folder of exports whose bases are in `bases`.

  Raises:
    LockError: another process exports to it.
  """
  folder, _, name = bases.rpartition("/")
  return lock.Hold(folder if folder and name == "base" else bases)


def begin(folder, number):
  """An empty folder to write artifact `number` of `folder` into; what was left unfinished goes."""
  if tf.io.gfile.isdir(folder):
    for name in tf.io.gfile.listdir(folder):
      if _UNFINISHED.fullmatch(name):
        files.remove(files.join(folder, name))
  writing = files.join(folder, f"writing-{number}")
  tf.io.gfile.makedirs(writing)
  return writing


def finish(writing, path, content, devices):
  """Adds the manifest, brings all to the disk, and gives the folder its name.

  Args:
    writing: the folder from `begin`.
    path: its name from now on.
    content: a dict of what JSON has, for the manifest; what is in the files is added.
    devices: where the files are read for their checksums, each on one of these.
  """
  names = files.list_files(writing)
  measured = dict(zip(names, files.measure(writing, names, devices)))
  content = {"format": FORMAT, **content, "files": measured}
  with tf.io.gfile.GFile(files.join(writing, MANIFEST), "w") as file:
    json.dump({**content, "checksum": _checksum(content)}, file, indent=1)
  files.sync_all(writing)
  tf.io.gfile.rename(writing, path)
  files.sync(path.rpartition("/")[0])


def numbers(folder):
  """The numbers of the artifacts in `folder`, in order."""
  if not tf.io.gfile.isdir(folder):
    return []
  names = (name.rstrip("/") for name in tf.io.gfile.listdir(folder))
  return sorted(
    int(name)
    for name in names
    if name.isdecimal() and tf.io.gfile.exists(files.join(folder, name, MANIFEST))
  )


def remove_old(folder, keep):
  """Removes all artifacts but the last `keep`."""
  for number in numbers(folder)[:-keep]:
    # Renamed first: one that is half removed must not look whole.
    removing = files.join(folder, f"removing-{number}")
    tf.io.gfile.rename(files.join(folder, str(number)), removing)
    files.remove(removing)


def read(path):
  """The manifest of an artifact.

  Raises:
    ExportError: it is missing, damaged, or of a format that this version does not know.
  """
  try:
    with tf.io.gfile.GFile(files.join(path, MANIFEST), "rb") as file:
      content = json.loads(file.read().decode())
    checksum = content.pop("checksum")
    whole = checksum == _checksum(content)
  except tf.errors.NotFoundError:
    raise ExportError(
      f"{path} has no {MANIFEST}: it is no artifact of tfps, or not a whole one."
    ) from None
  except (ValueError, KeyError, AttributeError, TypeError):
    whole = False
  if not whole:
    raise ExportError(f"{files.join(path, MANIFEST)} is truncated or was changed: export again.")
  if content.get("format") != FORMAT:
    raise ExportError(
      f"{path} has format {content.get('format')}, and this version of tfps reads format {FORMAT}."
    )
  try:
    _check(content)
  except fields.ShapeError as error:
    raise ExportError(f"{files.join(path, MANIFEST)} was changed: {error}; export again.") from None
  return content


def _check(content):
  """Raises ShapeError unless a manifest has what is read of it, and nothing that leads out of its folder."""
  fields.check_files(content)
  is_delta = fields.want(content, "kind", str) == "delta"
  fields.want(content, "lineage", str)
  for field in ("base", "sequence") if is_delta else ("version",):
    fields.at_least_0(content, field)
  if is_delta:
    fields.want(content, "captured_at", (int, float))
  for _, table in fields.tables(content):
    for field in ("rows", "row_width", "removed") if is_delta else ("rows", "row_width"):
      fields.at_least_0(table, field)


def check_files(path, content, devices=("/device:CPU:0",)):
  """Raises ExportError if a file that the manifest names is missing or not what it was."""
  wanted = content["files"]
  for (name, there), found in zip(wanted.items(), files.measure(path, wanted, list(devices))):
    if found is None:
      raise ExportError(f"{files.join(path, name)} is missing: export again.")
    if found != there:
      raise ExportError(
        f"{files.join(path, name)} is truncated or was changed: its checksum does not hold; "
        "export again."
      )


def _checksum(content):
  return zlib.crc32(json.dumps(content, sort_keys=True).encode())
