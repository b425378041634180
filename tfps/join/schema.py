"""Which fields of the feature log become features, and as which type.

A config says it, or the first file does, and of a field that it lacks the first records that have
it: then it is written into the state, and holds from there on.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from tfps.errors import ConfigError
from tfps.join import lines, samples, values
from tfps.join.whole_file import write_whole

SAMPLE_BYTES = 4 << 20  # of the first file from which types are taken
_FILE = "schema.json"


class Schema:
  """{feature: "string", "int" or "float"}, from a config, a state, or the first records.

  Args:
    config: of the join.
    grows: whether fields that come later become features, too.
  """

  def __init__(self, config: Any, grows: bool = False):
    self._config, self._grows = config, grows
    self._told: set[str] = set()
    self._path = pathlib.Path(config.state, _FILE) if config.state else None
    self.is_chosen = bool(len(config.slots))
    self.kinds: dict[str, str] | None = None
    if self.is_chosen:
      self.kinds = dict(config.slots)
    elif self._path is not None and self._path.exists():
      self.kinds = json.loads(self._path.read_text())["slots"]
    self._news = ""
    self._check()

  def infer(self, first: bytes | pa.Schema, where: str) -> None:
    """Takes the types of the first records, if there is one; raises ConfigError about a field.

    Args:
      first: lines of JSON, or a Parquet file's schema.
      where: the file or topic that they are from.
    """
    log = self._config.features
    found = (_of_columns if isinstance(first, pa.Schema) else _of_lines)(first)
    if not found:
      return
    heads = {log[head]: head for head in ("request_id", "item_id", "time")}
    for name, head in heads.items():
      if name not in found:
        raise ConfigError(
          f"{where} has no field {name!r}; say in config.features.{head} what it is called: "
          f"{', '.join(found)}."
        )
    self._add({name: kind for name, kind in found.items() if name not in heads}, where)

  def extend(self, data: bytes | pa.Table, names: set[str], place: lines.Place) -> bool:
    """Takes fields that came later; says whether one of `names` has become a feature."""
    log = self._config.features
    new = names - set(self.kinds or {}) - {log.request_id, log.item_id, log.time} - self._told
    if self.is_chosen or self.kinds is None or not new:
      return False
    if not self._grows:
      self._told |= new
      print(
        f"tfps: {place(0)} has fields that the first file had not: {', '.join(sorted(new))}. They "
        "do not go into samples; set config.slots if they should.",
        file=sys.stderr,
      )
      return False
    found = _of_columns(data.schema) if isinstance(data, pa.Table) else _of_lines(data)
    added = {name: found[name] for name in sorted(new) if name in found}
    if added:
      self._add(added, place(0))
    return bool(added)

  def _add(self, kinds: dict[str, str], where: str) -> None:
    for name, kind in kinds.items():
      if kind not in values.KINDS:
        raise ConfigError(
          f"{where}: the feature {name!r} has values of type {kind}; a sample can hold texts, "
          "whole numbers, decimal numbers, and lists of these. Name the slots that samples need in "
          "config.slots."
        )
    self.kinds = {**(self.kinds or {}), **kinds}
    self._check()
    if self._path is not None:
      self._path.parent.mkdir(parents=True, exist_ok=True)
      write_whole(self._path, json.dumps({"slots": self.kinds}, indent=2) + "\n")
    told = ", ".join(f"{name} {kind}" for name, kind in kinds.items()) or "none"
    self._news = (
      f"tfps: the types of these features are those in {where}: {told}. They hold from now on; "
      "config.slots can say others."
    )

  def tell(self) -> None:
    """Says once which types came from records."""
    if self._news:
      print(self._news, file=sys.stderr)
    self._news = ""

  def _check(self) -> None:
    reserved = next((name for name in self.kinds or () if samples.is_reserved(name)), None)
    if reserved is not None:
      raise ConfigError(
        f"A feature is called {reserved!r}, which samples use themselves; rename it, or set "
        "config.slots without it."
      )


def _of_lines(data: bytes) -> dict[str, str]:
  data, _, _ = lines.clean(data)
  return _at_once(data) or _one_by_one(data)


def _at_once(data: bytes) -> dict[str, str] | None:
  """What `_one_by_one` says, from the types that Arrow guesses; None where these may say less."""
  table = lines.guessed(data)
  if table is None:
    return None
  found = {}
  for name, column in lines.flat(table):
    kind = _of_guessed(column)
    if kind is None or name in found:
      return None
    found[name] = kind
  first = _one_by_one(data[: data.find(b"\n")])  # It says their order.
  return {name: found[name] for name in first} if first.keys() == found.keys() else None


def _of_guessed(column: pa.Array) -> str | None:
  if pa.types.is_list(column.type):
    column = column.flatten()
  if pa.types.is_string(column.type) or pa.types.is_temporal(column.type):
    return "string"
  if pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
    return "int"
  if not pa.types.is_floating(column.type):
    return None
  numbers = column.drop_null().to_numpy(zero_copy_only=False)
  numbers = numbers[~np.isnan(numbers)]
  if (np.abs(numbers) >= 2**63).any():
    return None  # Among them may be whole numbers that are no int.
  return "float" if (numbers != np.floor(numbers)).any() else None


def _one_by_one(data: bytes) -> dict[str, str]:
  kinds: dict[str, str] = {}
  seen: set[tuple[str, type]] = set()  # of types whose values are all of one kind
  for line in data.split(b"\n"):
    record = lines.parse(line)
    for name, value in _pairs(record) if isinstance(record, dict) else ():
      for one in value if type(value) is list else (value,):
        if (name, type(one)) in seen or values.missing(one):
          continue
        if type(one) in (str, float, bool):
          seen.add((name, type(one)))
        kinds[name] = _common(kinds.get(name), _of_value(one))
  return kinds


def _pairs(record: dict) -> Iterable[tuple[str, Any]]:
  for name, value in record.items():
    if type(value) is dict:
      yield from _pairs(value)
    else:
      yield name, value


def _of_value(value: Any) -> str:
  if isinstance(value, int):
    return "int" if -(2**63) <= value < 2**64 else "string"
  if isinstance(value, (list, dict)):
    return "list of lists or objects"
  return "string" if isinstance(value, str) else "float"


def _common(one: str | None, other: str) -> str:
  """The kind of both: a text holds numbers, and a decimal number whole ones."""
  if one is None or one == other:
    return other
  order = ("int", "float", "string")
  if one not in order or other not in order:
    return one if one not in order else other
  return max(one, other, key=order.index)


def _of_columns(schema: pa.Schema) -> dict[str, str]:
  kinds = {}
  for name, kind in _fields(schema):
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
      kind = kind.value_type
    if pa.types.is_dictionary(kind):
      kind = kind.value_type
    if pa.types.is_null(kind):
      continue
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
      kinds[name] = "int"
    elif pa.types.is_floating(kind):
      kinds[name] = "float"
    elif any(getattr(pa.types, f"is_{of}")(kind) for of in _TEXTS):
      kinds[name] = "string"
    else:
      kinds[name] = str(kind)
  return kinds


_TEXTS = ("string", "large_string", "string_view", "binary", "large_binary", "fixed_size_binary")


def _fields(fields: Iterable[pa.Field]) -> Iterable[tuple[str, pa.DataType]]:
  for field in fields:
    if pa.types.is_struct(field.type):
      yield from _fields(field.type)
    else:
      yield field.name, field.type
