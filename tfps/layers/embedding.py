"""The embedding layer: any number of slots in one pull per parameter server."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfps import native
from tfps.graph import compat
from tfps.layers.bags import (
  Bags,
  Column,
  make_bags,
  part_of,
  read_feature,
  shape_like,
  sum_per_example,
)
from tfps.layers.exchange import Exchange, Routing, current_exchange, current_step
from tfps.layers.lookup import Lookup, Pull, Route
from tfps.layers.owner import check_tracked
from tfps.layers.slots import Combiner, LayerSlots, SlotGroup
from tfps.table.feasign_table import FeasignTable


class EmbeddingOutput(NamedTuple):
  """What `Embedding` returns for B examples, P pooled slots and the unpooled rest.

  All have the layer's `compute_dtype`, which is float32 unless the layer has another dtype policy,
  such as mixed_bfloat16. Rows are pulled, pooled and stepped in float32.

  Attributes:
    lr_logit: [B, 1], the sum of the pooled lr weights over the pooled slots that read their own
      rows, and over `lr_slots`; of these an unpooled one adds its sum.
    lr: [B, P], the pooled lr weight of each pooled slot.
    mf: [B, P, mf_dim], the pooled mf vector of each pooled slot, where mf_dim is that of
      the layer, the largest of its slots'. A slot with a smaller one has zeros beyond it.
    sequences: {slot: [B, k, mf_dim]} for the unpooled slots, zeros where an id is padding;
      a tf.RaggedTensor [B, None, mf_dim] where the slot came as one.
    statistics: {slot: float32 [B, k, 2]} for all slots of a layer with `statistics`, else {}: show
      and click of the row of each id, zeros where it is padding or has no row; ragged where the
      slot came so. They take no gradient. `tfps.cvm` makes features of them.

  Examples:
    >>> histories = tfps.Embedding(table, ["user_id", "history"], sequences=["history"])
    >>> output = histories({
    ...   "user_id": tfps.feasign("user_id", ["u7"]),
    ...   "history": tfps.feasign("history", [["m1", "m2", "m3"]]),
    ... })
    >>> output.mf.shape, output.sequences["history"].shape
    (TensorShape([1, 1, 4]), TensorShape([1, 3, 4]))
  """

  lr_logit: tf.Tensor
  lr: tf.Tensor
  mf: tf.Tensor
  sequences: dict[str, tf.Tensor]
  statistics: dict[str, tf.Tensor]


@compat.never_in_saved_model
class Embedding(keras.layers.Layer):
  """Looks up the feasigns of several slots and pools them per slot.

  The ids of all slots are made unique once and pulled in one message per parameter server. In the
  train step of a `tfps.Model` the pulled rows' gradients, shows and clicks are pushed the same way.

  Args:
    table: a `tfps.FeasignTable`.
    slots: names of the slots, which are keys of the features.
    combiner: "sum" (the default), "mean" or "sqrtn", as in `tf.nn.embedding_lookup_sparse`, or
      None: no pooling, the slot's vectors in order. One for all slots, or {slot: combiner} where
      slots that are not named have "sum".
    statistics: whether its output has the shows and clicks of rows, too; exports then have them.
    name: the layer's name.
    dtype: of what it returns, or a dtype policy; that of `keras.mixed_precision` by default.
    share: {slot: the slot of the table whose rows it reads}, or None. Its values are feasigns of
      that slot: strings are hashed with that slot's name, and integers come as
      `tfps.feasign(that slot, ...)`. Its occurrences add no show and no click, make no row and
      admit none; rows that are there get its gradient, by a scale of its own (docs/sharing.md).
    sequences: slots that are not pooled, as with the combiner None.
    counting: slots of `share` whose occurrences count as those of the slot whose rows they read.
    lr_slots: slots of `share` and sequences whose lr weights are in `lr_logit`; by default only
      those of pooled slots that read their own rows are.

  Raises:
    ValueError: if one of these is not usable.

  Examples:
    >>> embedding = tfps.Embedding(table, ["user_id", "genres"], combiner={"genres": "mean"})
    >>> output = embedding({
    ...   "user_id": tfps.feasign("user_id", ["u7", "u8"]),
    ...   "genres": tfps.feasign("genres", [["Drama", "Comedy"], ["Drama", ""]], padding=""),
    ... })
    >>> output.lr_logit.shape, output.mf.shape
    (TensorShape([2, 1]), TensorShape([2, 2, 4]))
  """

  def __init__(
    self,
    table: FeasignTable,
    slots: Sequence[str],
    combiner: Combiner | Mapping[str, Combiner] = "sum",
    name: str | None = None,
    dtype: Any = None,
    *,
    statistics: bool = False,
    share: Mapping[str, str] | None = None,
    sequences: Collection[str] = (),
    counting: Collection[str] = (),
    lr_slots: Collection[str] = (),
  ) -> None:
    super().__init__(name=name, dtype=dtype)
    self._statistics = statistics
    self._slots = LayerSlots(slots, combiner, share or {}, sequences, counting, lr_slots)
    self._slots.check_policies(table)
    self._table = table
    owners = [self._slots.owner_of(slot) for slot in self._slots.pooled + self._slots.unpooled]
    for owner in owners:
      table.slot_id(owner)
    self._mf_dim = max(table.mf_dim_of(owner) for owner in owners)

  @property
  def table(self) -> FeasignTable:
    """The `FeasignTable` that it pulls from."""
    return self._table

  @property
  def reads_statistics(self) -> bool:
    """Whether its output has the shows and clicks of rows."""
    return self._statistics

  @property
  def slots(self) -> list[str]:
    """The slots' names, in the order they were given."""
    return list(self._slots.names)

  def owner_of(self, slot: str) -> str:
    """The slot whose rows `slot` reads: itself, unless it shares those of another one."""
    return self._slots.owner_of(slot)

  @property
  def pooled_slots(self) -> tuple[str, ...]:
    """The pooled slots, in the order in which its output has them."""
    return self._slots.pooled

  @property
  def sequence_slots(self) -> tuple[str, ...]:
    """The slots that are not pooled."""
    return self._slots.unpooled

  @property
  def mf_dim(self) -> int:
    """Length of the mf vectors that it returns: the largest of its slots' (`table.mf_dim_of`)."""
    return self._mf_dim

  def call(
    self,
    features: Mapping[str, Any],
    weights: Mapping[str, Any] | None = None,
    training: bool | None = None,
  ) -> EmbeddingOutput:
    """Pulls and pools.

    Args:
      features: a dict that has for each slot strings or integers (feasigns already): a tensor
        [B], [B, 1] or [B, k] where 0 or "" is padding, a tf.RaggedTensor [B, None] or a
        tf.SparseTensor [B, k], its elements in any order. Other keys are ignored.
      weights: {slot: float32 of the same structure} for some of the slots: each id's row is
        multiplied by its weight, which takes no gradient. Ids of the other slots weigh 1.
      training: whether the result will be trained on.

    Returns:
      `EmbeddingOutput`.

    Raises:
      ValueError: if a slot is missing or has a wrong rank, dtype or batch size, or in training
        outside of the train step of a `tfps.Model`, or if the `tfps.Model` that calls it does not
        track it.
      tf.errors.InvalidArgumentError: when it runs, weights are not where their slot's ids are.
    """
    is_in_step = current_step() is not None or current_exchange().in_training
    if training and not (is_in_step or compat.in_scratch_graph()):
      raise ValueError(
        f"table '{self._table.name}' is used in a keras.Model, whose train step would never push "
        "to it: make the model a tfps.Model (tfps.Model(inputs, outputs) or a subclass)."
      )
    check_tracked(self, f"looks up table '{self._table.name}'")
    columns = self._read(features)
    bags = make_bags(columns, weights, features)
    lookup, parts = self._pull(bags)
    lr, mf = self._pool(parts)
    lr_logit = self._logit_of_pooled(lr)
    vectors = {slot: of for part in parts for slot, of in self._vectors(*part).items()}
    sequences = {}
    for slot in self._slots.unpooled:
      slot_lr, slot_mf = vectors[slot]
      if slot in self._slots.in_logit:
        lr_logit += sum_per_example(slot_lr, columns[slot])
      sequences[slot] = shape_like(slot_mf, columns[slot])
    output = EmbeddingOutput(lr_logit, lr, mf, sequences, {})
    if self.compute_dtype != tf.float32.name:
      output = tf.nest.map_structure(lambda value: tf.cast(value, self.compute_dtype), output)
    return output._replace(statistics=self._statistics_of(lookup, bags, columns))

  def get_config(self) -> dict:
    raise NotImplementedError(
      f"layer '{self.name}' looks up table '{self._table.name}', whose rows are no part of a Keras "
      "config: make the model or the layer again with the code that made it, keep a model with "
      "tfps.checkpoint.CheckpointManager, and serve it with tfps.export.Exporter."
    )

  def check_saved_model(self) -> None:
    """Called before Keras saves the layer in a SavedModel: raises NotImplementedError."""
    raise NotImplementedError(
      f"a SavedModel would leave out the rows of table '{self._table.name}', which layer "
      f"'{self.name}' looks up: serve the model with tfps.callbacks.BaseExport or "
      "tfps.export.Exporter."
    )

  def _read(self, features: Mapping[str, Any]) -> dict[str, Column]:
    if not isinstance(features, dict):
      raise ValueError(
        f"layer '{self.name}' takes a dict {{slot: ids}}, not {type(features).__name__}: give the "
        f"features of {', '.join(self.slots)} by name."
      )
    for slot in self.slots:
      if slot not in features:
        raise ValueError(
          f"slot '{slot}' is missing from the features ({', '.join(map(str, features))}): add it "
          f"to the input's dict, or take it out of the slots of layer '{self.name}'."
        )
    return {
      slot: read_feature(
        slot, features[slot], slot in self._slots.unpooled, self._slots.owner_of(slot)
      )
      for slot in self._slots.in_bags
    }

  def _pull(self, bags: Bags) -> tuple[Lookup, list[_Part]]:
    """A pull, and what each group of slots has of it; a train step will push what answers it."""
    asked = Pull(self._table, 1 + self._mf_dim, self._statistics)
    lookup = _exchange().pull(asked, bags, self._route)
    parts: list[_Part] = []
    first = 0
    for group in self._slots.groups:
      rows, positions, of_group = lookup.rows, lookup.positions, bags
      if len(self._slots.groups) > 1:
        of_group, positions = part_of(bags, positions, first, len(group.slots))
      if parts:
        rows = tf.stop_gradient(rows)  # Each group has a gradient of its own.
      of_part = lookup._replace(
        rows=rows,
        positions=positions,
        row_splits=of_group.row_splits,
        reader=group.reader,
        counts=group.counts,
      )
      parts.append(_Part(group, of_part, of_group))
      first += len(group.slots)
    step = current_step()
    if step is not None and not compat.in_scratch_graph():
      for part in parts:
        step.record(part.lookup, self.trainable)
    return lookup, parts

  def _route(self, bags: Bags) -> Route:
    """The distinct feasigns of the bags, by server."""
    table = self._table
    routed = native.ops.tfps_route(
      ids=bags.ids,
      slot_ends=bags.slot_ends,
      slot_ids=[table.slot_id(self._slots.owner_of(slot)) for slot in self._slots.in_bags],
      assignment=_assignment(table),
      num_servers=table.num_servers,
    )
    return Route(*routed)

  def _pool_rows(self, *arguments: Any) -> tuple[tf.Tensor, tf.Tensor]:
    return _exchange().pool(self._table, *arguments)

  def _pool(self, parts: Sequence[_Part]) -> tuple[tf.Tensor, tf.Tensor]:
    """(lr [B, P], mf [B, P, mf_dim]) of the pooled slots."""
    pooled = [part for part in parts if part.group.pooled]
    if not pooled:
      shape = [parts[0].bags.batch_size, 0]
      return tf.zeros(shape), tf.zeros([*shape, self._mf_dim])
    if len(pooled) == 1:
      return self._pool_group(*pooled[0])
    lr, mf = (tf.concat(of, axis=1) for of in zip(*(self._pool_group(*part) for part in pooled)))
    names = [slot for part in pooled for slot in part.group.pooled]
    order = [names.index(slot) for slot in self._slots.pooled]
    return tf.gather(lr, order, axis=1), tf.gather(mf, order, axis=1)

  def _pool_group(
    self, group: SlotGroup, lookup: Lookup, bags: Bags
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """The same of the pooled slots of one group."""
    combiners = [self._slots.combiners[slot] for slot in group.pooled]
    if not group.unpooled:
      return self._pool_rows(
        lookup.rows, lookup.positions, lookup.row_splits, bags.weights, combiners
      )
    count = len(group.pooled)
    end = bags.slot_ends[count - 1]
    row_splits = lookup.row_splits[: count * bags.batch_size + 1]
    return self._pool_rows(
      lookup.rows, lookup.positions[:end], row_splits, bags.weights[:end], combiners
    )

  def _logit_of_pooled(self, lr: tf.Tensor) -> tf.Tensor:
    """[B, 1]: the sum of the lr weights [B, P] that are in the logit."""
    summed = [i for i, slot in enumerate(self._slots.pooled) if slot in self._slots.in_logit]
    if len(summed) < len(self._slots.pooled):
      lr = tf.gather(lr, tf.constant(summed, tf.int32), axis=1)
    return tf.reduce_sum(lr, axis=1, keepdims=True)

  def _vectors(
    self, group: SlotGroup, lookup: Lookup, bags: Bags
  ) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
    """{slot: (lr [n], mf [n, mf_dim])} of the n ids of a group's unpooled slots."""
    if not group.unpooled:
      return {}
    count = len(group.pooled)
    ends = bags.slot_ends[count:]
    begin = bags.slot_ends[count - 1] if count else tf.zeros([], tf.int64)
    # Each id is a bag of its own.
    positions = lookup.positions[begin:]
    row_splits = tf.range(tf.size(positions, tf.int64) + 1)
    lr, mf = self._pool_rows(lookup.rows, positions, row_splits, bags.weights[begin:], ["sum"])
    sizes = ends - tf.concat([[begin], ends[:-1]], axis=0)
    count = len(group.unpooled)
    parts = zip(tf.split(lr[:, 0], sizes, num=count), tf.split(mf[:, 0, :], sizes, num=count))
    return dict(zip(group.unpooled, parts))

  def _statistics_of(
    self, lookup: Lookup, bags: Bags, columns: Mapping[str, Column]
  ) -> dict[str, tf.Tensor]:
    """{slot: [B, k, 2]}, show and click of each id's row; of no slot if it reads none."""
    if lookup.statistics is None:
      return {}
    at = lookup.positions
    statistics = tf.gather(tf.pad(lookup.statistics, [[1, 0], [0, 0]]), tf.maximum(at, -1) + 1)
    slots = self._slots.in_bags
    sizes = bags.slot_ends - tf.concat([tf.zeros([1], tf.int64), bags.slot_ends[:-1]], axis=0)
    parts = tf.split(tf.stop_gradient(statistics), sizes, num=len(slots))
    return {slot: shape_like(part, columns[slot]) for slot, part in zip(slots, parts)}


class _Part(NamedTuple):
  """What a group of slots has of a layer's pull."""

  group: SlotGroup
  lookup: Lookup
  bags: Bags


def row_widths(model: keras.Model) -> dict[FeasignTable, int]:
  """The floats of a row that a Keras model reads, of each of its tables.

  They are `FeasignTable.row_width`, and 2 more, show and click, where a layer reads statistics.
  """
  widths: dict[FeasignTable, int] = {}
  for layer in embeddings_of(model):
    width = layer.table.row_width + (2 if layer.reads_statistics else 0)
    widths[layer.table] = max(width, widths.get(layer.table, 0))
  return widths


def tables_of(model: keras.Model) -> list[FeasignTable]:
  """The `tfps.FeasignTable`s that the `Embedding` layers of a Keras model pull from, each once."""
  return list(dict.fromkeys(layer.table for layer in embeddings_of(model)))


def slots_of(model: keras.Model) -> dict[FeasignTable, frozenset[str]]:
  """The slots whose rows the `Embedding` layers of a Keras model read, of each of its tables."""
  read: dict[FeasignTable, frozenset[str]] = {}
  for layer in embeddings_of(model):
    read[layer.table] = read.get(layer.table, frozenset()) | set(map(layer.owner_of, layer.slots))
  return read


def embeddings_of(model: keras.Model) -> list[Embedding]:
  """The `Embedding` layers of a Keras model, at whatever depth, each once."""
  return [module for module in model.submodules if isinstance(module, Embedding)]


def _exchange() -> Exchange:
  """The active exchange; where Keras asks for shapes only, one that pulls nothing."""
  return Routing() if compat.in_scratch_graph() else current_exchange()


def _assignment(table: FeasignTable) -> np.ndarray:
  """The server of each virtual shard; a function that is traced with it fixes it."""
  if tf.executing_eagerly() or compat.in_scratch_graph():
    return table.assignment
  return table.fix_assignment()
