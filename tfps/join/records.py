"""From tables of a log, as its files or messages hold them, to batches of the join."""

from __future__ import annotations

import json
import time as clock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from tfps.join import keys, samples
from tfps.join.batches import Features, actions_of
from tfps.join.settings import Settings

_UNITS = {"s": 1000.0, "ms": 1.0, "us": 1e-3}
_TYPES = {"string": pa.string(), "int": pa.int64(), "float": pa.float32()}


class BadRecord(ValueError):
  """A record of a log cannot be used; the message says which and why."""


class Decoder:
  """Reads records of both logs.

  Args:
    config: of the join.
    settings: its Settings.

  Attributes:
    bad: how many records were skipped, where config.bad_records is "skip".
    unknown: how many actions were of a kind that no label is made of.
  """

  def __init__(self, config: Any, settings: Settings):
    self._config = config
    self._settings = settings
    self._skip = config.bad_records == "skip"
    self.bad = 0
    self.unknown = 0

  def json_lines(self, lines: bytes, where: str) -> pa.Table:
    """A table of JSON objects, one a line.

    Args:
      lines: the bytes of whole lines.
      where: the file or topic, for errors.
    """
    if not lines.strip():
      return pa.table({})
    try:
      return _read_json(lines)
    except pa.ArrowInvalid as error:
      good, bad = _sound_lines(lines)
      if not bad:
        raise BadRecord(
          f"{where}: {str(error).splitlines()[0]}. A field must have one type in all records; "
          "write it so, or as a text."
        ) from error
      self._count_bad(len(bad), f"{where}: the line {bad[0][:80]!r} is no JSON object")
      return self.json_lines(b"\n".join(good), where)

  def features(self, table: pa.Table, where: str) -> Features | None:
    """The records of a table of the feature log."""
    log = self._config.features
    table = _flat(table)
    table, request_id, item_id, time = self._heads(table, log, where)
    if not table.num_rows:
      return None
    names = [
      name for name in table.column_names if name not in (log.request_id, log.item_id, log.time)
    ]
    if len(self._config.slots):
      names = list(self._config.slots)
    slots = {}
    for name in names:
      if samples.is_reserved(name):
        raise BadRecord(
          f"{where}: a feature is called {name!r}, which samples use themselves; rename it, or "
          "set config.slots."
        )
      if name not in table.column_names:
        continue  # No record here has it.
      slots[name] = self._slot(name, table[name].combine_chunks(), where)
    try:
      entries = samples.shown(request_id, item_id, pa.array(time), slots)
    except TypeError as error:
      raise BadRecord(
        f"{where}: {error} Name the slots that samples need in config.slots."
      ) from error
    return Features(keys.of_ids(request_id, item_id), time, entries)

  def shows(self, table: pa.Table, where: str) -> tuple[keys.Keys, np.ndarray]:
    """Returns the keys and times of a table of the feature log, without the features."""
    _, request_id, item_id, time = self._heads(_flat(table), self._config.features, where)
    return keys.of_ids(request_id, item_id), time

  def actions(self, table: pa.Table, where: str) -> np.ndarray:
    """The records of a table of the action log whose kind a label is made of, as ACTION."""
    log = self._config.actions
    table, request_id, item_id, time = self._heads(table, log, where)
    if not table.num_rows:
      return actions_of(keys.Keys(np.zeros(0, np.uint64), np.zeros(0, np.uint32)), time, time, time)
    if log.action not in table.column_names:
      raise BadRecord(
        f"{where} has no field {log.action!r}, the kind of an action; set config.actions.action."
      )
    kind = pc.index_in(_strings(table[log.action]), pa.array(self._settings.actions, pa.string()))
    if log.value in table.column_names:
      try:
        value = pc.fill_null(table[log.value].combine_chunks().cast(pa.float32()), 0)
      except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise BadRecord(
          f"{where}: {log.value!r}, the value of an action, is not a number in all records."
        ) from error
      value = np.nan_to_num(value.to_numpy(zero_copy_only=False))
    else:
      value = np.zeros(len(kind), np.float32)
    known = kind.is_valid().to_numpy(zero_copy_only=False)
    self.unknown += int(len(known) - np.count_nonzero(known))
    kind = pc.fill_null(kind, 0).to_numpy(zero_copy_only=False)
    return actions_of(keys.of_ids(request_id, item_id), time, kind, value)[known]

  def _heads(
    self, table: pa.Table, log: Any, where: str
  ) -> tuple[pa.Table, pa.Array, pa.Array, np.ndarray]:
    """Returns the table without bad records, request_id, item_id and time."""
    if not table.num_rows:
      return table, pa.array([], pa.string()), pa.array([], pa.string()), np.zeros(0, np.int64)
    for field in ("request_id", "item_id", "time"):
      if log[field] not in table.column_names:
        raise BadRecord(
          f"{where} has no field {log[field]!r}; say what its {field} is called: "
          f"{', '.join(table.column_names)}."
        )
    request_id, item_id = (_strings(table[log[field]]) for field in ("request_id", "item_id"))
    time = _milliseconds(table[log.time].combine_chunks(), log.time_unit, f"{where}: {log.time!r}")
    limit = int((clock.time() + self._config.max_future) * 1000)
    sound = pc.and_(pc.and_(request_id.is_valid(), item_id.is_valid()), time.is_valid())
    sound = pc.and_(
      sound, pc.fill_null(pc.and_(pc.greater(time, 0), pc.less_equal(time, limit)), False)
    )
    bad = len(sound) - (pc.sum(sound).as_py() or 0)
    if bad:
      row = table.slice(pc.index(sound, False).as_py(), 1).to_pylist()[0]
      head = {log[field]: row[log[field]] for field in ("request_id", "item_id", "time")}
      self._count_bad(bad, f"{where}: a record lacks an id or a time that can be: {head}")
      table, request_id, item_id, time = (
        column.filter(sound) for column in (table, request_id, item_id, time)
      )
    return table, request_id, item_id, time.to_numpy(zero_copy_only=False)

  def _slot(self, name: str, column: pa.Array, where: str) -> pa.Array:
    if name not in self._config.slots:
      return column
    wanted = _TYPES[self._config.slots[name]]
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
      wanted = pa.list_(wanted)
    try:
      return column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
      raise BadRecord(
        f"{where}: {name!r} cannot be read as config.slots.{name} says, "
        f"{self._config.slots[name]}: {str(error).splitlines()[0]}."
      ) from error

  def _count_bad(self, count: int, problem: str) -> None:
    if not self._skip:
      raise BadRecord(f'{problem}. Correct it, or set config.bad_records to "skip".')
    self.bad += count


def _read_json(lines: bytes) -> pa.Table:
  # One block, so that a field has one type in all of it.
  options = pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines) + 2)
  return pyarrow.json.read_json(pa.BufferReader(lines), options)


def _sound_lines(lines: bytes) -> tuple[list[bytes], list[bytes]]:
  good: list[bytes] = []
  bad: list[bytes] = []
  for line in lines.splitlines():
    try:
      (good if isinstance(json.loads(line), dict) else bad).append(line)
    except ValueError:
      if line.strip():
        bad.append(line)
  return good, bad


def _flat(table: pa.Table) -> pa.Table:
  """Fields of nested objects as fields of the record, under their own names."""
  while any(pa.types.is_struct(field.type) for field in table.schema):
    columns, names = [], []
    for field, column in zip(table.schema, table.columns):
      if pa.types.is_struct(field.type):
        columns += column.flatten()
        names += [inner.name for inner in field.type]
      else:
        columns.append(column)
        names.append(field.name)
    if len(set(names)) < len(names):
      doubled = next(name for name in names if names.count(name) > 1)
      raise BadRecord(f"Two fields of a record are called {doubled!r}; rename one.")
    table = pa.table(columns, names=names)
  return table


def _strings(column: pa.ChunkedArray) -> pa.Array:
  return column.combine_chunks().cast(pa.string())


def _milliseconds(column: pa.Array, unit: str, what: str) -> pa.Array:
  kind = column.type
  try:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
      zoned = pc.fill_null(pc.match_substring_regex(column, r"(Z|[+-]\d\d:?\d\d)$"), False)
      column = column.cast(pa.timestamp("us", "UTC" if pc.any(zoned).as_py() else None))
      kind = column.type
    if pa.types.is_timestamp(kind):
      microseconds = column.cast(pa.timestamp("us", kind.tz)).cast(pa.int64())
      return pc.floor(pc.divide(microseconds.cast(pa.float64()), 1000.0)).cast(pa.int64())
    if pa.types.is_integer(kind) and unit == "ms":
      return column.cast(pa.int64())
    return pc.round(pc.multiply(column.cast(pa.float64()), _UNITS[unit])).cast(pa.int64())
  except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
    raise BadRecord(
      f"{what} is {kind}, not a time: seconds since 1970, or a text like 2026-01-31T12:00:00Z."
    ) from error
