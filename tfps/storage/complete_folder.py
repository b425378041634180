"""Numbered folders that are complete or absent, each known by its manifest.

A folder is written beside its siblings as `writing-<name>`, gets its manifest last, reaches the
disk, and only then takes its name. To be removed it is renamed to `removing-<name>` first. So a
process may end at any moment: what it leaves does not look like a complete folder.

The manifest is a JSON object with a format number and a checksum of its own. One process at a
time writes to a folder of folders: it holds the `tfps.storage.lock`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import tensorflow as tf

from tfps.storage import files
from tfps.storage.fields import FieldError, FileDigest, JsonObject
from tfps.storage.records import Manifest

MANIFEST = "manifest.json"

M = TypeVar("M", bound=Manifest)


@dataclasses.dataclass(frozen=True)
class Sentences:
  """The messages of errors.

  `str.format` puts in {path} of the folder, {manifest}, its path, {format}, which was found,
  {known}, the format that is read, and {problem}, half a sentence.

  Attributes:
    missing: there is no manifest.
    truncated: the manifest is no JSON object with a checksum.
    changed: its checksum does not hold.
    format: it has another format than this version of tfps reads.
    content: a field is wrong.
  """

  missing: str
  truncated: str
  changed: str
  format: str
  content: str


class Prepared(NamedTuple):
  """A folder that is on the disk with all that it holds, and has not its name yet.

  Attributes:
    writing: where it is.
    path: where it will be.
  """

  writing: str
  path: str

  def publish(self) -> str:
    """Gives it its name; once this returns, that is durable. Returns the folder's path."""
    tf.io.gfile.rename(self.writing, self.path)
    files.sync(os.path.dirname(self.path))
    return self.path

  def discard(self) -> None:
    """Removes it, where it has not got its name."""
    files.remove(self.writing)


class CompleteFolders(Generic[M]):
  """One kind of folder with a manifest.

  Args:
    prefix: what a folder's name has before its number.
    format: the number of the manifest's format.
    from_json: makes a manifest of a JSON object whose checksum holds; raises FieldError where a
      field is wrong.
    error: the exception that a bad manifest raises.
    sentences: its messages.
    indent: the indentation of the JSON text; one line by default.
  """

  def __init__(
    self,
    prefix: str,
    format: int,
    from_json: Callable[[JsonObject], M],
    error: type[Exception],
    sentences: Sentences,
    indent: int | None = None,
  ) -> None:
    self.format = format
    self._prefix = prefix
    self._from_json = from_json
    self._error = error
    self._sentences = sentences
    self._indent = indent
    self._complete = re.compile(rf"{re.escape(prefix)}(\d+)")
    self._unfinished = re.compile(rf"(writing|removing)-{re.escape(prefix)}\d+")

  def path_of(self, parent: str, number: int) -> str:
    """The path of the folder with this number."""
    return files.join(parent, self._name(number))

  def exists(self, path: str) -> bool:
    """Whether there is a complete folder at `path`, damaged or not."""
    return tf.io.gfile.exists(files.join(path, MANIFEST))

  def is_name(self, name: object) -> bool:
    """Whether a folder of this kind may have this name."""
    return isinstance(name, str) and self._complete.fullmatch(name) is not None

  def numbers(self, parent: str) -> list[int]:
    """The numbers of the complete folders in `parent`, in order."""
    return [number for number in self._named(parent) if self.exists(self.path_of(parent, number))]

  def newest(self, parent: str) -> int | None:
    """The largest of `numbers`, without a look at all of them; None if there is none."""
    named = reversed(self._named(parent))
    return next((number for number in named if self.exists(self.path_of(parent, number))), None)

  def next_number(self, parent: str) -> int:
    """The number after the largest in `parent`."""
    return max([0, *self.numbers(parent)]) + 1

  def publish(
    self, parent: str, number: int, write: Callable[[str], M], devices: Sequence[str]
  ) -> str:
    """Writes a folder; once this returns, it is durable.

    Args:
      parent: where it goes.
      number: its number.
      write: a function that fills the empty folder at the path that it is given, and returns the
        manifest without `files`.
      devices: where the files are read again for their checksums, each on one of these.

    Returns:
      The folder's path.
    """
    return self.prepare(parent, number, write, devices).publish()

  def prepare(
    self, parent: str, number: int, write: Callable[[str], M], devices: Sequence[str]
  ) -> Prepared:
    """Does all of `publish` but giving the folder its name; the arguments are the same."""
    self.remove_unfinished(parent)
    writing = files.join(parent, f"writing-{self._name(number)}")
    tf.io.gfile.makedirs(writing)
    try:
      self._seal(writing, write(writing), devices)
    except BaseException:
      files.remove(writing)
      raise
    return Prepared(writing, self.path_of(parent, number))

  def remove(self, parent: str, number: int) -> None:
    """Removes a folder; what an interruption leaves of it does not look complete."""
    removing = files.join(parent, f"removing-{self._name(number)}")
    tf.io.gfile.rename(self.path_of(parent, number), removing)
    files.remove(removing)

  def remove_unfinished(self, parent: str) -> None:
    """Removes folders that an earlier process left half written or half removed."""
    for name in _names(parent):
      if self._unfinished.fullmatch(name):
        files.remove(files.join(parent, name))

  def read(self, path: str) -> M:
    """The manifest of the folder at `path`.

    Raises:
      The kind's error: the manifest is missing, damaged, or of a format that this version of tfps
        does not know.
    """
    try:
      with tf.io.gfile.GFile(files.join(path, MANIFEST), "rb") as file:
        content = json.loads(file.read().decode())
      checksum = content.pop("checksum")
      is_whole = checksum == checksum_of(content)
    except tf.errors.NotFoundError:
      raise self._failure(self._sentences.missing, path) from None
    except (ValueError, KeyError, AttributeError, TypeError):
      raise self._failure(self._sentences.truncated, path) from None
    if not is_whole:
      raise self._failure(self._sentences.changed, path)
    found = content.pop("format", None)
    if found != self.format:
      raise self._failure(self._sentences.format, path, format=found)
    try:
      return self._from_json(content)
    except FieldError as error:
      raise self._failure(self._sentences.content, path, problem=error) from None

  def replace(self, path: str, manifest: M) -> None:
    """Puts another manifest in the place of the one of the folder at `path`, in one step."""
    beside = files.join(path, f"new-{MANIFEST}")
    self._write_manifest(beside, manifest)
    files.sync(beside)
    tf.io.gfile.rename(beside, files.join(path, MANIFEST), overwrite=True)
    files.sync(path)

  def _named(self, parent: str) -> list[int]:
    """The numbers of the folders in `parent`, complete or not, in order."""
    matches = map(self._complete.fullmatch, _names(parent))
    return sorted(int(match[1]) for match in matches if match)

  def _name(self, number: int) -> str:
    return f"{self._prefix}{number}"

  def _seal(self, writing: str, manifest: M, devices: Sequence[str]) -> None:
    """Adds the manifest, and brings the whole folder to the disk."""
    names = files.list_files(writing)
    digests = {}
    for name, digest in zip(names, files.measure(writing, names, devices)):
      if digest is None:
        raise FileNotFoundError(f"{files.join(writing, name)} was removed while it was published")
      digests[name] = digest
    self._write_manifest(
      files.join(writing, MANIFEST), dataclasses.replace(manifest, files=digests)
    )
    files.sync_all(writing)

  def _write_manifest(self, path: str, manifest: M) -> None:
    content = {"format": self.format, **manifest.to_json()}
    with tf.io.gfile.GFile(path, "w") as file:
      json.dump({**content, "checksum": checksum_of(content)}, file, indent=self._indent)

  def _failure(self, sentence: str, path: str, **values: Any) -> Exception:
    manifest = files.join(path, MANIFEST)
    return self._error(sentence.format(path=path, manifest=manifest, known=self.format, **values))


class FileDamage(NamedTuple):
  """What is wrong with a file.

  Attributes:
    name: the file's path inside its folder.
    size: its bytes now; None where it is missing.
    expected: what the manifest says of it. Where the sizes agree, the checksums do not.
  """

  name: str
  size: int | None
  expected: FileDigest


def find_damage(
  folder: str,
  expected: Mapping[str, FileDigest],
  devices: Sequence[str],
  read: Collection[str] | None = None,
) -> FileDamage | None:
  """The first file that is not what it was when its folder was published; None if all are.

  Args:
    folder: the folder.
    expected: the files that are looked at, as the manifest has them.
    devices: where files are read, each on one of these.
    read: the files whose checksums are compared beside their sizes; all of them by default.
  """
  for (name, digest), size in zip(expected.items(), files.sizes(folder, expected)):
    if size != digest.bytes:
      return FileDamage(name, size, digest)
  names = list(expected if read is None else read)
  for name, found in zip(names, files.measure(folder, names, devices)):
    if found != expected[name]:
      return FileDamage(name, None if found is None else found.bytes, expected[name])
  return None


def checksum_of(content: JsonObject) -> int:
  """The checksum of a manifest without its field `checksum`, whatever the order of its fields."""
  return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _names(parent: str) -> list[str]:
  """The names in a folder; on some file systems those of folders end in "/"."""
  if not tf.io.gfile.isdir(parent):
    return []
  return [name.rstrip("/") for name in tf.io.gfile.listdir(parent)]
