"""The folders that bases and deltas are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import tensorflow as tf

from tfps.errors import ExportError
from tfps.export import in_use, manifests
from tfps.export.manifests import Artifact, ArtifactManifest, BaseManifest, DeltaManifest
from tfps.storage import complete_folder, files, lock
from tfps.storage.complete_folder import MANIFEST, CompleteFolders, Sentences

_DAMAGED = "{manifest} is truncated or was changed: export again."

ARTIFACTS: CompleteFolders[Artifact] = CompleteFolders(
  prefix="",
  format=1,
  from_json=manifests.from_json,
  error=ExportError,
  sentences=Sentences(
    missing=f"{{path}} has no {MANIFEST}: it is no artifact of tfps, or not a whole one.",
    truncated=_DAMAGED,
    changed=_DAMAGED,
    format="{path} has format {format}, and this version of tfps reads format {known}.",
    content="{manifest} was changed: {problem}; export again.",
  ),
  indent=1,
)

K = TypeVar("K", BaseManifest, DeltaManifest)


def hold(bases: str) -> lock.Hold:
  """The lock of the folder of exports whose bases are in `bases`.

  Raises:
    LockError: another process exports to it.
  """
  folder, _, name = bases.rpartition("/")
  return lock.Hold(folder if folder and name == "base" else bases)


def read_as(path: str, kind: type[K], remedy: str = ".") -> K:
  """The manifest of an artifact that must be a base or a delta, by the class of its manifest.

  Args:
    path: the artifact.
    kind: `BaseManifest` or `DeltaManifest`.
    remedy: ends the sentence of an artifact of the other kind.

  Raises:
    ExportError: it is of the other kind, or its manifest is missing or damaged.
  """
  manifest = ARTIFACTS.read(path)
  if not isinstance(manifest, kind) or manifest.kind != kind.kind:
    raise ExportError(f"{path} is a {manifest.kind}, and a {kind.kind} is wanted{remedy}")
  return manifest


def remove_old(folder: str, keep: int) -> dict[int, str]:
  """Removes all bases but the last `keep` and those in use, and deltas that no base needs.

  Args:
    folder: the folder of exports.
    keep: how many stay.

  Returns:
    {version: why it stays} of older ones that are in use.
  """
  bases, deltas = files.join(folder, "base"), files.join(folder, "delta")
  used = in_use.reasons(folder)
  numbers = ARTIFACTS.numbers(bases)
  for number in numbers[:-keep]:
    if number not in used:
      ARTIFACTS.remove(bases, number)
  left = ARTIFACTS.numbers(bases)
  needed = {_first_base(files.join(bases, str(number))) for number in left} | set(left)
  if tf.io.gfile.isdir(deltas):
    for name in tf.io.gfile.listdir(deltas):
      name = name.rstrip("/")
      if name.isdecimal() and int(name) < numbers[-1] and int(name) not in needed:
        files.remove(files.join(deltas, name))
  return {number: used[number] for number in numbers[:-keep] if number in used}


def _first_base(path: str) -> int:
  return read_as(path, BaseManifest).first_base


def check_files(
  path: str, manifest: ArtifactManifest, devices: Sequence[str] = ("/device:CPU:0",)
) -> None:
  """Raises ExportError if a file of an artifact is missing, or is not as it was written."""
  found = complete_folder.find_damage(path, manifest.files, devices)
  if found is None:
    return
  if found.size is None:
    raise ExportError(f"{files.join(path, found.name)} is missing: export again.")
  raise ExportError(
    f"{files.join(path, found.name)} is truncated or was changed: its checksum does not hold; "
    "export again."
  )
