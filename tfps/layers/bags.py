"""From a dict of features to one flat vector of feasigns with its bags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from tfps.table.feasigns import as_int64, feasign

# The ids of one slot: [B], [B, k], or ragged [B, None].
Column: TypeAlias = "tf.Tensor | tf.RaggedTensor"


class Bags(NamedTuple):
  """The N ids of S slots of B examples, slot after slot.

  Attributes:
    ids: int64 [N], feasigns; 0 is padding.
    row_splits: int64 [S * B + 1]; bag i = s * B + b holds slot s of example b,
      `ids[row_splits[i] : row_splits[i + 1]]`.
    slot_ends: int64 [S], where each slot's ids end.
    weights: float32 [N], or [0] if every weight is 1.
    batch_size: B, an int if it is known, else an int64 scalar.
  """

  ids: tf.Tensor
  row_splits: tf.Tensor
  slot_ends: tf.Tensor
  weights: tf.Tensor
  batch_size: int | tf.Tensor


def read_feature(
  slot: str, feature: Column | tf.SparseTensor, densify: bool = False, owner: str | None = None
) -> Column:
  """The feasigns of one slot.

  Args:
    slot: name of the slot.
    feature: strings or integers (feasigns already): a tensor [B], [B, 1] or [B, k] where 0 or ""
      is padding, a tf.RaggedTensor [B, None] or a tf.SparseTensor [B, k].
    densify: make a tf.SparseTensor dense, not ragged.
    owner: the slot whose feasigns they are, whose name is part of the hash of a string; `slot` by
      default.

  Returns:
    int64: a tensor [B] or [B, k], or a tf.RaggedTensor [B, None].

  Raises:
    ValueError: if it has another rank or dtype.
  """
  feature = _structure(slot, feature, densify)
  if feature.dtype == tf.string:
    return feasign(owner or slot, feature, padding="")
  if feature.dtype.is_integer:
    return _map_values(as_int64, feature)
  raise ValueError(
    f"slot '{slot}' has dtype {feature.dtype.name}: give int64 feasigns or strings "
    "(a Keras input needs keras.Input(..., dtype='int64'))."
  )


def read_values(slot: str, feature: Column | tf.SparseTensor) -> tuple[tf.Tensor, tf.Tensor]:
  """The values of one slot as they are, unhashed and with padding.

  Args:
    slot, feature: as for `read_feature`.

  Returns:
    (values [N], int64 [B]: how many of them each example has, in order).
  """
  feature = _structure(slot, feature, densify=False)
  if isinstance(feature, tf.RaggedTensor):
    return feature.flat_values, tf.cast(feature.row_lengths(), tf.int64)
  shape = tf.shape(feature, tf.int64)
  width = shape[1] if feature.shape.rank == 2 else tf.constant(1, tf.int64)
  return tf.reshape(feature, [-1]), tf.fill(shape[:1], width)


def make_bags(
  columns: Mapping[str, Column],
  weights: Mapping[str, Column | tf.SparseTensor] | None = None,
  features: Mapping[str, Any] | None = None,
) -> Bags:
  """Joins the slots of a batch.

  Args:
    columns: {slot: what `read_feature` returned}, at least one.
    weights: {slot: float32 of the same structure} for some of the slots, or None. Ids of the
      others weigh 1.
    features: {slot: what `read_feature` made a column of}, to see that a weight in a
      tf.SparseTensor is where its id is.

  Returns:
    `Bags`, its slots in the order of `columns`.

  Raises:
    ValueError: if the slots' batch sizes differ, or weights do not have their slot's structure.
    tf.errors.InvalidArgumentError: when it runs, weights are not where their slot's ids are.
  """
  batch_size = _batch_size(columns)
  ids = [_flat(column) for column in columns.values()]
  row_splits, slot_ends = _partition(list(columns.values()), batch_size)
  return Bags(
    tf.concat(ids, axis=0),
    row_splits,
    slot_ends,
    _join_weights(columns, ids, weights or {}, features or {}),
    batch_size,
  )


def part_of(
  bags: Bags, positions: tf.Tensor, first_slot: int, num_slots: int
) -> tuple[Bags, tf.Tensor]:
  """Some slots of the bags, one after the other, with their part of `positions` [N]."""
  first, last = first_slot * bags.batch_size, (first_slot + num_slots) * bags.batch_size
  row_splits = bags.row_splits[first : last + 1]
  begin, end = row_splits[0], row_splits[-1]
  slot_ends = bags.slot_ends[first_slot : first_slot + num_slots] - begin
  part = Bags(
    bags.ids[begin:end], row_splits - begin, slot_ends, bags.weights[begin:end], bags.batch_size
  )
  return part, positions[begin:end]


def sum_per_example(values: tf.Tensor, column: Column) -> tf.Tensor:
  """[B, 1]: the sums of `values` [n], one for each id of `column`."""
  if isinstance(column, tf.RaggedTensor):
    return tf.reduce_sum(column.with_flat_values(values), axis=1)[:, tf.newaxis]
  if column.shape.rank == 1:
    return values[:, tf.newaxis]
  return tf.reduce_sum(tf.reshape(values, tf.shape(column)), axis=1, keepdims=True)


def shape_like(vectors: tf.Tensor, column: Column) -> Column:
  """`vectors` [n, mf_dim] in the structure of `column`'s n ids, [B, k, mf_dim]."""
  if isinstance(column, tf.RaggedTensor):
    return column.with_flat_values(vectors)
  if column.shape.rank == 1:
    return vectors[:, tf.newaxis, :]
  shape = tf.concat([tf.shape(column), [vectors.shape[-1]]], axis=0)
  sequence = tf.reshape(vectors, shape)
  sequence.set_shape([*column.shape, vectors.shape[-1]])
  return sequence


def _structure(slot: str, feature: Column | tf.SparseTensor, densify: bool) -> Column:
  """`feature` as a tensor of rank 1 or 2 or a tf.RaggedTensor of rank 2."""
  if isinstance(feature, tf.SparseTensor):
    if feature.shape.rank == 2:
      feature = tf.sparse.reorder(feature)  # What is in order already stays as it is.
      if densify:
        return tf.sparse.to_dense(feature)
      return tf.RaggedTensor.from_value_rowids(
        feature.values, feature.indices[:, 0], nrows=feature.dense_shape[0], validate=False
      )
  elif isinstance(feature, tf.RaggedTensor):
    if feature.shape.rank == 2:
      return feature
  else:
    feature = tf.convert_to_tensor(feature)
    if feature.shape.rank in (1, 2):
      return feature
  raise ValueError(
    f"slot '{slot}' has the shape {feature.shape}: give a tensor [batch] or [batch, k], a "
    "tf.RaggedTensor [batch, None] or a tf.SparseTensor [batch, k]; a tensor of unknown rank needs "
    "its set_shape."
  )


def _map_values(function: Callable, column: Column) -> Column:
  if isinstance(column, tf.RaggedTensor):
    return column.with_flat_values(function(column.flat_values))
  return function(column)


def _flat(column: Column) -> tf.Tensor:
  values = column.flat_values if isinstance(column, tf.RaggedTensor) else column
  return values if values.shape.rank == 1 else tf.reshape(values, [-1])


def _width(column: Column) -> int | None:
  """Ids per example if that is known and the same for all, else None."""
  if isinstance(column, tf.RaggedTensor):
    return None
  return 1 if column.shape.rank == 1 else column.shape[1]


def _batch_size(columns: Mapping[str, Column]) -> int | tf.Tensor:
  """The batch size that all columns have, an int if every one is known."""
  known = {slot: column.shape[0] for slot, column in columns.items() if column.shape[0] is not None}
  for slot, size in known.items():
    first = next(iter(known))
    if size != known[first]:
      raise ValueError(
        f"slot '{slot}' has a batch of {size} and slot '{first}' one of {known[first]}: "
        "every slot needs the same examples."
      )
  if len(known) == len(columns):
    return known[next(iter(known))]
  sizes = [_dynamic_batch_size(column) for column in columns.values()]
  if len(sizes) == 1:
    return sizes[0]
  first, stacked = sizes[0], tf.stack(sizes)
  message = "every slot needs the same examples, but the batch sizes of the slots are"
  same = tf.debugging.Assert(
    tf.reduce_all(tf.equal(stacked, first)), [message, list(columns), stacked], len(columns)
  )
  # Not a slice of the stack: TensorFlow's optimizer folds it and drops the dependency.
  with tf.control_dependencies([] if same is None else [same]):
    return tf.identity(first)


def _dynamic_batch_size(column: Column) -> tf.Tensor:
  if isinstance(column, tf.RaggedTensor):
    return tf.cast(column.nrows(), tf.int64)
  return tf.shape(column, out_type=tf.int64)[0]


def _partition(
  columns: Sequence[Column], batch_size: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """(row_splits, slot_ends) of the joined columns."""
  num_slots = len(columns)
  slots = tf.range(1, num_slots + 1, dtype=tf.int64)
  widths = {_width(column) for column in columns}
  if len(widths) == 1 and None not in widths:
    (width,) = widths
    row_splits = tf.range(num_slots * batch_size + 1, dtype=tf.int64)
    slot_ends = slots * batch_size
    return (row_splits, slot_ends) if width == 1 else (row_splits * width, slot_ends * width)
  lengths = [_row_lengths(column, batch_size) for column in columns]
  ends = tf.cumsum(tf.concat(lengths, axis=0))
  row_splits = tf.concat([tf.zeros([1], tf.int64), ends], axis=0)
  return row_splits, tf.gather(row_splits, slots * batch_size)


def _row_lengths(column: Column, batch_size: int | tf.Tensor) -> tf.Tensor:
  if isinstance(column, tf.RaggedTensor):
    return tf.cast(column.row_lengths(), tf.int64)
  width = _width(column)
  width = tf.shape(column, out_type=tf.int64)[1] if width is None else tf.cast(width, tf.int64)
  return tf.fill([batch_size], width)


def _join_weights(
  columns: Mapping[str, Column],
  ids: Sequence[tf.Tensor],
  weights: Mapping[str, Column | tf.SparseTensor],
  features: Mapping[str, Any],
) -> tf.Tensor:
  unknown = sorted(set(weights) - set(columns))
  if unknown:
    raise ValueError(
      f"there are weights for slot '{unknown[0]}', which is not one of {list(columns)}."
    )
  if not weights:
    return tf.zeros([0], tf.float32)
  parts = []
  for (slot, column), slot_ids in zip(columns.items(), ids):
    if slot in weights:
      parts.append(_read_weights(slot, column, weights[slot], features.get(slot)))
    else:
      parts.append(tf.ones_like(slot_ids, tf.float32))
  return tf.concat(parts, axis=0)


def _read_weights(
  slot: str, column: Column, given: Column | tf.SparseTensor, feature: Any
) -> tf.Tensor:
  densify = not isinstance(column, tf.RaggedTensor)
  weights = _structure(slot, given, densify)
  ragged = isinstance(weights, tf.RaggedTensor)
  if ragged == densify or not weights.shape.is_compatible_with(column.shape):
    raise ValueError(
      f"the weights of slot '{slot}' are {_describe(weights)} and its ids {_describe(column)}: "
      "give one weight for each id, in the same structure."
    )
  if not (weights.dtype.is_floating or weights.dtype.is_integer):
    raise ValueError(f"the weights of slot '{slot}' have dtype {weights.dtype.name}: give float32.")
  fit = _same_places(given, weights, feature, column)
  flat = tf.cast(_flat(weights), tf.float32)
  if fit is None:
    return flat
  # An assertion's text escapes quotes.
  message = f"the weights of slot {slot} are not where its ids are: give one weight for each id, "
  check = tf.debugging.Assert(fit, [message + "in the same rows and places."])
  with tf.control_dependencies([] if check is None else [check]):
    return tf.identity(flat)


def _same_places(
  given: Column | tf.SparseTensor, weights: Column, feature: Any, column: Column
) -> tf.Tensor | None:
  """Bool scalar: whether weights are where their ids are; None if their shapes say so."""

  def same(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    sizes = tf.shape(a)[0], tf.shape(b)[0]
    both = tf.minimum(*sizes)
    return tf.equal(*sizes) & tf.reduce_all(tf.equal(a[:both], b[:both]))

  both = isinstance(given, tf.SparseTensor), isinstance(feature, tf.SparseTensor)
  if all(both):
    return same(tf.sparse.reorder(given).indices, tf.sparse.reorder(feature).indices)
  if isinstance(column, tf.RaggedTensor):
    # The same tensor says so, too, as weights that were computed from the ids have it.
    splits = [tf.cast(one.row_splits, tf.int64) for one in (weights, column)]
    return None if weights.row_splits is column.row_splits else same(*splits)
  if column.shape.is_fully_defined() and weights.shape.is_fully_defined():
    return None
  return same(tf.shape(weights), tf.shape(column))


def _describe(column: Column) -> str:
  kind = "ragged" if isinstance(column, tf.RaggedTensor) else "dense"
  return f"{kind} {column.shape}"
