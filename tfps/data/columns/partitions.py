"""Folders that are named for the values of a key, such as dt=2026-01-01/hour=03."""

from __future__ import annotations

import urllib.parse

NULL = "__HIVE_DEFAULT_PARTITION__"


def key_of(folder: str) -> tuple[str, str]:
  """(key, value) of a folder's name key=value; ("", "") of another one. `NULL` is a null."""
  key, equals, value = folder.partition("=")
  return (urllib.parse.unquote(key), urllib.parse.unquote(value)) if key and equals else ("", "")


def values_of(path: str) -> dict[str, str | None]:
  """{key: value} of the folders of a path that are named so; None is null."""
  found = dict(map(key_of, path.split("/")[:-1]))
  return {key: None if value == NULL else value for key, value in found.items() if key}
