"""Typed JSON objects: the base classes of manifests and of their parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfps.storage.fields import FileDigest, JsonObject


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
  """A JSON object whose known fields are attributes.

  Attributes:
    further: the fields that this version of tfps does not know. They are kept, so that a manifest
      that a newer version wrote loses nothing when it is written again.
  """

  further: JsonObject = dataclasses.field(default_factory=dict)

  @classmethod
  def further_of(cls, content: JsonObject) -> JsonObject:
    """The fields of a JSON object that are no attributes of this class."""
    known = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in content.items() if name not in known}

  def to_json(self) -> dict[str, Any]:
    """The JSON object; optional fields that are None are left out."""
    known = {
      field.name: _plain(getattr(self, field.name))
      for field in dataclasses.fields(self)
      if field.name != "further"
      and not (field.default is None and getattr(self, field.name) is None)
    }
    return {**self.further, **known}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest(Record):
  """What the file `manifest.json` of a complete folder says.

  Attributes:
    files: the digest of every other file of the folder, by its path; it is filled in when the
      folder is published.
  """

  files: Mapping[str, FileDigest] = dataclasses.field(default_factory=dict)

  def to_json(self) -> dict[str, Any]:
    """The JSON object, with the long list of files at its end."""
    content = super().to_json()
    content["files"] = content.pop("files")
    return content


def _plain(value: Any) -> Any:
  if isinstance(value, Record):
    return value.to_json()
  if isinstance(value, FileDigest):
    return value._asdict()
  if isinstance(value, Mapping):
    return {name: _plain(entry) for name, entry in value.items()}
  if isinstance(value, list):
    return [_plain(entry) for entry in value]
  return value
