"""Tensor bundles with rows that every parameter server writes itself: a SavedModel's variables."""

from concurrent import futures

import numpy as np
import tensorflow as tf

from tfps.storage import files


def write(folder, captures):
  """Puts captured rows into the variables of a SavedModel whose tables are empty.

  Args:
    folder: the SavedModel's.
    captures: {what the names of a table's tensors begin with: as of `write_bundle`}.
  """
  prefix = files.join(folder, "variables/variables")
  empty = {
    name for begin, capture in captures.items() if capture.rows for name in row_tensors(begin)
  }
  others = other_tensors(prefix, empty)
  for path in tf.io.gfile.glob(prefix + ".*"):
    tf.io.gfile.remove(path)
  write_bundle(
    prefix, others, {begin: (row_tensors(begin), capture) for begin, capture in captures.items()}
  )


def write_bundle(prefix, tensors, captures):
  """Writes a tensor bundle to which every parameter server adds its rows itself.

  Each server writes its rows as a slice of the tensors; merging moves files and joins their
  indexes, as TensorFlow's own sharded saver does.

  Args:
    prefix: path of the bundle without its endings.
    tensors: {name: tensor} that the chief adds.
    captures: {any: ((name of the keys' tensor, name of the rows'), `TableCapture`, or what has `rows`
      and `streams()` as it does)}.
  """
  parts = prefix + "-parts"
  tf.io.gfile.makedirs(parts)
  chief = files.join(parts, "chief")
  _save(None, chief, list(tensors), [""] * len(tensors), list(tensors.values()))
  streams = [
    (names, capture.rows, stream)
    for names, capture in captures.values()
    for stream in capture.streams()
  ]

  def write_stream(number):
    names, total, stream = streams[number]
    written = []
    for device, first, keys, rows in stream:
      n, width = rows.shape
      part = files.join(parts, f"rows-{number}-{len(written)}")
      slices = [f"{total} {first},{n}", f"{total} {width} {first},{n}:-"]
      _save(device, part, list(names), slices, [keys, rows])
      written.append(part)
    return written

  with futures.ThreadPoolExecutor(max(len(streams), 1)) as pool:
    written = list(pool.map(write_stream, range(len(streams))))
  tf.raw_ops.MergeV2Checkpoints(
    checkpoint_prefixes=[chief, *(part for parts in written for part in parts)],
    destination_prefix=prefix,
    delete_old_dirs=True,
  )


def table_prefixes(folder):
  """{name of a table: what the names of its two tensors begin with} in the variables of a SavedModel."""
  names = [name for name, _ in tf.train.list_variables(files.join(folder, "variables/variables"))]
  begins = [name.removesuffix("-keys") for name in names if name.endswith("-keys")]
  return {begin.split("/")[1]: begin for begin in begins}


def read_slice(prefix, name, dtype, shape, begin, size):
  """Rows of a tensor in a bundle.

  Args:
    prefix: path of the bundle without its endings.
    name: of the tensor.
    dtype, shape: the whole tensor's.
    begin: the first row wanted.
    size: the most rows wanted.

  Returns:
    Array [at most size, ...].
  """
  size = min(size, shape[0] - begin)
  if size <= 0:
    return np.zeros([0, *shape[1:]], dtype.as_numpy_dtype)
  piece = ":".join([f"{begin},{size}", *["-"] * (len(shape) - 1)])
  (tensor,) = tf.raw_ops.RestoreV2(
    prefix=prefix,
    tensor_names=[name],
    shape_and_slices=[" ".join([*map(str, shape), piece])],
    dtypes=[dtype],
  )
  return tensor.numpy()


def row_tensors(begin):
  """What the tensors of a table are called: (keys, rows)."""
  return begin + "-keys", begin + "-rows"


def other_tensors(prefix, without):
  """{name: tensor} of a bundle's tensors, some left out."""
  reader = tf.train.load_checkpoint(prefix)
  names = sorted(set(reader.get_variable_to_shape_map()) - without)
  return {name: tf.constant(reader.get_tensor(name)) for name in names}


def _save(device, prefix, names, slices, tensors):
  with tf.device(device):
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=slices, tensors=tensors)
