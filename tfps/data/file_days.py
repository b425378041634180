"""Which files belong to which day: the arguments `files` and `days` of `tfps.data.source`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from tfps.data import file_systems

Paths = str | os.PathLike | Sequence[str | os.PathLike]
Files = Paths | Mapping[str, Paths]  # or a calendar: {day name: paths}


class Part(NamedTuple):
  """A file, or a byte range of one, that belongs to a day. Its tickets never leave it."""

  path: str
  begin: int = 0
  end: int | None = None  # None is the file's end


def calendar_of(files: Files, days: Sequence[str] | None) -> dict[str, list[Part]]:
  """{day name: list of Part} of these arguments."""
  calendar: Mapping[str, Paths] = files if isinstance(files, Mapping) else {"all": files}
  if days is not None:
    unknown = [name for name in days if name not in calendar]
    if unknown:
      raise ValueError(
        f"days names {unknown[0]!r}, which is not in the calendar; it has {', '.join(calendar)}."
      )
    calendar = {name: paths for name, paths in calendar.items() if name in set(days)}
  return {name: [Part(path) for path in expand(paths)] for name, paths in calendar.items()}


def expand(files: Paths) -> list[str]:
  """The list of paths that a path, a glob or a list of these means."""
  paths: list[str] = []
  for pattern in (
    [files] if isinstance(files, (str, bytes)) or hasattr(files, "__fspath__") else files
  ):
    pattern = tf.compat.path_to_str(pattern)
    found = [pattern] if file_systems.exists(pattern) else file_systems.glob(pattern)
    if not found:
      raise FileNotFoundError(
        f"{pattern} does not exist, and as a glob it matches no file; check files."
      )
    paths += found
  return paths
