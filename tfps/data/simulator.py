"""A click stream made up from a seed: data without files and without a network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfps.data import index
from tfps.data.choosing import Examples
from tfps.data.hashing import hash64, mix
from tfps.data.pieces import numbers_in_day
from tfps.data.raw_inputs import RawInputs
from tfps.data.source import Source
from tfps.table.feasigns import feasign

if TYPE_CHECKING:
  from tfps.data.ticket import Ticket

_CATEGORIES = 31  # prime, so that any stride through the tags visits each once
_DEVICES = 4
_CITIES = 50
_USERS = 4_000  # alive at any time
_USER_OFFSET = 50  # the n-th most active is seen in proportion to 1 / (n + offset)
_ITEMS_PER_DAY = 300  # born every day
_ITEM_LIFE = 20  # days after which nobody sees an item any more
_MEAN_ITEM_AGE = 4.0  # days
_FACTORS = 4
_TAGS = 5

_BASE = -2.2  # the logit of an average example
_AFFINITY = 0.7  # of the user's tags for the item's category
_TASTE = 0.1  # of this very user for this very item
_ITEM_BIAS = 0.7
_USER_BIAS = 0.6
_CATEGORY_BIAS = 0.4
_CITY_BIAS = 0.2
_DEVICE_BIAS = 0.2
_HOUR_BIAS = 0.3

_CONVERSION = -1.4  # the logit of an average click
_CONVERSION_OF_CATEGORY = 1.0
_CONVERSION_OF_USER = 0.5


_Simulated = tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]


class ClickStream(Source):
  """Days of simulated clicks of users who come and go on items that are born and fade.

  Example i of day d is a pure function of (seed, d, i), so any range of any day can be opened
  anywhere, and nothing is stored. Clicks follow a logistic model: biases of user, item, category,
  city, device and hour, plus the dot product of the user's and the item's latent factors, of which
  the larger part is that of the user's tags with the item's category, and the rest is each user's
  and item's own. All of it derives from hashes of the ids. About one example in six is a click. The
  true probabilities have an AUC of 0.82; a DeepFM reaches 0.75 on the seventh day.

  Batches are (x, y): x = {slot: int64 feasigns [batch], and [batch, 5] with padding 0 for "tags"},
  y = float32 [batch, 1]; with `labels`, {label: float32 [batch, 1]}.

  Args:
    days: number of days.
    examples_per_day: examples of each day; the hour grows with the position in the day.
    seed: everything derives from it.
    batch_size: examples per batch.
    batches_per_ticket: a ticket holds at most this many batches.
    shuffle: shuffle the tickets of a day and the examples of a ticket; see `Source`.
    labels: names of labels, none of which has a name by default. The first is the click; a second
      one is the conversion, which happens in one click out of four, more often for some categories
      and users.

  Examples:
    >>> stream = tfps.data.ClickStream(days=3, examples_per_day=64)
    >>> [day.name for day in stream.days()]
    ['day-0', 'day-1', 'day-2']
    >>> x, y = next(iter(stream.open(next(stream.tickets()))))
    >>> x["user_id"].shape, x["tags"].shape
    (TensorShape([64]), TensorShape([64, 5]))
  """

  _reads_pieces = True
  slots = ("user_id", "item_id", "category", "tags", "hour", "device", "city")

  def __init__(
    self,
    *,
    days: int = 7,
    examples_per_day: int = 40_000,
    seed: int = 0,
    batch_size: int = 512,
    batches_per_ticket: int = 10,
    shuffle: bool = False,
    labels: Sequence[str] = (),
  ) -> None:
    if isinstance(labels, str) or len(labels) > 2 or len(set(labels)) < len(labels):
      raise ValueError(
        f"labels is {labels!r}; give the name of the click and, if wanted, of the conversion."
      )
    for name, value in (("days", days), ("examples_per_day", examples_per_day)):
      if not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be a whole number, at least 1.")
    names = [f"day-{day}" for day in range(days)]
    super().__init__(
      names,
      batch_size=batch_size,
      batches_per_ticket=batches_per_ticket,
      shuffle=shuffle,
      seed=seed,
    )
    self._examples_per_day = int(examples_per_day)
    self._simulated_seed = int(seed)
    self._labels = tuple(labels)
    ids = {slot: tf.TensorSpec([None], tf.int64) for slot in self.slots}
    ids["tags"] = tf.TensorSpec([None, None], tf.int64)
    self.raw_inputs = RawInputs(ids, _features, self._sample)

  def _cut(self, ordinal: int) -> list[index.Cuts]:
    step, records = self._records_per_range, self._examples_per_day
    bounds = np.append(np.arange(0, records, step), records)
    return [index.Cuts(self._names[ordinal], bounds, step, records)]

  def _examples(self, ticket: Ticket) -> Examples:
    numbers = tf.range(ticket.records)
    if self._shuffle:
      numbers = tf.random.experimental.stateless_shuffle(numbers, self._shuffle_seed(ticket))
    examples = (
      tf.gather(numbers_in_day(ticket), numbers) if self._pieces > 1 else (ticket.begin + numbers)
    )
    values, probability, draw = self._simulate(ticket.day, examples)
    x = _features(values)
    y: Any = tf.cast(draw < probability, tf.float32)[:, tf.newaxis]
    if self._labels:
      y = dict(zip(self._labels, [y, y * self._converts(ticket.day, examples, values)]))
    return Examples((x, y), numbers)

  def _converts(
    self, day: tf.Tensor, examples: tf.Tensor, values: Mapping[str, tf.Tensor]
  ) -> tf.Tensor:
    """float32 [n, 1]: 1 where a click would be followed by a conversion."""
    return _conversions(
      *(tf.cast(one, tf.int64) for one in (self._simulated_seed, day)), examples, values["user_id"],
      values["category"],
    )[:, tf.newaxis]  # fmt: skip

  def _sample(self, day: int, count: int) -> dict[str, np.ndarray]:
    count = min(count, self._examples_per_day)
    values, _, _ = self._simulate(day, tf.range(count, dtype=tf.int64))
    return {slot: ids.numpy() for slot, ids in values.items()}

  def _simulate(self, day: tf.Tensor | int, examples: tf.Tensor) -> _Simulated:
    """Simulates some examples of a day; see `_World.simulate`."""
    scalars = (self._simulated_seed, self._examples_per_day, day)
    return _simulated(*(tf.cast(scalar, tf.int64) for scalar in scalars), examples)


# Its graph is large: it is made once in a process, and not anew wherever a ticket is opened.
@tf.function(input_signature=[tf.TensorSpec([], tf.int64)] * 3 + [tf.TensorSpec([None], tf.int64)])
def _simulated(
  seed: tf.Tensor, examples_per_day: tf.Tensor, day: tf.Tensor, examples: tf.Tensor
) -> _Simulated:
  return _World(seed, examples_per_day).simulate(day, examples)


@tf.function(
  input_signature=[tf.TensorSpec([], tf.int64)] * 2 + [tf.TensorSpec([None], tf.int64)] * 3
)
def _conversions(
  seed: tf.Tensor, day: tf.Tensor, examples: tf.Tensor, user: tf.Tensor, category: tf.Tensor
) -> tf.Tensor:
  """float32 [n]: 1 where a click would be followed by a conversion, else 0."""
  world = _World(seed, tf.ones([], tf.int64))
  logit = (
    _CONVERSION
    + _CONVERSION_OF_CATEGORY * world.factors(12, category, 1)[:, 0]
    + _CONVERSION_OF_USER * world.factors(13, user, 1)[:, 0]
  )
  draw = _uniform(hash64(seed, 11, day, examples), 1)[:, 0]
  return tf.cast(tf.cast(draw, tf.float64) < tf.sigmoid(logit), tf.float32)


class _World:
  """What a seed makes: its users, its items and what happens on a day."""

  slots = ClickStream.slots

  def __init__(self, seed: tf.Tensor, examples_per_day: tf.Tensor):
    self._seed = seed
    self._examples_per_day = examples_per_day

  def simulate(self, day: tf.Tensor, examples: tf.Tensor) -> _Simulated:
    """Simulates some examples of a day.

    Args:
      day: int64 scalar.
      examples: int64 [n], their positions in the day.

    Returns:
      ({slot: int64 [n] or [n, 5]}, the true click probability float64 [n], a uniform number float64
      [n] that is below the probability when there is a click).
    """
    draws = _uniform(hash64(self._seed, 1, day, examples), 6)
    user_draw, age_draw, rank_draw, any_device, device_draw, click_draw = tf.unstack(draws, axis=1)

    # A place among the active users, Zipf-Mandelbrot distributed, is held by one user for some
    # days, then by the next.
    place = tf.cast(_USER_OFFSET * (_power(1 + _USERS / _USER_OFFSET, user_draw) - 1), tf.int64)
    stay = 2 + _below(hash64(self._seed, 2, place), 12)
    user = place * 1000 + (day + _below(hash64(self._seed, 3, place), 12)) // stay
    user_draws = _uniform(hash64(self._seed, 4, user), 5)
    first_tag = tf.cast(_power(_CATEGORIES, user_draws[:, 0]), tf.int64)
    stride = 1 + tf.cast((_CATEGORIES - 1) * user_draws[:, 1], tf.int64)
    tag_count = 1 + tf.cast(_TAGS * user_draws[:, 2], tf.int64)
    position = tf.range(_TAGS, dtype=tf.int64)
    tags = 1 + (first_tag[:, tf.newaxis] - 1 + position * stride[:, tf.newaxis]) % _CATEGORIES
    tags = tf.where(position < tag_count[:, tf.newaxis], tags, 0)
    own_device = 1 + tf.cast(_DEVICES * user_draws[:, 3], tf.int64)
    device = tf.where(any_device < 0.8, own_device, 1 + tf.cast(_DEVICES * device_draw, tf.int64))
    city = tf.cast(_power(_CITIES, user_draws[:, 4]), tf.int64)

    # An item is a rank among those born on one day: a low rank is a popular item, and age makes all
    # of them rarer.
    age = tf.minimum(tf.cast(-_MEAN_ITEM_AGE * _log(1.0 - age_draw), tf.int64), _ITEM_LIFE)
    rank = tf.cast(_power(_ITEMS_PER_DAY, rank_draw), tf.int64)
    item = (day - age + _ITEM_LIFE) * _ITEMS_PER_DAY + rank
    category_draw = _uniform(hash64(self._seed, 5, item), 1)[:, 0]
    category = tf.cast(_power(_CATEGORIES, category_draw), tf.int64)
    hour = examples * 24 // self._examples_per_day

    factors_of = self.factors(6, tf.range(_CATEGORIES + 1), _FACTORS + 1)
    category_factors = tf.gather(factors_of, category)
    tag_weights = tf.cast(tags > 0, tf.float64)[:, :, tf.newaxis]
    tag_factors = tf.reduce_sum(tag_weights * tf.gather(factors_of, tags), 1) / tf.reduce_sum(
      tag_weights, 1
    )
    user_factors = self.factors(7, user, _FACTORS + 1)
    item_factors = self.factors(8, item, _FACTORS + 1)
    logit = (
      _BASE
      + _AFFINITY * tf.reduce_sum(tag_factors[:, 1:] * category_factors[:, 1:], 1)
      + _TASTE * tf.reduce_sum(user_factors[:, 1:] * item_factors[:, 1:], 1)
      + _ITEM_BIAS * item_factors[:, 0]
      + _USER_BIAS * user_factors[:, 0]
      + _CATEGORY_BIAS * category_factors[:, 0]
      + _CITY_BIAS * tf.gather(self.factors(9, tf.range(_CITIES + 1), 1)[:, 0], city)
      + _DEVICE_BIAS * tf.gather(self.factors(10, tf.range(_DEVICES + 1), 1)[:, 0], device)
      + _HOUR_BIAS * tf.sin(tf.cast(hour - 14, tf.float64) * (math.tau / 24))
    )
    columns = (user, item, category, tags, hour, device, city)
    return dict(zip(self.slots, columns)), tf.sigmoid(logit), tf.cast(click_draw, tf.float64)

  def factors(self, purpose: int, ids: tf.Tensor, count: int) -> tf.Tensor:
    """Standard normal numbers that belong to the ids: float64 [..., count]."""
    draws = tf.cast(_uniform(hash64(self._seed, purpose, ids), count), tf.float64)
    return tf.math.ndtri(tf.maximum(draws, 1e-6))


# The last bit of a power or a logarithm depends on TensorFlow's version and on the processor. In
# float64 it is too small to matter: these round their result, and a click compares float64 numbers.
def _power(base: float, exponents: tf.Tensor) -> tf.Tensor:
  """float32: `base` to the power of each of `exponents`."""
  power = tf.constant(base, tf.float64) ** tf.cast(exponents, tf.float64)
  return tf.cast(power, tf.float32)


def _log(values: tf.Tensor) -> tf.Tensor:
  """float32: the natural logarithms."""
  return tf.cast(tf.math.log(tf.cast(values, tf.float64)), tf.float32)


def _features(values: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  """{slot: feasigns} of {slot: ids}, 0 as padding of tags."""
  return {
    slot: feasign(slot, ids, padding=0 if slot == "tags" else None) for slot, ids in values.items()
  }


def _uniform(hashes: tf.Tensor, count: int) -> tf.Tensor:
  """float32 [..., count] in [0, 1): `count` independent numbers from each hash, 24 bits each."""
  bits = mix(hashes[..., tf.newaxis] + tf.cast(tf.range(count), tf.uint64))
  return tf.cast(tf.bitwise.right_shift(bits, tf.constant(40, tf.uint64)), tf.float32) * 2.0**-24


def _below(hashes: tf.Tensor, count: int) -> tf.Tensor:
  """int64 in [0, count)."""
  return (
    tf.cast(tf.bitwise.right_shift(hashes, tf.constant(32, tf.uint64)), tf.int64) * count // 2**32
  )
