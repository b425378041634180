"""Checks of what a manifest holds.

Only tfps writes manifests, but a manifest may be damaged or made up: every field that decides
which file is read, or how, is checked before it is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

JsonObject = Mapping[str, Any]  # A JSON object, as the `json` module reads it.


class FieldError(ValueError):
  """A field of a manifest is wrong; the message is half a sentence."""


class FileDigest(NamedTuple):
  """What a manifest says of one file.

  Attributes:
    bytes: its size.
    crc32c: the checksum of its content.
  """

  bytes: int
  crc32c: int


def is_inside(name: object) -> bool:
  """Whether a path in a manifest is relative to the manifest's folder and stays in it."""
  return (
    isinstance(name, str)
    and len(name) <= 1000
    and all(len(part.encode(errors="replace")) <= 255 for part in name.split("/"))
    and re.fullmatch(r"[^/\\\0]+(/[^/\\\0]+)*", name) is not None
    and not {".", ".."} & set(name.split("/"))
  )


def check_inside(name: object) -> None:
  """Raises FieldError unless `is_inside`."""
  if not is_inside(name):
    raise FieldError(f"it names {name!r:.100}, which is no path inside its folder")


def files(content: JsonObject) -> dict[str, FileDigest]:
  """`content["files"]`: the digest of each file, by its path inside the folder."""
  digests = {}
  for name, file in want(content, "files", dict).items():
    check_inside(name)
    if not isinstance(file, dict) or set(file) != set(FileDigest._fields):
      raise FieldError(f"what it says of file {name!r} is not its size and checksum")
    digests[name] = FileDigest(*(at_least_0(file, field) for field in FileDigest._fields))
  return digests


def tables(content: JsonObject) -> dict[str, JsonObject]:
  """`content["tables"]`: the fields of each table, by a name that can be a folder's."""
  found = want(content, "tables", dict)
  for name, table in found.items():
    check_inside(name)
    if not isinstance(table, dict):
      raise FieldError(f"what it says of table {name!r} is no group of fields")
  return found


def want(content: JsonObject, field: str, kind: type | tuple[type, ...]) -> Any:
  """`content[field]`, which must be there and of `kind`, a type or several."""
  value = content.get(field)
  if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
    raise FieldError(f"its field '{field}' is missing or of the wrong kind")
  return value


def at_least_0(content: JsonObject, field: str) -> int:
  """`content[field]`, which must be a whole number from 0 to 2^63 - 1."""
  value = want(content, field, int)
  if not 0 <= value < 2**63:
    raise FieldError(f"its field '{field}' is {value}")
  return value


def are_numbers(value: object, below: int = 2**63) -> bool:
  """Whether `value` is a list of whole numbers from 0 to `below` - 1."""
  return isinstance(value, list) and all(type(n) is int and 0 <= n < below for n in value)
