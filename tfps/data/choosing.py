"""Which examples of its tickets a source has: pure functions of the example, however it is cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from tfps.data import bad_records, batching
from tfps.data.down_sampling import DownSampling
from tfps.data.hashing import hash64, uniform
from tfps.data.pieces import numbers_in_day
from tfps.data.ticket import Ticket
from tfps.table.feasigns import as_int64, feasign


class Examples(NamedTuple):
  """The examples of a ticket, before they are cut into batches.

  Fields:
    values: (x, y) or (x, y, weight), a row for each example.
    numbers: int64 [n]: the number in the ticket, from 0, of the record of each.
    skipped: the `bad_records.Skipped` of the ticket's other records; None for none.
  """

  values: Any
  numbers: tf.Tensor
  skipped: bad_records.Skipped | None = None


class Choice(Protocol):
  """Says which examples are taken."""

  def __call__(self, values: Any, ticket: Ticket, numbers: tf.Tensor) -> tf.Tensor:
    """Bool [n] of `Examples.values` and `numbers`, and the ticket, whose fields are tensors."""


def chosen(examples: Examples, ticket: Ticket, choices: Sequence[Choice]) -> Examples:
  """The examples that all choices take."""
  if not choices:
    return examples
  taken = [choice(examples.values, ticket, examples.numbers) for choice in choices]
  at = tf.where(tf.reduce_all(tf.stack(taken), axis=0))[:, 0]
  values = batching.gathered(examples.values, at)
  return examples._replace(values=values, numbers=tf.gather(examples.numbers, at))


@dataclasses.dataclass(frozen=True)
class Share:
  """A share of all examples, by a hash of some of their features: see `Source.split`.

  Attributes:
    by: the features' names.
    share: of all values that they can have.
    salt: another one makes another share.
    inside: whether the share is taken, or all that is not in it.
  """

  by: tuple[str, ...]
  share: float
  salt: int
  inside: bool

  def __call__(self, values: Any, ticket: Ticket, numbers: tf.Tensor) -> tf.Tensor:
    del ticket, numbers
    keys = [_key(name, values[0][name]) for name in self.by]
    is_in = uniform(hash64(self.salt, *keys)) < self.share
    return is_in if self.inside else tf.logical_not(is_in)


@dataclasses.dataclass(frozen=True)
class Kept:
  """The examples that `Source.down_sample` keeps."""

  sampling: DownSampling

  def __call__(self, values: Any, ticket: Ticket, numbers: tf.Tensor) -> tf.Tensor:
    label = tf.reshape(_label(values[1], self.sampling.label), [-1])
    fields = self.sampling.seed, ticket.source, ticket.day, ticket.epoch
    in_day = tf.gather(numbers_in_day(ticket), numbers)
    drawn = uniform(hash64(*fields, in_day))
    return (label > 0) | (drawn < self.sampling.rate)


def share_of(spec: Any, by: str | Sequence[str], share: float, salt: int) -> Share:
  """The `Share` of a source with this element_spec.

  Raises:
    ValueError: an argument does not fit.
  """
  by = (by,) if isinstance(by, str) else tuple(by)
  if not isinstance(share, (int, float)) or not 0 < share < 1:
    raise ValueError(f"share is {share!r}; it must be a number above 0 and below 1.")
  if not isinstance(salt, (int, np.integer)) or not 0 <= salt < 2**63:
    raise ValueError(f"salt is {salt!r}; it must be a whole number from 0 to 2^63 - 1.")
  if not by:
    raise ValueError("by is empty; name the feature by whose values the share is chosen.")
  for name in by:
    feature = feature_of(spec, name, "by")
    is_key = feature.dtype == tf.string or feature.dtype.is_integer
    if not isinstance(feature, tf.TensorSpec) or not is_key or not _is_column(feature):
      raise ValueError(
        f"by names '{name}', which is not one integer or text for each example; name a feature "
        "that is int64 or string, [n] or [n, 1], such as the user's id."
      )
  return Share(by, float(share), int(salt), True)


def feature_of(spec: Any, name: str, argument: str) -> Any:
  """The spec of a feature in x; raises ValueError, which names the argument, if there is none."""
  x = spec[0] if isinstance(spec, tuple) else spec
  there = list(x) if isinstance(x, dict) else []
  if name not in there:
    names = ", ".join(there) or "none"
    raise ValueError(f"{argument} names '{name}', which is no feature of x; these are {names}.")
  return x[name]


def check_weight(spec: Any, name: str) -> None:
  """Raises ValueError unless the feature with this spec can be a weight."""
  is_number = spec.dtype.is_floating or spec.dtype.is_integer
  if not isinstance(spec, tf.TensorSpec) or not is_number or not _is_column(spec):
    raise ValueError(
      f"weight names '{name}', which is not one number for each example; name a feature that is "
      "float32 or an integer, [n] or [n, 1]."
    )


def check_label(spec: Any, sampling: DownSampling) -> None:
  """Raises ValueError unless a source with this element_spec has the label of `sampling`."""
  y = spec[1] if isinstance(spec, tuple) and len(spec) > 1 else None
  if not tf.nest.flatten(y) or y is None:
    raise ValueError("the source has no labels, so none of its examples is a negative.")
  try:
    label = _label(y, sampling.label)
  except (KeyError, IndexError, TypeError, ValueError):
    names = (
      ", ".join(map(str, y)) if isinstance(y, dict) else f"the first {len(tf.nest.flatten(y))}"
    )
    raise ValueError(
      f"label is {sampling.label!r}, which is none of the source's labels; these are {names}."
    ) from None
  if not isinstance(label, tf.TensorSpec) or not _is_column(label):
    raise ValueError("a label must be one number for each example, [n] or [n, 1].")


def weighted(values: Any, name: str) -> tuple[Any, Any, Any]:
  """(x, y, weight) of (x, y) or (x, y, weight), with the feature `name` of x made a weight."""
  x, y, *weight = values
  x = dict(x)
  of_example = tf.cast(tf.reshape(x.pop(name), [-1]), tf.float32)
  if not weight or weight[0] is None:
    return x, y, of_example
  times = lambda one: one * tf.reshape(tf.cast(of_example, one.dtype), _column_shape(one))
  return x, y, tf.nest.map_structure(times, weight[0])


def _column_shape(value: tf.Tensor) -> list[int]:
  return [-1] + [1] * (value.shape.rank - 1)


def _is_column(spec: tf.TensorSpec) -> bool:
  return spec.shape.rank == 1 or (spec.shape.rank == 2 and spec.shape[1] == 1)


def _key(name: str, feature: tf.Tensor) -> tf.Tensor:
  """uint64 [n]."""
  feature = tf.reshape(feature, [-1])
  keys = feasign(name, feature) if feature.dtype == tf.string else as_int64(feature)
  return tf.bitcast(keys, tf.uint64)


def _label(y: Any, label: str | int | None) -> Any:
  if isinstance(y, dict):
    return y[next(iter(y)) if label is None else label]
  if isinstance(y, (list, tuple)):
    return y[int(label or 0)]
  if label:
    raise ValueError(label)
  return y
