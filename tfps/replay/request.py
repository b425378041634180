"""A request of a log, and how the fields of a log are called."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfps.export.served.model import CLASSIFY, EXAMPLES, REGRESS
from tfps.replay.records import Place

RAW, FEASIGNS = "serving_default", "feasigns"
SERIALIZED = (CLASSIFY, EXAMPLES, REGRESS)  # Their input is tf.Examples.

_SEPARATOR = "\x1f"


class Where(NamedTuple):
  """The place of an example: a record, and its row there where it has several."""

  place: Place
  row: int | None = None

  def __str__(self) -> str:
    return str(self.place) if self.row is None else f"{self.place}, row {self.row}"


@dataclasses.dataclass(frozen=True)
class Request:
  """What was asked for in one call, or some records of a feature log.

  Attributes:
    number: of its record in the log; of the first of its records.
    signature: the signature that it called.
    version: the version that served it; None where the log does not say.
    inputs: {name: array [n, ...]}, as they were sent.
    outputs: {name: float [n, k]} that were logged; {} where none were.
    ids: the id of each example, None where it has none.
    where: the place of each example.
    together: whether one call served all examples.
  """

  number: int
  signature: str
  version: int | None
  inputs: Mapping[str, np.ndarray]
  outputs: Mapping[str, np.ndarray]
  ids: Sequence[str | None]
  where: Sequence[Where]
  together: bool

  def __len__(self) -> int:
    return len(self.where)


@dataclasses.dataclass(frozen=True)
class Fields:
  """How the fields of a log are called.

  Attributes:
    ids: those that identify an example together; a log of requests has them among its inputs.
    prediction: of a feature log, what was predicted: a number, or for a model with several outputs
      PREDICTION/NAME each; an object of JSON may have {NAME: number}.
    version: of a feature log, the version that predicted it.
    model: the model whose requests are replayed; those of all where it is None.
  """

  ids: Sequence[str] = ("request_id", "item_id")
  prediction: str = "prediction"
  version: str = "model_version"
  model: str | None = None


def features_of(serialized: bytes) -> dict[str, Sequence[Any]]:
  """{name: values} of a tf.Example."""
  features = tf.train.Example.FromString(serialized).features.feature
  found = {}
  for name, feature in features.items():
    kind = feature.WhichOneof("kind")
    if kind is not None:
      found[name] = getattr(feature, kind).value
  return found


def id_of(features: Mapping[str, Any], fields: Sequence[str]) -> str | None:
  """The values of some fields as one text; None where one of them is missing."""
  values = [one(features.get(name)) for name in fields]
  if not values or any(value is None for value in values):
    return None
  texts = [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in values]
  return _SEPARATOR.join(texts)


def shown(id: str | None) -> str:
  """An id as people read it."""
  return "no id" if id is None else id.replace(_SEPARATOR, "/")


def one(value: Any) -> Any:
  """A value, or the only one of a list; None of an empty one."""
  if isinstance(value, np.ndarray):
    value = value.ravel().tolist()
  elif isinstance(value, np.generic):
    value = value.item()
  if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
    return value
  return value[0] if len(value) else None


def first_line(error: Exception) -> str:
  """The first line of an error's message."""
  return str(getattr(error, "message", error)).strip().partition("\n")[0]
