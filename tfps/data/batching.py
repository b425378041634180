"""Cuts one structure of tensors, which holds a whole ticket, into a dataset of batches."""

from typing import Any

import tensorflow as tf


def batches(ticket_values: Any, records: tf.Tensor, batch_size: int) -> tf.data.Dataset:
  """A dataset of `ticket_values` cut along the first dimension; the last batch may be smaller.

  The dataset contains no function. A function in a dataset is placed and optimised again whenever a
  ticket is opened, which costs ten times as much as parsing a ticket of Criteo's; ops in the
  surrounding tf.function are placed and optimised once.

  Args:
    ticket_values: a structure of tf.Tensor, tf.RaggedTensor and tf.SparseTensor with a first
      dimension of `records`.
    records: int64 scalar.
    batch_size: a Python integer.
  """
  # A batch's size must look unknown, for the last batch is smaller.
  size = tf.raw_ops.PlaceholderWithDefault(input=tf.constant(batch_size, tf.int64), shape=[])
  full = records // size
  stacked = tf.nest.map_structure(lambda value: _stack(value, full, size), ticket_values)
  rest = tf.nest.map_structure(lambda value: _rows(value, full * size, records), ticket_values)
  last = tf.data.Dataset.from_tensors(rest).take(tf.cast(full * size < records, tf.int64))
  return tf.data.Dataset.from_tensor_slices(stacked).concatenate(last)


def rows(value: tf.Tensor | tf.RaggedTensor | tf.SparseTensor) -> tf.Tensor:
  """int64 scalar: the first dimension of a Tensor, RaggedTensor or SparseTensor."""
  if isinstance(value, tf.RaggedTensor):
    return tf.cast(value.nrows(), tf.int64)
  return (
    value.dense_shape[0] if isinstance(value, tf.SparseTensor) else tf.shape(value, tf.int64)[0]
  )


def all_rows(values: Any) -> tf.Tensor:
  """int64 scalar: the first dimension of all values of a structure, which is that of its first."""
  return rows(tf.nest.flatten(values)[0])


def gathered(values: Any, at: tf.Tensor) -> Any:
  """A structure of tensors of any kind, with the rows of these numbers, int64 [k], ascending.

  An ExtensionType, which has no rows, stays as it is.
  """
  return tf.nest.map_structure(lambda value: _gathered(value, at), values)


def _gathered(value: Any, at: tf.Tensor) -> Any:
  if isinstance(value, tf.experimental.ExtensionType):
    return value
  if not isinstance(value, tf.SparseTensor):
    return tf.gather(value, at)
  place = tf.scatter_nd(
    at[:, tf.newaxis], tf.range(1, tf.size(at, tf.int64) + 1), value.dense_shape[:1]
  )
  rows = tf.gather(place, value.indices[:, 0])
  kept = tf.sparse.retain(value, rows > 0)
  rows = tf.boolean_mask(rows, rows > 0)[:, tf.newaxis] - 1
  shape = tf.concat([[tf.size(at, tf.int64)], value.dense_shape[1:]], 0)
  return tf.SparseTensor(tf.concat([rows, kept.indices[:, 1:]], 1), kept.values, shape)


def padding(spec: Any) -> Any:
  """Returns a batch of one example in the form of an element_spec: zeros and empty strings."""
  return tf.nest.map_structure(_padding, spec)


def repeated(value: Any, times: int) -> Any:
  """A Tensor, RaggedTensor or SparseTensor, `times` times along the first dimension."""
  if isinstance(value, tf.SparseTensor):
    return tf.sparse.concat(0, [value] * times)
  return tf.concat([value] * times, 0)


def _padding(spec: tf.TypeSpec) -> Any:
  if isinstance(spec, tf.RaggedTensorSpec):
    inner = [1 if size is None else size for size in spec.shape[spec.ragged_rank + 1 :]]
    value = tf.zeros([1, *inner], spec.dtype)
    for _ in range(spec.ragged_rank):
      value = tf.RaggedTensor.from_row_lengths(value, tf.constant([1], spec.row_splits_dtype))
    return value
  shape = [1 if size is None else size for size in spec.shape]
  if isinstance(spec, tf.SparseTensorSpec):
    return tf.SparseTensor(tf.zeros([0, len(shape)], tf.int64), tf.zeros([0], spec.dtype), shape)
  return tf.zeros(shape, spec.dtype)


def _stack(value: Any, count: tf.Tensor, size: tf.Tensor) -> Any:
  """The first count * size rows, as [count, size, ...]."""
  value = _rows(value, 0, count * size)
  if isinstance(value, tf.RaggedTensor):
    sizes = (tf.cast(one, value.row_splits.dtype) for one in (size, count))
    return tf.RaggedTensor.from_uniform_row_length(value, *sizes)
  if isinstance(value, tf.SparseTensor):
    return tf.sparse.reshape(value, tf.concat([[count, size], value.dense_shape[1:]], 0))
  inner = value.shape[1:]
  if inner.is_fully_defined():  # Then one tensor serves all values: TensorFlow makes it once.
    return tf.reshape(value, tf.stack([count, size, *(tf.constant(n, tf.int64) for n in inner)]))
  return tf.reshape(value, tf.concat([[count, size], tf.shape(value, tf.int64)[1:]], 0))


def _rows(value: Any, begin: tf.Tensor | int, end: tf.Tensor) -> Any:
  if isinstance(value, tf.SparseTensor):
    begins = tf.one_hot(
      0, tf.size(value.dense_shape), tf.cast(begin, tf.int64), tf.constant(0, tf.int64)
    )
    return tf.sparse.slice(value, begins, tf.concat([[end - begin], value.dense_shape[1:]], 0))
  return value[begin:end]
