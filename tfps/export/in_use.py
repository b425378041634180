"""The bases that stay: those that a running server has, as `tfps sync` notes, and pinned ones.

Beside `base` and `delta`, a folder of exports has `served/<server>.json` for each server that
`tfps sync` asks, with the versions that it serves, and `pinned/<version>`, an empty file, for each
version that a person wants to stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import tensorflow as tf

from tfps.storage import files

_SERVED, _PINNED = "served", "pinned"


def note_served(folder: str, address: str, versions: Iterable[int]) -> str:
  """Notes which versions a server serves; returns the path of the note.

  Args:
    folder: the folder of exports.
    address: the server's "host:port".
    versions: all that it serves now.
  """
  path = files.join(folder, _SERVED, re.sub(r"[^\w.-]", "_", address) + ".json")
  tf.io.gfile.makedirs(files.join(folder, _SERVED))
  with tf.io.gfile.GFile(f"{path}.new", "w") as file:
    json.dump({"server": address, "versions": sorted(versions)}, file)
  tf.io.gfile.rename(f"{path}.new", path, overwrite=True)
  return path


def pin(folder: str, version: int) -> None:
  """Lets a version stay whatever `keep` says."""
  tf.io.gfile.makedirs(files.join(folder, _PINNED))
  with tf.io.gfile.GFile(files.join(folder, _PINNED, str(version)), "w") as file:
    file.write("")  # Without it there would be no file.


def unpin(folder: str, version: int) -> bool:
  """Takes a pin away; returns whether there was one."""
  path = files.join(folder, _PINNED, str(version))
  there = tf.io.gfile.exists(path)
  if there:
    tf.io.gfile.remove(path)
  return there


def pinned(folder: str) -> list[int]:
  """The pinned versions, in order."""
  return sorted(int(name) for name in _names(folder, _PINNED) if name.isdecimal())


def reasons(folder: str) -> dict[int, str]:
  """{version: why it stays} of all that are in use; a note that cannot be read counts for none."""
  found: dict[int, str] = {}
  for name in _names(folder, _SERVED):
    path = files.join(folder, _SERVED, name)
    if not name.endswith(".json"):
      continue
    try:
      with tf.io.gfile.GFile(path) as file:
        content = json.loads(file.read())
      versions = [int(version) for version in content["versions"]]
    except (ValueError, KeyError, TypeError, tf.errors.NotFoundError):
      continue
    for version in versions:
      found[version] = f"{content.get('server', name)} serves it, says {path}"
  for version in pinned(folder):
    found[version] = f"it is pinned, by {files.join(folder, _PINNED, str(version))}"
  return found


def _names(folder: str, kind: str) -> list[str]:
  path = files.join(folder, kind)
  return sorted(tf.io.gfile.listdir(path)) if tf.io.gfile.isdir(path) else []
