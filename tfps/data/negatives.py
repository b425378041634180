"""Sampled negatives: examples of items drawn from all items, added to each batch of a source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfps.data import batching
from tfps.data.ticket import Ticket


class Negatives:
  """Adds examples to each batch: an item, label 0 and weight 0, and nothing in other features.

  What is drawn is a function of the seed, the ticket's sequence number and the batch's number: a
  ticket that runs again is the same data.

  Args:
    items: {feature: array [N, ...]} of all items.
    count: how many are added to a batch.
    seed: of what is drawn.

  Raises:
    ValueError: an argument is not as it must be.
  """

  def __init__(self, items: Mapping[str, npt.ArrayLike], count: int, seed: int) -> None:
    self._items = {name: np.asarray(values) for name, values in items.items()}
    sizes = {name: len(values) for name, values in self._items.items()}
    if len(set(sizes.values())) != 1 or not min(sizes.values()):
      raise ValueError(f"items has {sizes} rows: give each feature one for every item.")
    if not isinstance(count, (int, np.integer)) or count < 1:
      raise ValueError(f"count is {count!r}; it must be a whole number, at least 1.")
    self._number_of_items = min(sizes.values())
    self._count, self._seed = int(count), seed

  def added_to(self, batches: tf.data.Dataset, ticket: Ticket) -> tf.data.Dataset:
    """The ticket's batches with negatives, (x, y, weight) each.

    Raises:
      ValueError: x is no dict of dense tensors with the items' features, or there are no labels.
    """
    self._check(batches.element_spec)
    sequence = tf.cast(ticket.sequence, tf.int64)

    def add(number: tf.Tensor, batch: Any) -> tuple:
      x, y, *rest = batch
      seeds = tf.stack([sequence * 1_000_003 + self._seed, number])
      drawn = tf.random.stateless_uniform(
        [self._count], seeds, 0, self._number_of_items, dtype=tf.int32
      )
      rows = batching.rows(tf.nest.flatten(x)[0])
      weight = rest[0] if rest else tf.ones(tf.expand_dims(rows, 0))
      x = {name: _joined(value, self._features(name, value, drawn)) for name, value in x.items()}
      return x, tf.nest.map_structure(self._with_zeros, y), self._with_zeros(weight)

    return batches.enumerate().map(add)

  def records_of(self, examples: tf.Tensor, batch_size: int) -> tf.Tensor:
    """How many of a ticket's examples are records; only its last batch has fewer of these."""
    batches = -(-examples // (batch_size + self._count))
    return examples - batches * self._count

  def number_of(self, example: int, batch_size: int) -> int:
    """The number of a ticket's example among its records; -1 for one that may be a negative."""
    batch, place = divmod(example, batch_size + self._count)
    return batch * batch_size + place if place < batch_size else -1

  def _features(self, name: str, value: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
    if name in self._items:
      return tf.gather(tf.constant(self._items[name], value.dtype), drawn)
    shape = tf.concat([[self._count], tf.shape(value)[1:]], axis=0)
    return tf.zeros(shape, value.dtype)

  def _with_zeros(self, value: tf.Tensor) -> tf.Tensor:
    shape = tf.concat([[self._count], tf.shape(value)[1:]], axis=0)
    return tf.concat([value, tf.zeros(shape, value.dtype)], axis=0)

  def _check(self, spec: Any) -> None:
    if not isinstance(spec, tuple) or len(spec) < 2 or not isinstance(spec[0], dict):
      raise ValueError(
        "a source with negatives must have batches (x, y) or (x, y, weight), x a dict."
      )
    x = spec[0]
    for name, values in self._items.items():
      if name not in x:
        raise ValueError(f"items has '{name}', which is none of x's features {', '.join(x)}.")
      if not isinstance(x[name], tf.TensorSpec) or x[name].shape.rank != values.ndim:
        raise ValueError(
          f"items' '{name}' has {values.ndim} dimensions, and x's is {x[name]}: give dense tensors "
          "of the same rank."
        )
    for name, one in x.items():
      if not isinstance(one, tf.TensorSpec):
        raise ValueError(f"x's '{name}' is {one}; beside negatives it must be a dense tensor.")


def _joined(value: tf.Tensor, more: tf.Tensor) -> tf.Tensor:
  """One below the other; where there are several to an example, the narrower padded with 0."""
  if value.shape.rank == 2:
    widest = tf.maximum(tf.shape(value)[1], tf.shape(more)[1])
    pad = lambda one: tf.pad(one, [[0, 0], [0, widest - tf.shape(one)[1]]])
    value, more = pad(value), pad(more)
  return tf.concat([value, more], axis=0)
