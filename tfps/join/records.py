"""From what a log holds, lines of JSON or rows of Parquet, to batches of the join."""

from __future__ import annotations

import collections
import sys
import time as clock
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfps.join import keys, lines, samples, values
from tfps.join.batches import Features, actions_of, concatenate_features
from tfps.join.lines import LineReader, Place, Records
from tfps.join.schema import Schema
from tfps.join.settings import Settings

REASONS = ("json", "doubled", "id", "time", "action", "value", "feature")
_NAMED = 20  # bad records of a reason that are named; more are only counted
_HEADS = ("request_id", "item_id", "time")
_MILLISECONDS = pa.timestamp("ms", "UTC")


class BadRecord(ValueError):
  """A record of a log cannot be used; the message says which and why."""


class Decoded(NamedTuple):
  """What records became: n records that are sound, in `batch` those that matter to the join."""

  batch: Any  # Features, keys, or actions as ACTION
  numbers: np.ndarray  # int64 [n]: the line or row of each
  times: np.ndarray  # int64 [n], milliseconds


class Decoder:
  """Reads records of both logs. A record becomes the same whatever stands beside it.

  Args:
    config: of the join.
    settings: its Settings.
    schema: which features there are.
    quiet: leave out bad records without a word.

  Attributes:
    schema: which features there are.
    bad: {reason: how many records were skipped}, where config.bad_records is "skip".
    unknown: how many actions were of a kind that no label is made of.
  """

  def __init__(
    self, config: Any, settings: Settings, schema: Schema | None = None, quiet: bool = False
  ):
    self._config = config
    self._settings = settings
    self.schema = schema or Schema(config)
    self._skip = quiet or config.bad_records == "skip"
    self._quiet = quiet
    self._valued = {label.action for label in settings.labels if label.value}
    self._readers: dict[str, LineReader] = {}
    self._named: collections.Counter[str] = collections.Counter()
    self._others: set[str] = set()  # fields of the feature log that are no features yet
    self._notes: list[str] = []
    self.bad: collections.Counter[str] = collections.Counter()
    self.unknown = 0

  def features(self, records: Records) -> Decoded:
    """The records of the feature log, as Features."""
    bad = self.bad.copy()
    decoded = self._features(records)
    if self._others and self.schema.extend(records.data, self._others, records.place):
      self.bad, self._notes = bad, []
      decoded = self._features(records)
    self._others.clear()
    self._tell()
    return decoded

  def _features(self, records: Records) -> Decoded:
    kinds = self.schema.kinds or {}
    batches, numbers = [], []
    for table, of_piece, place in self._tables("features", records, kinds):
      table, of_piece, (request_id, item_id, time) = self._heads(table, of_piece, "features", place)
      sound = np.ones(len(of_piece), bool)
      slots = {}
      for name, kind in kinds.items():
        if name in table.column_names:
          slots[name], unfit = values.features(table[name].combine_chunks(), kind)
          about = self._about_feature(table, name, kind)
          self._leave_out(sound, unfit, of_piece, place, "feature", about)
      if not sound.all():
        rows = pa.array(np.flatnonzero(sound))
        request_id, item_id = request_id.take(rows), item_id.take(rows)
        slots = {name: column.take(rows) for name, column in slots.items()}
        of_piece, time = of_piece[sound], time[sound]
      entries = samples.shown(request_id, item_id, pa.array(time), slots)
      batches.append(Features(keys.of_ids(request_id, item_id), time, entries))
      numbers.append(of_piece)
    batch = concatenate_features(batches)
    return Decoded(batch, _concatenated(numbers), batch.time)

  def shows(self, records: Records) -> Decoded:
    """The records of the feature log, as Keys: their features are not looked at."""
    parts = list(self._heads_only(records, "features"))
    made = [keys.of_ids(request_id, item_id) for _, (request_id, item_id, _) in parts]
    hashes = _concatenated([one.hash for one in made]).astype(np.uint64)
    checks = _concatenated([one.check for one in made]).astype(np.uint32)
    times = _concatenated([heads[2] for _, heads in parts])
    return Decoded(
      keys.Keys(hashes, checks), _concatenated([numbers for numbers, _ in parts]), times
    )

  def first_time(self, log: str, records: Records) -> int | None:
    """The time of the first sound record; None without one. Nothing is counted."""
    quiet = Decoder(self._config, self._settings, self.schema, quiet=True)
    for _, (_, _, times) in quiet._heads_only(records, log):
      if len(times):
        return int(times[0])
    return None

  def actions(self, records: Records) -> Decoded:
    """The records of the action log; in the batch are those whose kind a label is made of."""
    log = self._config.actions
    batches, numbers, times = [], [], []
    for table, of_piece, place in self._tables("actions", records, {}):
      table, of_piece, (request_id, item_id, time) = self._heads(table, of_piece, "actions", place)
      sound = np.ones(len(of_piece), bool)
      kinds, unfit = values.identifiers(_column(table, log.action))
      about = _about(table, log.action, values.identifier)
      self._leave_out(sound, unfit, of_piece, place, "action", about)
      kind = pc.index_in(kinds, pa.array(self._settings.actions, pa.string()))
      known = kind.is_valid().to_numpy(zero_copy_only=False)
      value = np.zeros(len(kind), np.float32)
      valued = pc.is_in(kinds, pa.array(sorted(self._valued), pa.string()))
      valued = valued.to_numpy(zero_copy_only=False)
      if valued.any():
        read, unfit = values.numbers(_column(table, log.value))
        about = _about(table, log.value, values.number)
        self._leave_out(sound, unfit & valued, of_piece, place, "value", about)
        value = np.where(valued, pc.fill_null(read, 0).to_numpy(zero_copy_only=False), 0)
      self.unknown += int(np.count_nonzero(sound & ~known))
      kind = pc.fill_null(kind, 0).to_numpy(zero_copy_only=False)
      made = actions_of(keys.of_ids(request_id, item_id), time, kind, value)
      batches.append(made[known & sound])
      numbers.append(of_piece[sound])
      times.append(time[sound])
    self._tell()
    batch = np.concatenate(batches) if batches else actions_of(_NO_KEYS, *(np.zeros(0),) * 3)
    return Decoded(batch, _concatenated(numbers), _concatenated(times))

  def _heads_only(self, records: Records, log: str) -> Iterator[tuple[np.ndarray, tuple]]:
    for table, numbers, place in self._tables(log, records, {}):
      _, numbers, heads = self._heads(table, numbers, log, place)
      yield numbers, heads

  def _tables(
    self, log: str, records: Records, kinds: dict[str, str]
  ) -> Iterator[tuple[pa.Table, np.ndarray, Place]]:
    """Yields (table, its rows' numbers, how to name them) of records that are such."""
    names = self._names(log, kinds)
    place = records.place
    if isinstance(records.data, pa.Table):
      rows = np.arange(records.data.num_rows)
      table, rows = self._without_doubled(records.data, rows, names, place)
      self._look_for_others(log, table)
      yield table, rows, place
      return
    reader = self._readers.get(f"{log} {len(kinds)}")
    if reader is None:
      reader = LineReader(names, frozenset(n for n, kind in kinds.items() if kind == "float"))
      self._readers[f"{log} {len(kinds)}"] = reader
    for piece in reader.pieces(records.data):
      if piece.table is not None:
        self._look_for_others(log, piece.table)
        yield piece.table, piece.numbers, place
      elif piece.rows:
        yield *self._one_by_one(log, piece.numbers, piece.rows, kinds, place), place

  def _names(self, log: str, kinds: dict[str, str]) -> frozenset[str]:
    fields = self._config[log]
    names = {fields[head] for head in _HEADS} | set(kinds)
    return frozenset(names | ({fields.action, fields.value} if log == "actions" else set()))

  def _one_by_one(
    self, log: str, numbers: np.ndarray, rows: list, kinds: dict[str, str], place: Place
  ) -> tuple[pa.Table, np.ndarray]:
    """A table whose values are what they are to be, of records that were read one by one."""
    fields = self._config[log]
    columns: dict[str, list] = {fields[head]: [] for head in _HEADS}
    columns |= {name: [] for name in kinds}
    if log == "actions":
      columns |= {fields.action: [], fields.value: []}
    kept = []
    for number, row in zip(numbers.tolist(), rows):
      if isinstance(row, str):
        reason = "doubled" if lines.is_doubled(row) else "json"
        self._count_bad(reason, 1, _said(place, number, row))
        continue
      problem = self._convert(log, row, kinds)
      if problem is not None:
        reason, what = problem
        self._count_bad(reason, 1, _said(place, number, what))
        continue
      if log == "features":
        self._others.update(name for name, value in row.items() if value is not None)
      kept.append(number)
      for name, column in columns.items():
        column.append(row.get(name))
    types = {fields.request_id: pa.string(), fields.item_id: pa.string()}
    types |= {name: pa.list_(_OF_KIND[kind]) for name, kind in kinds.items()}
    types |= {fields.time: _MILLISECONDS}
    if log == "actions":
      types |= {fields.action: pa.string(), fields.value: pa.float32()}
    table = pa.table({name: pa.array(column, types[name]) for name, column in columns.items()})
    return table, np.array(kept, np.int64)

  def _convert(self, log: str, row: dict, kinds: dict[str, str]) -> tuple[str, str] | None:
    """Replaces a record's values by what they are to be; returns why that cannot be."""
    fields = self._config[log]
    found = dict(row)
    steps: list[tuple[str, str, Callable[[Any], Any]]] = [
      ("id", fields.request_id, values.identifier),
      ("id", fields.item_id, values.identifier),
      ("time", fields.time, lambda value: values.moment(value, fields.time_unit)),
    ]
    if log == "actions":
      steps.append(("action", fields.action, values.identifier))
    for reason, name, convert in steps:
      value = found.get(name)
      try:
        row[name] = None if values.missing(value) else convert(value)
      except values.UnfitError as error:
        return reason, _problem(name, value, error)
      if row[name] is None and reason != "action":
        return reason, _lacks(name)
      if reason == "time" and not 0 < row[name] <= self._latest():
        return reason, _problem(name, value, _NO_TIME)
    if log == "actions":
      value, row[fields.value] = found.get(fields.value), None
      if row[fields.action] in self._valued and not values.missing(value):
        try:
          row[fields.value] = values.number(value)
        except values.UnfitError as error:
          return "value", _problem(fields.value, value, error)
    for name, kind in kinds.items():
      value = found.get(name)
      try:
        row[name] = None if values.missing(value) else values.elements(value, kind)
      except values.UnfitError as error:
        return "feature", self._problem_of_feature(name, kind, value, error)
    return None

  def _heads(
    self, table: pa.Table, numbers: np.ndarray, log: str, place: Place
  ) -> tuple[pa.Table, np.ndarray, tuple[pa.Array, pa.Array, np.ndarray]]:
    """Returns the table and numbers without bad records, and request_id, item_id and time."""
    fields = self._config[log]
    sound = np.ones(len(numbers), bool)
    ids = []
    for name in (fields.request_id, fields.item_id):
      made, unfit = values.identifiers(_column(table, name))
      missing = made.is_null().to_numpy(zero_copy_only=False)
      about = _about(table, name, values.identifier)
      self._leave_out(sound, missing | unfit, numbers, place, "id", about)
      ids.append(made)
    time, none, unfit = values.moments(_column(table, fields.time), fields.time_unit)
    unfit = unfit | none | (time <= 0) | (time > self._latest())
    about = _about(table, fields.time, lambda value: values.moment(value, fields.time_unit))
    self._leave_out(sound, unfit, numbers, place, "time", about)
    if not sound.all():
      rows = pa.array(np.flatnonzero(sound))
      table, ids = table.take(rows), [column.take(rows) for column in ids]
      numbers, time = numbers[sound], time[sound]
    return table, numbers, (ids[0], ids[1], time)

  def _latest(self) -> int:
    return int((clock.time() + self._config.max_future) * 1000)

  def _leave_out(
    self,
    sound: np.ndarray,
    unfit: np.ndarray,
    numbers: np.ndarray,
    place: Place,
    reason: str,
    about: Callable[[int], str],
  ) -> None:
    """Takes unfit rows from those that are sound (bool [n]), and counts them."""
    rows = np.flatnonzero(sound & unfit)
    sound[rows] = False
    for row in rows[:_NAMED].tolist():
      self._count_bad(reason, 1, _said(place, int(numbers[row]), about(row)))
    self._count_bad(reason, len(rows[_NAMED:]), str)

  def _about_feature(self, table: pa.Table, name: str, kind: str) -> Callable[[int], str]:
    def about(row: int) -> str:
      value = table[name][row].as_py()
      try:
        values.elements(value, kind)
      except values.UnfitError as error:
        return self._problem_of_feature(name, kind, value, error)
      return _problem(name, value, f"not of the type {kind!r}")

    return about

  def _problem_of_feature(self, name: str, kind: str, value: Any, error: Any) -> str:
    whose = f"config.slots.{name}" if self.schema.is_chosen else "the first file"
    more = "" if self.schema.is_chosen else f"; config.slots.{name} can say another type"
    return f"{_problem(name, value, error)}, but {whose} says {kind!r}{more}"

  def _count_bad(self, reason: str, count: int, problem: Callable[[], str]) -> None:
    if not count:
      return
    if not self._skip:
      raise BadRecord(f'{problem()}. Correct it, or set config.bad_records to "skip".')
    self.bad[reason] += count
    if self._named[reason] < _NAMED and not self._quiet:
      self._named[reason] += 1
      self._notes.append(f"tfps: left out ({reason}): {problem()}")
      if self._named[reason] == _NAMED:
        self._notes.append(f"tfps: further records of this kind ({reason}) are only counted")

  def _tell(self) -> None:
    for note in self._notes:
      print(note, file=sys.stderr)
    self._notes = []

  def _without_doubled(
    self, table: pa.Table, numbers: np.ndarray, names: frozenset[str], place: Place
  ) -> tuple[pa.Table, np.ndarray]:
    """A Parquet table's fields and those of its structs, without rows that have two of a name."""
    columns: dict[str, pa.Array] = {}
    sound = np.ones(len(numbers), bool)
    for name, column in lines.flat(table):
      if name not in columns:
        columns[name] = column
      elif name in names:
        both = pc.and_(columns[name].is_valid(), column.is_valid())
        about = lambda row, name=name: f"the field {name!r} is there twice"
        unfit = both.to_numpy(zero_copy_only=False)
        self._leave_out(sound, unfit, numbers, place, "doubled", about)
        if columns[name].type != column.type:
          raise BadRecord(
            f"{place(0)}: two fields are called {name!r} and have the types {columns[name].type} "
            f"and {column.type}; rename one."
          )
        columns[name] = pc.coalesce(columns[name], column)
    made = pa.table(columns)
    return (made, numbers) if sound.all() else (made.filter(pa.array(sound)), numbers[sound])

  def _look_for_others(self, log: str, table: pa.Table) -> None:
    if log == "features":
      columns = zip(table.column_names, table.columns)
      self._others.update(name for name, column in columns if column.null_count < len(column))


_NO_TIME = "a time before 1970 or in the future"
_NO_KEYS = keys.Keys(np.zeros(0, np.uint64), np.zeros(0, np.uint32))
_OF_KIND = {"string": pa.string(), "int": pa.int64(), "float": pa.float32()}


def _concatenated(parts: list[np.ndarray]) -> np.ndarray:
  return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _column(table: pa.Table, name: str) -> pa.Array:
  return table[name].combine_chunks() if name in table.column_names else pa.nulls(table.num_rows)


def _said(place: Place, number: int, problem: str) -> Callable[[], str]:
  return lambda: f"{place(number)}: {problem}"


def _lacks(name: str) -> str:
  return f"a record has no field {name!r}"


def _about(table: pa.Table, name: str, convert: Callable[[Any], Any]) -> Callable[[int], str]:
  """How to say what is wrong with a field of a row of which it is known that something is."""

  def about(row: int) -> str:
    value = table[name][row].as_py() if name in table.column_names else None
    if values.missing(value):
      return _lacks(name)
    try:
      convert(value)
    except values.UnfitError as error:
      return _problem(name, value, error)
    return _problem(name, value, _NO_TIME)

  return about


def _problem(name: str, value: Any, error: Any) -> str:
  return f"{name!r} is {_short(value)}, {error}"


def _short(value: Any) -> str:
  shown = repr(value)
  return shown if len(shown) <= 80 else f"{shown[:77]}..."
