"""The source of Parquet files: a ticket is a run of row groups, or a part of a large one."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfps.data import bad_records, file_systems, index, pieces
from tfps.data.columns import kinds, partitions
from tfps.data.columns.kinds import FLOAT, INT, STRING, Kind
from tfps.data.file_source import FileSource
from tfps.graph import python_ops
from tfps.graph.autograph import libraries_unconverted

if TYPE_CHECKING:
  from tfps.data.file_days import Part
  from tfps.data.ticket import Ticket

# A row group that is larger than a ticket is cut into at most so many: each worker that trains one
# of them decodes the whole group.
_MOST_TICKETS = 8


class ParquetSource(FileSource):
  """The source behind `tfps.data.source(..., format="parquet")`.

  Args:
    calendar: {day name: list of Part}.
    parse: maps `Columns` of n rows to (x, y) or (x, y, weight).
    nulls: {path of a value: what a null is read as}.
    schema_of: files that say which columns there are; by default the calendar's first and last.
    **reading: `FileSource`'s other arguments.

  Raises:
    ValueError: pyarrow is not installed, a file is no Parquet file, parse asks for a column that
      there is not, or nulls does not fit.
  """

  def __init__(
    self,
    calendar: Mapping[str, Sequence[Part]],
    parse: Callable[[Any], tuple],
    *,
    nulls: Mapping[str, Any] | None = None,
    schema_of: Sequence[str] = (),
    **reading: Any,
  ) -> None:
    if importlib.util.find_spec("pyarrow") is None:
      raise ValueError(
        "format 'parquet' needs pyarrow, which is not installed: run `pip install "
        "'tfps[parquet]'`, for the chief and every worker."
      )
    from tfps.data.columns import reader

    schema = _Schema(schema_of or _some_paths(calendar))
    nulls = dict(nulls or {})
    _check_nulls(nulls, kinds.leaves(schema.kinds))
    self._columns = _columns_of(parse, schema)
    self._request = reader.request(self._columns, schema.file_of, nulls)
    self._users_parse, self._known_nulls = parse, nulls
    spec = {name: kinds.spec(kind, text=tf.int32) for name, kind in self._columns.items()}
    texts = [leaf for leaf in kinds.leaves(self._columns).values() if leaf.base == STRING]
    records = (tf.TensorSpec([None], tf.int32), spec, [kinds.TEXTS] * len(texts))
    super().__init__(calendar, self._parse, records=records, **reading)
    self._compressed = False  # Its columns are, whatever its name.
    self._reads_pieces = not self.is_endless
    self._batch_rows = self.batch_size  # Also in views with another batch size.

  def place_of(self, ticket: Ticket, number: int) -> str:
    if number < 0:
      return pieces.files_of(ticket)
    ticket, number = pieces.find(ticket, number)
    return f"{ticket.path}, row {ticket.begin + number:,}"

  @staticmethod
  def _size(path: str) -> int:
    return file_systems.stat(path).size

  def _cut_part(self, part: Part) -> index.Cuts:
    from tfps.data.columns import reader

    file = reader.opened(part.path)
    batch_rows = self._batch_rows if self._pieces == 1 else 1
    bounds = cut(np.diff(file.group_rows), self._records_per_range, batch_rows)
    return index.Cuts(part.path, bounds, 0, int(bounds[-1]), stamp=file.stamp)

  def _records(self, ticket: Ticket, careful: bool = False) -> tuple[Any, tf.Tensor]:
    del careful
    place = [ticket.path, ticket.stamp, ticket.begin, ticket.end, ticket.pieces]
    dtypes = [dtype for kind in self._columns.values() for dtype in kinds.dtypes(kind)]
    problem, null_in, *arrays = python_ops.call(
      python_ops.READ_COLUMNS, [*place, self._request], [tf.string, tf.int32, *dtypes]
    )
    with tf.control_dependencies([tf.debugging.Assert(problem == "", [problem])]):
      null_in = tf.ensure_shape(null_in, [None])
      rest = iter([tf.identity(array) for array in arrays])
    texts: list[kinds.Texts] = []
    values = {name: kinds.pack(kind, rest, texts) for name, kind in self._columns.items()}
    return (null_in, values, texts), tf.zeros([ticket.records], tf.bool)

  def _parse(self, records: tuple[tf.Tensor, Any, list[kinds.Texts]]) -> tuple:
    null_in, values, texts = records
    for number, (name, kind) in enumerate(self._columns.items(), 1):
      leaves = kinds.leaves({name: kind}).items()
      if any(leaf.base != STRING and path not in self._known_nulls for path, leaf in leaves):
        reason = f"the column '{name}' has a null here, and nulls says no value for it"
        bad_records.reject(null_in == number, reason)
    of = iter(texts)
    return self._users_parse(
      Columns({k: kinds.with_texts(kind, values[k], of) for k, kind in self._columns.items()})
    )


class Columns(Mapping):
  """{column: its values of n rows}; only the columns that a parse function asks for are read.

  Args:
    values: {column: a tensor, tf.RaggedTensor, or a dict of these}.
    asked: gets the columns that are asked for.
    without: {column that cannot be read: its type}.
  """

  def __init__(
    self,
    values: Mapping[str, Any],
    asked: dict[str, None] | None = None,
    without: Mapping[str, str] | None = None,
  ) -> None:
    self._values = values
    self._asked = {} if asked is None else asked
    self._without = without or {}

  def __getitem__(self, name: str) -> Any:
    if name in self._without:
      raise ValueError(
        f"parse asks for the column '{name}', which is {self._without[name]}: there is no tensor "
        "for that; write it as one of the types in docs/inputs.md."
      )
    if name not in self._values:
      near = difflib.get_close_matches(str(name), self._values, 1)
      hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(self._values)}."
      raise ValueError(f"parse asks for the column {name!r}, which the files do not have: {hint}")
    self._asked[name] = None
    return self._values[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._values)

  def __len__(self) -> int:
    return len(self._values)


def cut(group_rows: np.ndarray, step: int, batch_size: int) -> np.ndarray:
  """Cuts a file: int64 [tickets + 1], at which row each ticket begins.

  Small row groups that follow each other share a ticket; a large one is cut into parts of whole
  batches.

  Args:
    group_rows: int64 [row groups].
    step: how many rows a ticket should have.
    batch_size: rows of a batch.
  """
  bounds = [0]
  row = 0
  for rows in group_rows.tolist():
    if row > bounds[-1] and row + rows - bounds[-1] > step:
      bounds.append(row)
    parts = min(_MOST_TICKETS, -(-rows // step))
    if parts > 1:
      part = -(-rows // (parts * batch_size)) * batch_size
      bounds += range(row + part, row + rows, part)
    row += rows
    if parts > 1:
      bounds.append(row)
  if row > bounds[-1]:
    bounds.append(row)
  return np.array(bounds, np.int64)


class _Schema:
  """The columns of files.

  Args:
    paths: of some files, of which later ones win.

  Attributes:
    kinds: {column: `Kind`}, with the keys of partition folders.
    without: {column of which there is no kind: its type}.
    file_of: {column: the file that it was found in}.
  """

  def __init__(self, paths: Sequence[str]):
    from tfps.data.columns import reader

    found: dict[str, Kind | None] = {}
    types: dict[str, str] = {}
    self.file_of: dict[str, str] = {}
    for path in paths:
      file = reader.opened(path)
      keys = {key: Kind(STRING) for key in partitions.values_of(path) if key not in file.kinds}
      for name, kind in (file.kinds | keys).items():
        found[name] = kind
        types[name] = file.types.get(name, "the key of folders")
        self.file_of[name] = path
    self.kinds = {name: kind for name, kind in found.items() if kind is not None}
    self.without = {name: types[name] for name, kind in found.items() if kind is None}


def _some_paths(calendar: Mapping[str, Sequence[Part]]) -> list[str]:
  """The first and the last file of a calendar: a column may have been added since."""
  paths = [part.path for parts in calendar.values() for part in parts]
  return list(dict.fromkeys([*paths[:1], *paths[-1:]]))


def _columns_of(parse: Callable[[Any], tuple], schema: _Schema) -> dict[str, Kind]:
  """{column: Kind} of those that a parse function asks for, found by tracing it."""
  asked: dict[str, None] = {}

  def trace(values: Any) -> None:
    with bad_records.Rejected():
      parse(Columns(values, asked, schema.without))

  with tf.init_scope(), libraries_unconverted():
    spec = {name: kinds.spec(kind) for name, kind in schema.kinds.items()}
    tf.function(trace).get_concrete_function(spec)
  if not asked:
    raise ValueError("parse asks for no column: let it take what it needs by columns['name'].")
  return {name: schema.kinds[name] for name in asked}


def _check_nulls(nulls: Mapping[str, Any], leaves: Mapping[str, Kind]) -> None:
  wanted = {
    INT: (int, "a whole number"),
    FLOAT: ((int, float), "a number"),
    STRING: (str, "a text"),
  }
  for path, value in nulls.items():
    if path not in leaves:
      near = difflib.get_close_matches(path, leaves, 1)
      hint = f"did you mean {near[0]!r}?" if near else "the columns are: " + ", ".join(leaves) + "."
      raise ValueError(f"nulls names {path!r}, which is no column of the files: {hint}")
    classes, words = wanted[leaves[path].base]
    if not isinstance(value, classes) or isinstance(value, bool):  # type: ignore[arg-type]
      raise ValueError(f"nulls has {value!r} for {path!r}; it must be {words}.")
