"""The state of a join on disk: waiting records, keys, positions in the logs, counters.

SQLite holds all of it but the waiting feature records, which are many more bytes: those of one step
are one file in `segments/`, their heads and then their map entries, that SQLite's rows point into.
A segment is durable before the transaction that names it, and is removed after the one that no
longer does; a file that no row names is left over from a process that died, and is removed at the
start.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import pathlib
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from tfps.errors import ConfigError
from tfps.join.batches import ACTION, Features, concatenate_binary, no_actions
from tfps.join.keys import Keys

_TABLES = """
create table if not exists meta(name text primary key, value text) without rowid;
create table if not exists positions(
  log text, name text, position integer, primary key(log, name)) without rowid;
create table if not exists tails(
  log text, name text, tail integer, primary key(log, name)) without rowid;
create table if not exists waiting(
    slice integer, step integer, first_row integer, rows integer, begin integer, bytes integer,
    primary key(slice, step));
create table if not exists closed(slice integer, step integer, keys blob, primary key(slice, step));
create table if not exists actions(
  slice integer, step integer, data blob, primary key(slice, step));
create table if not exists segments(step integer primary key, newest_slice integer);
"""
_HEAD = np.dtype([("hash", "<u8"), ("check", "<u4"), ("time", "<i8"), ("bytes", "<u4")])
_KEY = np.dtype([("hash", "<u8"), ("check", "<u4")])


class Store:
  """The state of one join, in a folder that one process at a time may open.

  Raises ConfigError if another process has it open. All changes between `begin` and `commit` are
  there, or none.
  """

  def __init__(self, folder: str | os.PathLike):
    self._folder = pathlib.Path(folder)
    self._segments = self._folder / "segments"
    self._segments.mkdir(parents=True, exist_ok=True)
    self._lock = open(self._folder / "lock", "w")
    try:
      fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      self._lock.close()
      raise ConfigError(
        f"Another process is joining with the state in {folder}; give each join its own."
      ) from error
    self._db = sqlite3.connect(self._folder / "state.sqlite", isolation_level=None)
    self._db.execute("pragma page_size=16384")
    self._db.execute("pragma journal_mode=wal")
    self._db.execute("pragma synchronous=full")
    self._db.executescript(_TABLES)
    self._remove_leftovers()

  def close(self) -> None:
    self._db.close()
    self._lock.close()

  def begin(self) -> None:
    self._db.execute("begin immediate")

  def commit(self) -> None:
    self._db.execute("commit")

  def remove_segments(self, below: int) -> None:
    """Removes, after a commit, the files of steps whose slices are all below this one."""
    steps = [
      step
      for (step,) in self._db.execute("select step from segments where newest_slice < ?", (below,))
    ]
    if steps:
      self._db.execute("delete from segments where newest_slice < ?", (below,))
      for step in steps:
        self._segment(step).unlink(missing_ok=True)

  # What is small.

  def get(self, name: str, default: Any = None) -> Any:
    row = self._db.execute("select value from meta where name = ?", (name,)).fetchone()
    return default if row is None else json.loads(row[0])

  def set(self, name: str, value: Any) -> None:
    self._db.execute("insert or replace into meta values(?, ?)", (name, json.dumps(value)))

  def positions(self, log: str) -> dict[str, int]:
    return self._of_log("positions", log)

  def set_positions(self, log: str, changed: Mapping[str, int | None]) -> None:
    """Sets positions in files or partitions; None removes one."""
    self._change_log("positions", log, changed)

  def tails(self, log: str) -> dict[str, int]:
    """The checksums of what was read last of the files of a log."""
    return self._of_log("tails", log)

  def set_tails(self, log: str, changed: Mapping[str, int | None]) -> None:
    """Sets them; None removes one."""
    self._change_log("tails", log, changed)

  def _of_log(self, table: str, log: str) -> dict[str, int]:
    rows = self._db.execute(f"select * from {table} where log = ?", (log,))
    return {name: number for _, name, number in rows}

  def _change_log(self, table: str, log: str, changed: Mapping[str, int | None]) -> None:
    for name, number in changed.items():
      if number is None:
        self._db.execute(f"delete from {table} where log = ? and name = ?", (log, name))
      else:
        self._db.execute(f"insert or replace into {table} values(?, ?, ?)", (log, name, number))

  # Waiting feature records.

  def add_waiting(self, step: int, slices: np.ndarray, features: Features) -> None:
    """Adds the feature records of one step.

    Args:
      step: a number that no earlier call had.
      slices: uint32 [n], sorted.
      features: n records in that order.
    """
    if not len(features):
      return
    column = features.entries
    ends = np.frombuffer(column.buffers()[1], np.int32)[
      column.offset : column.offset + len(column) + 1
    ]
    heads = np.empty(len(features), _HEAD)
    heads["hash"], heads["check"] = features.keys
    heads["time"], heads["bytes"] = features.time, np.diff(ends)
    with open(self._segment(step), "wb") as file:
      file.write(heads.data)
      file.write(column.buffers()[2][int(ends[0]) : int(ends[-1])])
      file.flush()
      os.fsync(file.fileno())
    borders = np.concatenate([[0], np.flatnonzero(np.diff(slices)) + 1, [len(slices)]])
    begins = ends[borders].astype(np.int64) - ends[0] + heads.nbytes
    rows = np.stack(
      [
        slices[borders[:-1]],
        np.full(len(borders) - 1, step),
        borders[:-1],
        np.diff(borders),
        begins[:-1],
        np.diff(begins),
      ]
    )
    self._db.executemany(
      "insert into waiting values(?, ?, ?, ?, ?, ?)", rows.T.astype(np.int64).tolist()
    )
    self._db.execute("insert into segments values(?, ?)", (step, int(slices[-1])))

  def waiting_slices(self, below: int) -> list[tuple[int, int]]:
    """Returns (slice, its waiting records) of each slice below `below`, in order."""
    query = "select slice, sum(rows) from waiting where slice < ? group by slice order by slice"
    return self._db.execute(query, (below,)).fetchall()

  def waiting(self, first: int, last: int) -> Features:
    """The feature records that wait in the slices from `first` to `last`."""
    heads, entries = [np.zeros(0, _HEAD)], []
    query = "select * from waiting where slice between ? and ? order by step, slice"
    for step, rows in itertools.groupby(
      self._db.execute(query, (first, last)), key=lambda row: row[1]
    ):
      with open(self._segment(step), "rb") as file:
        for _, _, first_row, count, begin, size in rows:
          head = np.frombuffer(
            self._read(file, first_row * _HEAD.itemsize, count * _HEAD.itemsize), _HEAD
          )
          ends = np.zeros(count + 1, np.int32)
          np.cumsum(head["bytes"], out=ends[1:])
          buffers = [None, pa.py_buffer(ends), pa.py_buffer(self._read(file, begin, size))]
          heads.append(head)
          entries.append(pa.Array.from_buffers(pa.binary(), count, buffers))
    head = np.concatenate(heads)
    return Features(_keys(head), head["time"].copy(), concatenate_binary(entries))

  def close_slices(self, first: int, last: int, step: int, slices: np.ndarray, keys: Keys) -> None:
    """Keeps only the keys of these slices.

    Args:
      first, last: the slices.
      step: the step in which they are closed.
      slices: uint32 [n], that of each key.
      keys: n keys.
    """
    order = np.argsort(slices, kind="stable")
    packed = np.empty(len(order), _KEY)
    packed["hash"], packed["check"] = keys.take(order)
    slices = slices[order]
    borders = np.concatenate([[0], np.flatnonzero(np.diff(slices)) + 1, [len(slices)]])
    self._db.executemany(
      "insert into closed values(?, ?, ?)",
      (
        (int(slices[begin]), step, packed[begin:end].tobytes())
        for begin, end in itertools.pairwise(borders)
      ),
    )
    self._db.execute("delete from waiting where slice between ? and ?", (first, last))
    self._db.execute("delete from actions where slice between ? and ?", (first, last))

  def forget(self, below: int) -> None:
    """Removes the keys of closed slices below this one."""
    self._db.execute("delete from closed where slice < ?", (below,))

  def keys(self) -> Iterator[tuple[int, Keys]]:
    """Yields (slice, keys) of all that is known."""
    for slice_, data in self._db.execute("select slice, keys from closed order by slice, step"):
      yield slice_, _keys(np.frombuffer(data, _KEY))
    for slice_, step, first_row, rows, _, _ in self._db.execute(
      "select * from waiting order by step, slice"
    ):
      with open(self._segment(step), "rb") as file:
        data = self._read(file, first_row * _HEAD.itemsize, rows * _HEAD.itemsize)
      yield slice_, _keys(np.frombuffer(data, _HEAD))

  # Actions.

  def add_actions(self, step: int, slices: np.ndarray, actions: np.ndarray) -> None:
    """Adds the actions of one step to the slices of their feature records (uint32 [n], sorted)."""
    borders = (
      np.concatenate([[0], np.flatnonzero(np.diff(slices)) + 1, [len(slices)]])
      if len(slices)
      else [0]
    )
    self._db.executemany(
      "insert into actions values(?, ?, ?)",
      (
        (int(slices[begin]), step, actions[begin:end].tobytes())
        for begin, end in itertools.pairwise(borders)
      ),
    )

  def actions(self, first: int, last: int) -> np.ndarray:
    """The actions of feature records in the slices from `first` to `last`."""
    query = "select data from actions where slice between ? and ? order by step, slice"
    parts = [np.frombuffer(data, ACTION) for (data,) in self._db.execute(query, (first, last))]
    return np.concatenate(parts) if parts else no_actions()

  def set_unmatched(self, actions: np.ndarray) -> None:
    """Keeps the actions whose feature records did not come yet."""
    self._db.execute("insert or replace into meta values('unmatched', ?)", (actions.tobytes(),))

  def unmatched(self) -> np.ndarray:
    row = self._db.execute("select value from meta where name = 'unmatched'").fetchone()
    return no_actions() if row is None else np.frombuffer(row[0], ACTION).copy()

  def _segment(self, step: int) -> pathlib.Path:
    return self._segments / f"{step:012d}"

  def _read(self, file: BinaryIO, begin: int, size: int) -> bytes:
    data = os.pread(file.fileno(), size, begin)
    if len(data) != size:
      raise OSError(f"{file.name} is shorter than it was; the state is damaged.")
    return data

  def _remove_leftovers(self) -> None:
    known = {self._segment(step).name for (step,) in self._db.execute("select step from segments")}
    for path in self._segments.iterdir():
      if path.name not in known:
        path.unlink()


def _keys(records: np.ndarray) -> Keys:
  return Keys(records["hash"].copy(), records["check"].copy())
