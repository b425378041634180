"""Folders of partitions as a calendar: the days are values of a key, such as dt=2026-01-01."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tfps.data import file_systems
from tfps.data.columns.partitions import key_of

Where = Mapping[str, str | Sequence[str] | Callable[[str], bool]]


class PartitionFile(NamedTuple):
  """A file in folders that are named key=value."""

  keys: dict[str, str]  # {key: value} of its folders
  path: str


def partitions(
  folder: str | os.PathLike,
  day: str | Sequence[str],
  *,
  first: str | None = None,
  last: str | None = None,
  where: Where | None = None,
  pattern: str = "*",
  marker: str | None = None,
) -> dict[str, list[str]]:
  r"""Makes the calendar of a folder whose files lie in folders such as dt=2026-01-01/hour=03.

  Give it to `tfps.data.source` as `files`, for any format. Folders that are not named key=value,
  and what begins with "." or "_", are left out. Values are in the order of numbers where all are
  numbers, and of texts else; the files of a day are in the order of their folders' values, then of
  their names.

  Args:
    folder: the outermost folder, on any file system of `tfps.data.source`.
    day: the key whose values are the days, such as "dt"; or several, whose values are joined with a
      space: ("dt", "hour").
    first: the first day to take; None for the folder's first.
    last: the last day to take; None for the folder's last.
    where: {key: a value, a list of values, or a function of the value}: only such folders.
    pattern: the names of the files, as the shell has it.
    marker: the name of a file, such as "_SUCCESS", without which a folder is not complete: neither
      it nor a folder above it has one. Such folders are left out.

  Returns:
    {day: paths of its files}, in the days' order.

  Raises:
    FileNotFoundError: no file is left.
    ValueError: a folder with files has no such key.

  Examples:
    >>> for hour in ("03", "04"):
    ...   os.makedirs(f"logs/dt=2026-01-01/hour={hour}")
    ...   with open(f"logs/dt=2026-01-01/hour={hour}/part-0.csv", "w") as file:
    ...     _ = file.write("user,click\nu7,1\n")
    >>> tfps.data.partitions("logs", "dt", where={"hour": "03"})
    {'2026-01-01': ['logs/dt=2026-01-01/hour=03/part-0.csv']}
  """
  root = os.fspath(folder).rstrip("/")
  keys = keys_of(day)
  wanted = chosen(where)
  if len(keys) == 1 and keys[0] not in wanted:
    # Other folders need not be listed.
    wanted[keys[0]] = lambda value: _within(value, first, last)
  found = list(files_below(root, wanted=wanted, pattern=pattern, marker=marker))
  calendar = calendar_of_partitions(found, keys, first, last)
  if not calendar:
    complete = f" that is complete, with a {marker}" if marker else ""
    raise FileNotFoundError(
      f"{root} has no file{complete} named {pattern} in folders named {keys[0]}=... that fits; "
      "check folder, day, where, first and last."
    )
  return calendar


def calendar_of_partitions(
  files: Sequence[PartitionFile], keys: Sequence[str], first: str | None, last: str | None
) -> dict[str, list[str]]:
  """{day: paths} of files, in the order of `partitions`.

  Args:
    files: of all days.
    keys: whose values are the days.
    first: the first day to take, None for all.
    last: the last day to take, likewise.

  Raises:
    ValueError: a file's folders do not have the keys.
  """
  for file in files:
    missing = [key for key in keys if key not in file.keys]
    if missing:
      raise ValueError(
        f"{file.path} is in no folder named {missing[0]}=...; correct day, or give a folder "
        "further in."
      )
  ranks = {
    key: _ranks({file.keys[key] for file in files if key in file.keys})
    for key in {key for file in files for key in file.keys}
  }
  order = lambda file: (
    [ranks[key][file.keys[key]] for key in keys],
    [(key, ranks[key][value]) for key, value in file.keys.items()],
    file.path,
  )
  calendar: dict[str, list[str]] = {}
  for file in sorted(files, key=order):
    name = " ".join(file.keys[key] for key in keys)
    if _within(name, first, last):
      calendar.setdefault(name, []).append(file.path)
  return calendar


def _within(value: str, first: str | None, last: str | None) -> bool:
  order = lambda one: (int(one), one) if one.isdecimal() else (0, one)
  if not value.isdecimal():
    order = lambda one: (0, one)
  return (first is None or order(value) >= order(first)) and (
    last is None or order(value) <= order(last)
  )


def keys_of(day: str | Sequence[str]) -> tuple[str, ...]:
  """The keys whose values are the days."""
  keys = (day,) if isinstance(day, str) else tuple(day)
  if not keys:
    raise ValueError("day is empty; name the key whose values are the days, such as 'dt'.")
  return keys


def chosen(where: Where | None) -> dict[str, Callable[[str], bool]]:
  """{key: whether a value is wanted}, of the argument `where`."""

  def choose(wanted: Any) -> Callable[[str], bool]:
    if callable(wanted):
      return wanted
    values = {wanted} if isinstance(wanted, str) else {str(value) for value in wanted}
    return lambda value: value in values

  return {key: choose(wanted) for key, wanted in (where or {}).items()}


def fits(folders: Mapping[str, str], wanted: Mapping[str, Callable[[str], bool]]) -> bool:
  """Whether a file in folders {key: value} is one that `chosen` wants; it may lack a key."""
  return all(test(folders[key]) for key, test in wanted.items() if key in folders)


def files_below(
  folder: str,
  *,
  keys: Mapping[str, str] | None = None,
  wanted: Mapping[str, Callable[[str], bool]] | None = None,
  pattern: str = "*",
  marker: str | None = None,
) -> Iterator[PartitionFile]:
  """Yields the files of a folder and of the folders key=value in it.

  Args:
    folder: where to look.
    keys: {key: value} of the folder itself.
    wanted: {key: whether folders with a value are wanted}.
    pattern: as of `partitions`.
    marker: likewise.
  """
  keys, wanted = dict(keys or {}), wanted or {}
  folders, names = file_systems.list_folder(folder)
  if marker in names:
    marker = None
  for name in names:
    hidden = name.startswith((".", "_"))
    if marker is None and not hidden and fnmatch.fnmatchcase(name, pattern):
      yield PartitionFile(keys, f"{folder}/{name}")
  for name in folders:
    key, value = key_of(name)
    if key and (key not in wanted or wanted[key](value)):
      yield from files_below(
        f"{folder}/{name}",
        keys={**keys, key: value},
        wanted=wanted,
        pattern=pattern,
        marker=marker,
      )


def _ranks(values: set[str]) -> dict[str, int]:
  """{value: its place in the order}."""
  numbers = all(value.isdecimal() for value in values)
  order = sorted(values, key=lambda value: (int(value), value) if numbers else (0, value))
  return {value: place for place, value in enumerate(order)}
