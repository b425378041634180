"""What a server saw: requests of a log of TensorFlow Serving's messages, or of a feature log."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfps.data.raw_inputs import RawInputs
from tfps.replay import records
from tfps.replay.messages import PredictionLogs
from tfps.replay.records import Place, Record, Unusable
from tfps.replay.request import RAW, Fields, Request, Where, features_of, first_line, id_of, one

_AT_ONCE = 512  # records of a feature log that are replayed together


class Log:
  """Files of TFRecord with PredictionLog or tf.Example messages, or with a JSON object per line.

  Args:
    paths: the files.
    raw: the raw inputs that the records of a feature log have.
    outputs: the names of the model's outputs.
    fields: `Fields`.
  """

  def __init__(
    self, paths: Sequence[str], raw: RawInputs, outputs: Sequence[str], fields: Fields
  ) -> None:
    self.paths = list(paths)
    self._raw = raw
    self._outputs = list(outputs)
    self._fields = fields
    self._messages = PredictionLogs(fields)

  def requests(self, unusable: Unusable, every: int = 1) -> Iterator[Request]:
    """Yields every `every`th record in the order of the files; nothing else is kept in memory.

    Args:
      unusable: counts the records that cannot be replayed.
      every: 1 for all.
    """
    number = -1
    for path in self.paths:
      rows: list[_Row] = []
      for record in records.read(path, unusable):
        number += 1
        if number % every:
          continue
        log = None if record.place.line else self._messages.log(record)
        if log is not None:
          request = self._messages.request(number, record, log, unusable)
          if request is not None:
            yield request
          continue
        row = self._row(number, record, unusable)
        if row is None:
          continue
        if rows and (len(rows) == _AT_ONCE or not _fit(rows[0], row)):
          yield from self._joined(rows, unusable)
          rows = []
        rows.append(row)
      if rows:
        yield from self._joined(rows, unusable)

  def _row(self, number: int, record: Record, unusable: Unusable) -> _Row | None:
    """A record of a feature log; None where it cannot be replayed."""
    try:
      if record.place.line:
        features, serialized = json.loads(record.content), b""
        if not isinstance(features, dict):
          raise ValueError("it is no object")
        features = self._without_objects(features)
      else:
        features, serialized = features_of(record.content), record.content
    except Exception as error:  # protobuf's own classes differ between its implementations.
      if record.place.line:
        unusable.add("the line is not JSON", record.place, first_line(error))
      else:
        unusable.add("the record is neither a PredictionLog nor a tf.Example", record.place)
      return None
    try:
      version = one(features.get(self._fields.version))
      return _Row(
        number=number,
        place=record.place,
        features=features,
        serialized=serialized,
        id=id_of(features, self._fields.ids),
        version=None if version is None else int(version),
        outputs=self._predictions(features),
      )
    except (TypeError, ValueError) as error:
      unusable.add("a field is not what it should be", record.place, str(error))
      return None

  def _without_objects(self, features: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of nested objects as fields of the record, as `tfps join` reads them."""
    flat: dict[str, Any] = {}
    for name, value in features.items():
      nested = isinstance(value, dict) and name != self._fields.prediction
      flat |= self._without_objects(value) if nested else {name: value}
    return flat

  def _predictions(self, features: Mapping[str, Any]) -> dict[str, np.ndarray]:
    name = self._fields.prediction
    found = {
      output: features[f"{name}/{output}"]
      for output in self._outputs
      if features.get(f"{name}/{output}") is not None
    }
    value = features.get(name)
    if value is not None and name not in self._raw.specs:
      if not isinstance(value, dict):
        if len(self._outputs) > 1:
          raise ValueError(
            f"'{name}' is one prediction, and the model has {', '.join(self._outputs)}"
          )
        value = {self._outputs[0]: value}
      found |= value
    return {output: np.asarray(value, np.float32).ravel() for output, value in found.items()}

  def _joined(self, rows: Sequence[_Row], unusable: Unusable) -> Iterator[Request]:
    """The request of some rows; those whose features do not fit are left out."""
    try:
      inputs = self._inputs(rows)
    except (TypeError, ValueError, tf.errors.OpError) as error:
      if len(rows) > 1:  # One of them: find it.
        half = len(rows) // 2
        yield from self._joined(rows[:half], unusable)
        yield from self._joined(rows[half:], unusable)
        return
      unusable.add("the features are not those of the model", rows[0].place, first_line(error))
      return
    first = rows[0]
    yield Request(
      number=first.number,
      signature=RAW,
      version=first.version,
      inputs=inputs,
      outputs={name: np.stack([row.outputs[name] for row in rows]) for name in first.outputs},
      ids=[row.id for row in rows],
      where=[Where(row.place) for row in rows],
      together=False,
    )

  def _inputs(self, rows: Sequence[_Row]) -> dict[str, np.ndarray]:
    if rows[0].serialized:
      parsed = self._raw.parse_examples(tf.constant([row.serialized for row in rows]))
      return {name: value.numpy() for name, value in parsed.items()}
    return {
      name: _column(name, [row.features.get(name) for row in rows], spec)
      for name, spec in self._raw.specs.items()
    }


class _Row(NamedTuple):
  """A record of a feature log."""

  number: int
  place: Place
  features: Mapping[str, Any]
  serialized: bytes = b""  # a tf.Example
  id: str | None = None
  version: int | None = None
  outputs: Mapping[str, np.ndarray] = {}


def _fit(first: _Row, other: _Row) -> bool:
  """Whether two rows may be in one request."""
  shapes = [{name: value.shape for name, value in row.outputs.items()} for row in (first, other)]
  kinds = [(row.version, bool(row.serialized)) for row in (first, other)]
  return shapes[0] == shapes[1] and kinds[0] == kinds[1]


_KINDS: dict[tf.DType, tuple[Any, str]] = {
  tf.string: (str, "a text"),
  tf.int64: (int, "a whole number"),
  tf.float32: ((int, float), "a number"),
}


def _column(name: str, values: Sequence[Any], spec: tf.TensorSpec) -> np.ndarray:
  """[n] or [n, k] of a field of JSON objects; "" or 0 where there is nothing."""
  kind, expected = _KINDS[spec.dtype]
  lists = [[] if v is None else v if isinstance(v, list) else [v] for v in values]
  for row in lists:
    for value in row:
      if not isinstance(value, kind):
        raise ValueError(f"'{name}' is {json.dumps(value)}, and the model takes {expected}")
  single = spec.shape.rank == 1
  width = 1 if single else spec.shape[1]
  longest = max(map(len, lists), default=0)
  if width is not None and longest > width:
    raise ValueError(f"'{name}' has {longest} values, and the model takes {width}")
  dtype = object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype
  padding: Any = b"" if spec.dtype == tf.string else 0
  array = np.full([len(lists), longest if width is None else width], padding, dtype)
  for i, row in enumerate(lists):
    array[i, : len(row)] = [v.encode() for v in row] if spec.dtype == tf.string else row
  return array[:, 0] if single else array
