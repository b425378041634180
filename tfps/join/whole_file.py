"""A small file that is there as a whole, or not at all."""

from __future__ import annotations

import os
import pathlib


def write_whole(path: pathlib.Path, text: str) -> None:
  """Writes a file durably under a hidden name, which readers of a folder do not see; names it."""
  temporary = path.with_name(f".{path.name}.tmp")
  with open(temporary, "w") as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)
