"""What a manifest may hold: nobody but tfps writes one, and yet none is trusted to have what it should."""

import re


class ShapeError(ValueError):
  """A manifest does not hold what it should; half a sentence."""


def is_inside(name):
  """Whether a path that a manifest names is relative to the manifest's folder and stays in it."""
  return (
    isinstance(name, str)
    and len(name) <= 1000
    and all(len(part.encode(errors="replace")) <= 255 for part in name.split("/"))
    and re.fullmatch(r"[^/\\\0]+(/[^/\\\0]+)*", name) is not None
    and not {".", ".."} & set(name.split("/"))
  )


def check_inside(name):
  """Raises ShapeError unless `is_inside`."""
  if not is_inside(name):
    raise ShapeError(f"it names {name!r:.100}, which is no path inside its folder")


def check_files(content):
  """Raises ShapeError unless content["files"] is {path inside the folder: {"bytes", "crc32c"}}."""
  named = want(content, "files", dict)
  for name, file in named.items():
    check_inside(name)
    if not isinstance(file, dict) or set(file) != {"bytes", "crc32c"}:
      raise ShapeError(f"what it says of file {name!r} is not its size and checksum")
    for field in file:
      at_least_0(file, field)


def tables(content):
  """[(name, what is said of it)] of content["tables"]; each name can be that of a folder."""
  found = want(content, "tables", dict)
  for name, table in found.items():
    check_inside(name)
    if not isinstance(table, dict):
      raise ShapeError(f"what it says of table {name!r} is no group of fields")
  return list(found.items())


def want(content, field, kind):
  """content[field], which must be there and of a kind: a type, or several."""
  value = content.get(field)
  if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
    raise ShapeError(f"its field '{field}' is missing or of the wrong kind")
  return value


def at_least_0(content, field):
  """content[field], which must be a whole number, 0 or more, that 64 bits hold."""
  value = want(content, field, int)
  if not 0 <= value < 2**63:
    raise ShapeError(f"its field '{field}' is {value}")
  return value
