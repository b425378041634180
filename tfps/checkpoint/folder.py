"""The folders that checkpoints are."""

from __future__ import annotations

import os

import tensorflow as tf

from tfps.checkpoint.manifest import CheckpointManifest
from tfps.errors import CheckpointError
from tfps.storage import paths
from tfps.storage.complete_folder import MANIFEST, CompleteFolders, Sentences

# Half sentences: who reads a checkpoint names it.
CHECKPOINTS = CompleteFolders(
  prefix="checkpoint-",
  format=2,
  from_json=CheckpointManifest.from_json,
  error=CheckpointError,
  sentences=Sentences(
    missing=f"{MANIFEST} is missing",
    truncated=f"{MANIFEST} is truncated or was changed",
    changed=f"{MANIFEST} was changed: its checksum does not hold",
    format=f"{MANIFEST} has format {{format}}, and this version of tfps reads format {{known}}",
    content=f"{MANIFEST} is changed: {{problem}}",
  ),
)


def find(path: str | os.PathLike[str]) -> str:
  """`path` if it is a checkpoint, or the newest one in it; CheckpointError if there is none."""
  path = paths.absolute(path)
  if CHECKPOINTS.exists(path):
    return path
  if not tf.io.gfile.isdir(path):
    raise CheckpointError(f"There is no checkpoint at {path}: there is no such folder.")
  found = CHECKPOINTS.numbers(path)
  if not found:
    raise CheckpointError(
      f"There is no checkpoint at {path}: it has no {MANIFEST}, and no checkpoints are in it."
    )
  return CHECKPOINTS.path_of(path, found[-1])
