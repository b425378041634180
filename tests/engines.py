"""The engines that the conformance suite runs over, all behind one adapter.

An engine is made with the settings of reference.ReferenceTable, plus num_shards. To put another one
under test, subclass Engine and name it in ENGINES.
"""

import abc
import dataclasses
import itertools
import threading
import typing
import uuid

import numpy as np
import tensorflow as tf

from tests import exchanges, messages
from tests.reference import Accessor, Optimizer, Policy
from tfps import native


class Inspection(typing.NamedTuple):
  """Whole rows of n keys, as NumPy arrays."""

  found: np.ndarray  # bool [n]
  slot: np.ndarray  # int32 [n]
  statistics: np.ndarray  # float64 [n, 3]: show, click, delta_score
  unseen_days: np.ndarray  # int32 [n]
  admitted: np.ndarray  # bool [n]
  served: np.ndarray  # bool [n]
  floats: np.ndarray  # float32 [n, row_floats]: lr_w, lr state, mf_w, mf state, zeros


class EvictedRows(typing.NamedTuple):
  """Heads of n rows that leave, as NumPy arrays."""

  keys: np.ndarray  # int64 [n]
  slots: np.ndarray  # int32 [n]
  statistics: np.ndarray  # float64 [n, 3]: show, click, delta_score
  unseen_days: np.ndarray  # int32 [n]


class Engine(abc.ABC):
  """A feasign table of one engine. Every method may be called from several threads at once."""

  def __init__(
    self,
    *,
    mf_dim=8,
    accessor=Accessor(),
    lr=Optimizer(),
    mf=Optimizer(),
    slots=None,
    gradient_scale="per_show",
    seed=0,
    mf_init_range=1e-4,
    max_rows=0,
    max_bytes=0,
    num_shards=1024,
  ):
    self.max_rows = max_rows
    self.max_bytes = max_bytes
    self.policy = Policy(mf_dim, accessor, lr, mf)
    self.slots = slots or {}
    self.gradient_scale = gradient_scale
    self.seed = seed
    self.mf_init_range = mf_init_range
    self.num_shards = num_shards
    policies = [self.policy, *self.slots.values()]
    self.mf_dim = max(policy.mf_dim for policy in policies)
    self.row_floats = max(
      1 + policy.lr.state_size(1) + policy.mf_dim + policy.mf.state_size(policy.mf_dim)
      for policy in policies
    )
    self._open()

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.close()

  @abc.abstractmethod
  def _open(self):
    """Makes the table."""

  @abc.abstractmethod
  def close(self):
    """Frees the table."""

  @abc.abstractmethod
  def pull(self, keys, width=None):
    """As ReferenceTable.pull."""

  @abc.abstractmethod
  def push(self, keys, slots, show, click, gradients):
    """As ReferenceTable.push."""

  @abc.abstractmethod
  def push_messages(self, keys, slots, show, click, gradients, frozen):
    """The same through messages, one for rows of the same frozen: bool [n]; counts are finite."""

  @abc.abstractmethod
  def push_read(self, keys, slots, show, click, gradients, readers, frozen, messages=0):
    """As ReferenceTable.push_read, with frozen: bool [n], in one message.

    If `messages` is given, in so many, which accumulate.
    """

  @abc.abstractmethod
  def set_learning_rates(self, rates, factor):
    """As ReferenceTable.set_learning_rates."""

  @abc.abstractmethod
  def end_of_day(self, day):
    """As ReferenceTable.end_of_day."""

  @abc.abstractmethod
  def end_of_day_rows(self, day, announced=None, first_shard=0, last_shard=None):
    """Ends the day of some shards; returns the EvictedRows. If given, only `announced` leave."""

  @abc.abstractmethod
  def evictable(self, day, first_shard=0, last_shard=None):
    """The EvictedRows of some shards if the day ended now."""

  @abc.abstractmethod
  def count_evictable(self, day):
    """{slot: rows that would be evicted if the day ended now}."""

  @abc.abstractmethod
  def keys(self, first_shard=0, last_shard=None):
    """The keys of the virtual shards [first_shard, last_shard), int64, in any order."""

  @abc.abstractmethod
  def inspect(self, keys):
    """Whole rows, as an Inspection."""

  @abc.abstractmethod
  def statistics(self):
    """{name: float}: those of ReferenceTable.statistics, and bytes."""


class NativeEngine(Engine):
  """The project's own table, through its raw ops."""

  ENGINE = "native"

  def _open(self):
    with tf.device("/device:CPU:0"):
      self._table = native.ops.tfps_table(
        shared_name=uuid.uuid4().hex, options=self.options(), engine=self.ENGINE
      )

  def options(self):
    pairs = {
      name: getattr(self, name)
      for name in (
        "num_shards",
        "seed",
        "mf_init_range",
        "gradient_scale",
        "max_rows",
        "max_bytes",
      )
    }
    pairs |= self._policy_options("", self.policy)
    for slot, policy in self.slots.items():
      pairs |= self._policy_options(f"slot.{slot}.", policy)
    return ";".join(f"{name}={value}" for name, value in pairs.items())

  def _policy_options(self, prefix, policy):
    pairs = {f"{prefix}mf_dim": policy.mf_dim}
    for part in ("accessor", "lr", "mf"):
      for name, value in dataclasses.asdict(getattr(policy, part)).items():
        pairs[f"{prefix}{part}.{name}"] = value
    return pairs

  def close(self):
    tf.raw_ops.DestroyResourceOp(resource=self._table, ignore_lookup_error=True)

  def pull(self, keys, width=None):
    return native.ops.tfps_pull(
      table=self._table, keys=_array(keys, np.int64), row_width=width or 1 + self.mf_dim
    ).numpy()

  def push(self, keys, slots, show, click, gradients):
    native.ops.tfps_push(
      table=self._table,
      keys=_array(keys, np.int64),
      slots=_array(slots, np.int32),
      show=_array(show, np.float32),
      click=_array(click, np.float32),
      gradients=_array(gradients, np.float32),
    )

  def push_messages(self, keys, slots, show, click, gradients, frozen):
    for begin, end in _runs(frozen):
      columns = (column[begin:end] for column in (keys, slots, show, click, gradients))
      exchanges.push(self._table, _message(*columns, frozen=bool(frozen[begin])))

  def push_read(self, keys, slots, show, click, gradients, readers, frozen, messages=0):
    columns = (np.asarray(column) for column in (keys, slots, show, click, gradients))
    columns = [*columns, np.asarray(readers, int), np.asarray(frozen, bool)]
    cuts = np.linspace(0, len(keys), max(messages, 1) + 1).astype(int)
    for begin, end in itertools.pairwise(cuts):
      if begin < end:
        keys, *others = (column[begin:end] for column in columns)
        message = _read_message(keys, *others, references=self._references_of(keys))
        exchanges.push(self._table, message, accumulate=messages > 0)
    if messages:
      native.ops.tfps_apply_accumulated(table=self._table)

  def _references_of(self, keys):
    return [messages.NONE] * len(keys)

  def set_learning_rates(self, rates, factor):
    for change, to in ((_array(rates, np.float32), -1.0), (np.zeros([0, 2], np.float32), factor)):
      native.ops.tfps_set_learning_rates(table=self._table, rates=change, factor=to)

  def end_of_day(self, day):
    return int(native.ops.tfps_end_of_day(table=self._table, day=_array(day, np.int64)))

  def end_of_day_rows(self, day, announced=None, first_shard=0, last_shard=None):
    keys = _array([] if announced is None else announced, np.int64)
    return self._evicted_rows(
      native.ops.tfps_end_of_day_rows(
        table=self._table,
        day=day,
        announced=keys,
        only_announced=announced is not None,
        **self._shards(first_shard, last_shard),
      )
    )

  def evictable(self, day, first_shard=0, last_shard=None):
    return self._evicted_rows(
      native.ops.tfps_evictable(table=self._table, day=day, **self._shards(first_shard, last_shard))
    )

  def count_evictable(self, day):
    slots, rows = native.ops.tfps_count_evictable(table=self._table, day=day)
    return dict(zip(slots.numpy().tolist(), rows.numpy().tolist(), strict=True))

  def _shards(self, first_shard, last_shard):
    last_shard = self.num_shards if last_shard is None else last_shard
    return dict(first_shard=first_shard, last_shard=last_shard)

  def _evicted_rows(self, outputs):
    return EvictedRows(*(output.numpy() for output in outputs))

  def keys(self, first_shard=0, last_shard=None):
    last_shard = self.num_shards if last_shard is None else last_shard
    return native.ops.tfps_keys(
      table=self._table, first_shard=first_shard, last_shard=last_shard
    ).numpy()

  def inspect(self, keys):
    outputs = native.ops.tfps_inspect(
      table=self._table, keys=_array(keys, np.int64), row_floats=self.row_floats
    )
    return Inspection(**{name: value.numpy() for name, value in outputs._asdict().items()})

  def statistics(self):
    names, values = native.ops.tfps_statistics(table=self._table)
    return {name.decode(): float(value) for name, value in zip(names.numpy(), values.numpy())}


class NativeMessages(NativeEngine):
  """The same table through messages, with references from the last pull of a key, or made up."""

  def _open(self):
    super()._open()
    self._references = {}
    self._tickets = itertools.count()
    self._running = set()
    self._lock = threading.Lock()

  def pull(self, keys, width=None):
    width = width or 1 + self.mf_dim
    reply = exchanges.pull(self._table, _array(keys, np.int64), width)
    references = messages.read_pulled(reply.numpy()).references
    self._references.update(zip(np.asarray(keys).tolist(), references.tolist()))
    return native.ops.tfps_read_pulled(messages=[reply], row_width=width).numpy()

  def push(self, keys, slots, show, click, gradients):
    finite = np.isfinite(show) & np.isfinite(click)
    for begin, end in _runs(finite):
      columns = [column[begin:end] for column in (keys, slots, show, click, gradients)]
      if finite[begin]:
        self._push_finite(*columns)
      else:  # There is no message that says so.
        super().push(*columns)

  def _push_finite(self, keys, *columns):
    with self._lock:
      ticket = next(self._tickets)
      self._running.add(ticket)
      finished_below = min(self._running)
    message = _message(
      keys, *columns, references=self._references_of(keys), step=(ticket, 0, finished_below)
    )
    exchanges.push(self._table, message, message)  # The second is dropped.
    with self._lock:
      self._running.remove(ticket)

  def _references_of(self, keys):
    return [self._references.get(key, key % 5000) for key in np.asarray(keys).tolist()]


class TfraEngine(NativeEngine):
  """Rows in the tables of TensorFlow Recommenders Addons."""

  ENGINE = "tfra"


def _message(keys, slots, show, click, gradients, frozen=False, references=None, step=(-1, 0, 0)):
  """The message that pushes these rows; a key that repeats is a row each time."""
  n = len(keys)
  gradients = _array(gradients, np.float32)
  references = [messages.NONE] * n if references is None else references
  (message,) = native.ops.tfps_make_push(
    keys=[_array(keys, np.int64)],
    slots=[_array(slots, np.int32)],
    pulled=[messages.make_pulled(references, gradients.shape[1])],
    positions=[tf.range(n)],
    row_splits=[tf.range(n + 1, dtype=tf.int64)],
    gradients=[gradients],
    frozen=[frozen],
    show=_array(show, np.float32),
    click=_array(click, np.float32),
    scale=1.0,
    step=_array(step, np.int64),
    num_servers=1,
  )
  return message


def _read_message(keys, slots, show, click, gradients, readers, frozen, references):
  """The message that pushes these rows, a look-up for those of each reader, frozen or not.

  The last one is empty: with two or more, rows of the same key and reader are merged.
  """
  lookups = list(dict.fromkeys(zip(readers.tolist(), frozen.tolist())))
  members = [(readers == reader) & (frozen == is_frozen) for reader, is_frozen in lookups]
  lookups, members = [*lookups, (0, False)], [*members, np.zeros(len(keys), bool)]
  references, gradients = np.array(references, np.uint32), np.asarray(gradients, np.float32)
  (message,) = native.ops.tfps_make_push(
    keys=[_array(keys[of], np.int64) for of in members],
    slots=[_array(slots[of], np.int32) for of in members],
    pulled=[messages.make_pulled(references[of], gradients.shape[1]) for of in members],
    positions=[tf.range(int(of.sum())) for of in members],
    row_splits=[_array([0, *np.cumsum(of)], np.int64) for of in members],
    gradients=[gradients[of] for of in members],
    frozen=[is_frozen for _, is_frozen in lookups],
    show=_array(show, np.float32),
    click=_array(click, np.float32),
    scale=1.0,
    step=_array((-1, 0, 0), np.int64),
    num_servers=1,
    readers=[reader for reader, _ in lookups],
  )
  return message


def _runs(flags):
  """(begin, end) of the longest runs of equal flags."""
  changes = np.flatnonzero(np.diff(np.asarray(flags, np.int8))) + 1
  ends = [*changes.tolist(), len(flags)]
  return [(begin, end) for begin, end in zip([0, *ends[:-1]], ends) if begin < end]


def _array(values, dtype):
  return tf.constant(np.asarray(values, dtype))


ENGINES = {"native": NativeEngine, "messages": NativeMessages, "tfra": TfraEngine}
