"""Arrays, and the same arrays as a source."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import tensorflow as tf

from tfps.data import batching, index
from tfps.data.source import Source

BATCH = 8  # It does not divide the number of examples.
EXAMPLES = 51


class Data:
  """Examples as `fit` takes them.

  Attributes:
    x, y, sample_weight: arrays, or dicts or tuples of them; y and sample_weight may be None.
    batch_size: examples per batch.
  """

  def __init__(self, x: Any, y: Any = None, sample_weight: Any = None, batch_size: int = BATCH):
    self.x, self.y, self.sample_weight = x, y, sample_weight
    self.batch_size = batch_size

  def part(self, begin: int, end: int | None) -> Data:
    """Some of its examples."""
    slice_of = lambda array: None if array is None else array[begin:end]
    cut = lambda value: tf.nest.map_structure(slice_of, value)
    other = copy.copy(self)
    other.x, other.y, other.sample_weight = cut(self.x), cut(self.y), cut(self.sample_weight)
    return other

  def arrays(self) -> tuple:
    """(x,), (x, y) or (x, y, sample_weight)."""
    return tuple(value for value in (self.x, self.y, self.sample_weight) if value is not None)

  def __len__(self) -> int:
    first = tf.nest.flatten(self.x)[0]
    return int(first.shape[0])


class ArraySource(Source):
  """One day, the examples of `Data`; opened by range, as files are."""

  def __init__(self, data: Data, batches_per_ticket: int):
    super().__init__(["all"], batch_size=data.batch_size, batches_per_ticket=batches_per_ticket)
    self._arrays, self._count = data.arrays(), len(data)

  def _cut(self, ordinal):
    bounds = np.append(np.arange(0, self._count, self._records_per_ticket), self._count)
    return [index.Cuts("all", bounds, self._records_per_ticket, self._count)]

  def _batches(self, ticket):
    values = tf.nest.map_structure(self._range(ticket), self._arrays)
    return batching.batches(values, ticket.records, self.batch_size)

  def _range(self, ticket):
    def cut(array):
      if not isinstance(array, tf.RaggedTensor):
        array = tf.constant(array)
      return array[ticket.begin : ticket.end]

    return cut


def _random() -> np.random.Generator:
  return np.random.default_rng(16)


def floats(*shape: int, examples: int = EXAMPLES) -> np.ndarray:
  """float32 [examples, *shape], the same at each call."""
  return _random().normal(size=[examples, *shape]).astype(np.float32)


def integers(most: int, *shape: int, examples: int = EXAMPLES, seed: int = 1) -> np.ndarray:
  """int64 [examples, *shape] from 0 to most - 1."""
  return np.random.default_rng(seed).integers(0, most, [examples, *shape])


def clicks(examples: int = EXAMPLES) -> np.ndarray:
  """float32 [examples, 1], 0 or 1, that depends on the first of `floats`."""
  noise = np.random.default_rng(2).normal(size=examples)
  return (floats(4, examples=examples)[:, 0] + noise > 0.3).astype(np.float32)[:, np.newaxis]


def weights(examples: int = EXAMPLES) -> np.ndarray:
  """float32 [examples], positive."""
  return np.random.default_rng(3).uniform(0.5, 2, examples).astype(np.float32)


def dense(**settings: Any) -> Data:
  """Four numbers, and a click."""
  return Data(floats(4), clicks(), **settings)


def validation() -> Data:
  """The same for other examples."""
  return Data(floats(4)[::-1][:21].copy(), clicks()[::-1][:21].copy())


def rows(sample_weight: Any = None) -> Data:
  """A user, three words of which some are padding, two numbers; and a click."""
  x = {
    "user": 1 + integers(7),
    "words": integers(9, 3, seed=4) * (integers(3, 3, seed=5) > 0),
    "numbers": floats(2),
  }
  return Data(x, clicks(), sample_weight)
