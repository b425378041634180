"""Tensor bundles with rows that every parameter server writes itself: a SavedModel's variables."""

from concurrent import futures

import tensorflow as tf

from tfps.checkpoint import files


def write(folder, captures):
  """Puts captured rows into the variables of a SavedModel whose tables are empty.

  Args:
    folder: the SavedModel's.
    captures: {what the names of a table's tensors begin with: `TableCapture`}.
  """
  prefix = files.join(folder, "variables/variables")
  empty = {name for begin, capture in captures.items() if capture.rows for name in _names(begin)}
  others = _others(prefix, empty)
  for path in tf.io.gfile.glob(prefix + ".*"):
    tf.io.gfile.remove(path)
  write_bundle(
    prefix, others, {begin: (_names(begin), capture) for begin, capture in captures.items()}
  )


def write_bundle(prefix, tensors, captures):
  """Writes a tensor bundle to which every parameter server adds its rows itself.

  Each server writes its rows as a slice of the tensors; merging moves files and joins their
  indexes, as TensorFlow's own sharded saver does.

  Args:
    prefix: path of the bundle without its endings.
    tensors: {name: tensor} that the chief adds.
    captures: {any: ((name of the keys' tensor, name of the rows'), `TableCapture`)}.
  """
  parts = prefix + "-parts"
  tf.io.gfile.makedirs(parts)
  whole = [""] * len(tensors)
  jobs = [(None, files.join(parts, "chief"), list(tensors), whole, list(tensors.values()))]
  for names, capture in captures.values():
    for device, first, keys, rows in capture.slices():
      n, width = rows.shape
      slices = [f"{capture.rows} {first},{n}", f"{capture.rows} {width} {first},{n}:-"]
      part = files.join(parts, f"rows-{len(jobs)}")
      jobs.append((device, part, list(names), slices, [keys, rows]))
  with futures.ThreadPoolExecutor(len(jobs)) as pool:
    list(pool.map(lambda job: _save(*job), jobs))
  tf.raw_ops.MergeV2Checkpoints(
    checkpoint_prefixes=[job[1] for job in jobs], destination_prefix=prefix, delete_old_dirs=True
  )


def table_prefixes(folder):
  """{name of a table: what the names of its two tensors begin with} in the variables of a SavedModel."""
  names = [name for name, _ in tf.train.list_variables(files.join(folder, "variables/variables"))]
  begins = [name.removesuffix("-keys") for name in names if name.endswith("-keys")]
  return {begin.split("/")[1]: begin for begin in begins}


def _names(begin):
  return [begin + "-keys", begin + "-rows"]


def _others(prefix, without):
  """{name: tensor} of a bundle's tensors, some left out."""
  reader = tf.train.load_checkpoint(prefix)
  names = sorted(set(reader.get_variable_to_shape_map()) - without)
  return {name: tf.constant(reader.get_tensor(name)) for name in names}


def _save(device, prefix, names, slices, tensors):
  with tf.device(device):
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=slices, tensors=tensors)
