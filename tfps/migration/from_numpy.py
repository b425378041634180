"""Importing keys with vectors from NumPy arrays and files."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfps.migration.columns import ArrayColumn, npy_column, open_file
from tfps.migration.vectors import CHUNK_ROWS, VectorWriter

if TYPE_CHECKING:
  from tfps.migration.columns import Column
  from tfps.migration.vectors import Imported
  from tfps.table.feasign_table import FeasignTable

_NAMES = ("keys", "values", "show", "click")


def import_numpy(
  table: FeasignTable,
  slot: str,
  source: str | os.PathLike | Mapping[str, Any],
  *,
  feasigns: bool = False,
) -> Imported:
  """Puts keys with their vectors into one slot of a table.

  Every feasign is admitted; its optimizer has taken no step yet.

  Args:
    table: the `tfps.FeasignTable` to fill.
    slot: name of the slot.
    source: path of a .npz file, or {name: array, or path of a .npy file}, with "keys" [n]: integers
      or strings, "values" float [n, mf_dim]: mf_w, or [n, 1 + mf_dim]: lr_w and mf_w, and perhaps
      "show" and "click" [n]. Files are read in chunks. Without show, a feasign gets the shows
      without a click that it needs to be admitted and to survive the next day's end.
    feasigns: the keys are feasigns already, int64 or uint64. Otherwise they are values of the slot,
      of which `tfps.feasign(slot, keys)` makes them.

  Returns:
    `Imported`. Padding, reserved keys, rows that are not finite, and rows whose key is in the table
    already are dropped and counted.

  Raises:
    ValueError: a file is truncated or not what it should be, or the values' dimension does not fit.
    FileNotFoundError: a file is missing.

  Examples:
    >>> new = tfps.FeasignTable("new", mf_dim=4)
    >>> vectors = {"keys": np.array([17, 4, 17]), "values": np.ones([3, 4], np.float32)}
    >>> print(tfps.migration.import_numpy(new, "item_id", vectors))
    2 rows, 2 admitted; dropped: 1 repeated
  """
  with contextlib.ExitStack() as files:
    if isinstance(source, dict):
      columns = _columns_of_dict(source, files)
    else:
      columns = _columns_of_npz(str(source), files)
    return _write(VectorWriter(table, slot, feasigns), columns)


def write_columns(writer: VectorWriter, columns: Mapping[str, Column], count: int) -> Imported:
  """Puts `count` rows in, chunk after chunk, and returns what became of them.

  Args:
    writer: a `VectorWriter`.
    columns: {argument of its `write`: column}.
    count: how many rows they have.
  """
  for _ in range(0, count, CHUNK_ROWS):
    writer.write(**{name: column.read(CHUNK_ROWS) for name, column in columns.items()})
  return writer.imported


def _write(writer: VectorWriter, columns: Mapping[str, Column]) -> Imported:
  for name in ("keys", "values"):
    if name not in columns:
      raise ValueError(
        f"the source has no '{name}'; it has {', '.join(columns) or 'nothing'}, and needs keys "
        "and values."
      )
  keys, values = columns["keys"], columns["values"]
  count = keys.shape[0] if len(keys.shape) == 1 else -1
  for name, column in columns.items():
    rank = 2 if name == "values" else 1
    if len(column.shape) != rank or column.shape[0] != count:
      raise ValueError(
        f"{column.name} has the shape {column.shape} beside keys of {keys.shape}: give keys [n], "
        "values [n, d], show [n] and click [n]."
      )
  if "click" in columns and "show" not in columns:
    raise ValueError(f"{columns['click'].name} comes without show: give both, or none.")
  writer.check(values.name, keys.dtype, values.shape[1])
  return write_columns(writer, columns, count)


def _columns_of_dict(source: Mapping[str, Any], files: contextlib.ExitStack) -> dict[str, Column]:
  columns: dict[str, Column] = {}
  for name, value in source.items():
    if name not in _NAMES:
      raise ValueError(f"'{name}' is none of {', '.join(_NAMES)}.")
    if isinstance(value, str) or hasattr(value, "__fspath__"):
      file, size = open_file(str(value))
      columns[name] = npy_column(str(value), files.enter_context(file), size)
    else:
      columns[name] = ArrayColumn(name, value)
  return columns


def _columns_of_npz(path: str, files: contextlib.ExitStack) -> dict[str, Column]:
  file, _ = open_file(path)
  try:
    archive = files.enter_context(zipfile.ZipFile(files.enter_context(file)))
  except zipfile.BadZipFile as error:
    raise ValueError(f"{path} is no .npz file, or is truncated.") from error
  damaged = archive.testzip()
  if damaged is not None:
    raise ValueError(f"{path} was changed: the checksum of {damaged} in it does not hold.")
  columns: dict[str, Column] = {}
  for member in archive.infolist():
    name = member.filename.removesuffix(".npy")
    if name in _NAMES:
      column = files.enter_context(archive.open(member))
      columns[name] = npy_column(f"{name} in {path}", column, member.file_size)
  return columns
