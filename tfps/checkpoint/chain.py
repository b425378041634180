"""A checkpoint with those before it that it needs: a full one, and increments on top of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from tfps.checkpoint.folder import CHECKPOINTS
from tfps.checkpoint.manifest import CheckpointManifest
from tfps.errors import CheckpointError
from tfps.storage import files
from tfps.storage.complete_folder import MANIFEST, find_damage

# Of which files the checksum is compared, beside the size: of "all"; of all but those with rows
# ("not rows"), whose tensors have checksums of their own that are compared when they are read; or
# of "none".
Checksums = Literal["all", "not rows", "none"]


class Link(NamedTuple):
  """One checkpoint of a chain.

  Attributes:
    path: its folder.
    manifest: its manifest.
  """

  path: str
  manifest: CheckpointManifest


def before(link: Link) -> str | None:
  """The path of the checkpoint that an increment goes on top of; None for a full one."""
  name = link.manifest.increment_of
  if name is None:
    return None
  if not CHECKPOINTS.is_name(name):
    raise CheckpointError(
      f"{MANIFEST} names '{name}', which is no checkpoint, as the one before it"
    )
  return files.join(link.path.rpartition("/")[0] or ".", name)


def read(path: str) -> list[Link]:
  """The chain of a checkpoint: the full one first, the checkpoint itself last.

  Raises:
    CheckpointError: in half a sentence, which manifest is missing or damaged.
  """
  links = [Link(path, CHECKPOINTS.read(path))]
  while (earlier := before(links[0])) is not None:
    if earlier in (link.path for link in links):
      raise CheckpointError(f"{MANIFEST} is changed: {earlier} would come before itself")
    try:
      links.insert(0, Link(earlier, CHECKPOINTS.read(earlier)))
    except CheckpointError as error:
      raise CheckpointError(f"it goes over {earlier}, and there {error}") from None
  return links


def read_complete(path: str, devices: Sequence[str], *, checksums: Checksums = "all") -> list[Link]:
  """The chain of a checkpoint, all of whose files that a restore reads are as they were written.

  Args:
    path: the checkpoint.
    devices: where files are read, each on one of these.
    checksums: whose checksums are compared beside the sizes.

  Raises:
    CheckpointError: in half a sentence, what is wrong with which file.
  """
  links = read(path)
  for link in links:
    # The dense weights of the checkpoints before it are not restored.
    problem = damage(link, devices, only_rows=link.path != path, checksums=checksums)
    if problem:
      where = "" if link.path == path else f"it goes over {link.path}, and there "
      raise CheckpointError(where + problem)
  return links


def damage(
  link: Link, devices: Sequence[str], *, only_rows: bool = False, checksums: Checksums = "all"
) -> str | None:
  """What is wrong with the files of one checkpoint, as half a sentence; None if nothing is.

  Args:
    link: the checkpoint.
    devices: where files are read, each on one of these.
    only_rows: leave out the dense weights.
    checksums: whose checksums are compared beside the sizes.
  """
  expected = {
    name: file
    for name, file in link.manifest.files.items()
    if not (only_rows and name.startswith("dense/"))
  }
  read = {
    "all": list(expected),
    "not rows": [name for name in expected if not _is_rows(name)],
    "none": [],
  }[checksums]
  found = find_damage(link.path, expected, devices, read)
  if found is None:
    return None
  if found.size is None:
    return f"{found.name} is missing"
  if found.size != found.expected.bytes:
    return f"{found.name} has {found.size} bytes instead of {found.expected.bytes}"
  return f"{found.name} was changed: its checksum does not hold"


def _is_rows(name: str) -> bool:
  return not name.startswith("dense/") and ".data-" in name
