"""The ops: any inputs of the right dtypes are computed with, or refused with an error.

No process ends.
"""

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from tests.fuzz import mutate
from tfps import native

EXPECTED = (
  tf.errors.OpError,
  ValueError,  # What an op's shape function refuses.
  TypeError,
)
# What ends a process by design, and what takes a function.
_LEFT_OUT = {"TfpsEndProcess", "TfpsAttempt"}
_OPTIONS = (
  "mf_dim=3;num_shards=8;accessor.create_threshold=1",
  "mf_dim=3;num_shards=8;slot.1.mf_dim=5;lr.optimizer=adam;mf.optimizer=std_adagrad",
  "mf_dim=1;num_shards=1;mf.optimizer=ftrl;accessor.delete_threshold=0.5",
)
_NUMPY = {tf.int64: np.int64, tf.int32: np.int32, tf.float32: np.float32, tf.float64: np.float64,
          tf.float16: np.float16, tf.bfloat16: tf.bfloat16.as_numpy_dtype, tf.uint8: np.uint8,
          tf.uint16: np.uint16, tf.bool: np.bool_}  # fmt: skip
_MOST_KEPT = 40


class Ops:
  """Calls ops with what was returned by others, that changed, and values at random."""

  def __init__(self, folder, note):
    self._folder = folder
    self._note = note
    self._defs = []
    for function in sorted(dir(native.ops)):
      name = "".join(part.capitalize() for part in function.split("_"))
      is_fuzzed = function.startswith("tfps_") and name not in _LEFT_OUT
      if is_fuzzed and (definition := op_def_registry.get(name)) is not None:
        self._defs.append(definition)
    assert len(self._defs) >= 30
    variables = [tf.Variable(tf.ones([2, 3])), tf.Variable(3, dtype=tf.int64)]
    self._variables = variables
    self._resources = [
      native.ops.tfps_table(shared_name=f"fuzzed-{i}", options=options)
      for i, options in enumerate(_OPTIONS)
    ]
    self._resources.append(
      native.ops.tfps_dense(variables=[v.handle for v in variables], shared_name="fuzzed-dense")
    )
    self._resources.append(variables[0].handle)
    self._kept = {}  # {dtype: arrays that ops returned}

  def __call__(self, rng):
    definition = rng.choice(self._defs)
    arguments = {}
    size = rng.choice((0, 1, 2, 3, 8, 50))
    for attribute in definition.attr:
      arguments[attribute.name] = self._attribute(rng, definition, attribute)
    for argument in definition.input_arg:
      dtypes = [argument.type]
      if argument.number_attr:
        dtypes *= arguments[argument.number_attr]
      elif argument.type_list_attr:
        dtypes = arguments.pop(argument.type_list_attr)
      tensors = [self._tensor(rng, argument, dtype, size) for dtype in dtypes]
      is_list = argument.number_attr or argument.type_list_attr
      arguments[argument.name] = tensors if is_list else tensors[0]
    inferred = {argument.number_attr for argument in definition.input_arg if argument.number_attr}
    for name in inferred:
      if not any(name == output.number_attr for output in definition.output_arg):
        arguments.pop(name, None)
    for name in inferred & arguments.keys():
      arguments.pop(name)
    self._note(f"{definition.name} {_text(arguments)}"[:20000])
    outputs = getattr(native.ops, _snake(definition.name))(**arguments)
    for output in tf.nest.flatten(outputs):
      if isinstance(output, tf.Tensor) and output.dtype in _NUMPY and tf.size(output) < 10_000:
        kept = self._kept.setdefault(output.dtype, [])
        kept.append(output.numpy())
        if len(kept) > _MOST_KEPT:
          kept.pop(rng.randrange(len(kept)))

  def _attribute(self, rng, definition, attribute):
    if attribute.name == "options":
      options = rng.choice(_OPTIONS)
      return mutate.data(rng, options.encode()).decode("latin-1") if rng.random() < 0.7 else options
    if attribute.name == "shared_name":
      return f"made-{rng.randrange(3)}"
    if attribute.name == "container":
      return ""
    if attribute.name in ("prefix", "padding"):
      return rng.choice(("", "slot:", "\x00", "é" * rng.randrange(300)))
    if attribute.type == "bool":
      return rng.random() < 0.5
    if attribute.type == "int":
      most = 4 if attribute.name in ("N", "num_servers", "num_lookups") else 9
      value = rng.randint(max(attribute.minimum, 1), most)
      return rng.choice((4, 4, value, 2**31 - 1)) if attribute.name == "row_floats" else value
    if attribute.type == "list(int)":
      numbers = (0, 0, 1, -1, 2, -2, 2**63 - 1, -(2**63))
      return [rng.choice(numbers) for _ in range(rng.randint(0, 4))]
    if attribute.type in ("type", "list(type)"):
      types = list(attribute.allowed_values.list.type)
      if attribute.type == "type":
        return tf.dtypes.as_dtype(rng.choice(types))
      return [rng.choice(types) for _ in range(rng.randint(attribute.minimum, 3))]
    allowed = [text.decode() for text in attribute.allowed_values.list.s]
    if attribute.type == "list(string)":
      return [rng.choice(allowed) for _ in range(rng.randint(1, 3))]
    assert allowed, (definition.name, attribute.name)
    return rng.choice(allowed)

  def _tensor(self, rng, argument, dtype, size):
    dtype = tf.dtypes.as_dtype(dtype)
    if dtype == tf.resource:
      return rng.choice(self._resources[: 3 if rng.random() < 0.8 else None])
    if dtype == tf.string:
      return self._string(rng)
    kept = self._kept.get(dtype)
    chance = rng.random()
    if kept and chance < (0.6 if dtype == tf.uint8 else 0.2):
      array = rng.choice(kept)
      if array.ndim == 1 and rng.random() < 0.6:
        changed = mutate.data(rng, array.tobytes()) if array.size else b""
        whole = len(changed) // array.itemsize * array.itemsize
        array = np.frombuffer(changed[:whole], array.dtype)
      return tf.constant(array)
    if argument.name in _SCALARS and chance < 0.9:
      shape = ()
    elif chance < 0.8:
      shape = (size,)
    else:
      shape = tuple(rng.choice((0, 1, 2, size)) for _ in range(rng.randrange(4)))
    if argument.name in ("gradients", "rows", "mf_grad", "lr_grad") and chance < 0.9:
      shape = (size, rng.randint(1, 6))
    if argument.name == "step":
      shape = (3,) if chance < 0.95 else shape
    array = self._values(rng, _NUMPY[dtype], int(np.prod(shape, dtype=np.int64)))
    if argument.name in ("row_splits", "slot_ends") and array.size and rng.random() < 0.7:
      array = np.sort(np.abs(array % (size + 2)))
      array[0] = 0
    if argument.name == "num_rows" and rng.random() < 0.95:
      array = array % 20
    return tf.constant(array.reshape(shape))

  def _values(self, rng, dtype, count):
    generator = np.random.default_rng(rng.randrange(2**32))
    kind = rng.randrange(4)
    if dtype is np.bool_:
      return generator.random(count) < 0.5
    if kind == 0:
      return np.frombuffer(generator.bytes(count * np.dtype(dtype).itemsize), dtype)
    if tf.dtypes.as_dtype(dtype).is_floating:  # To NumPy, bfloat16 is no floating type.
      if kind == 1:
        edges = np.array([0, -0.0, 1, -1, np.nan, np.inf, -np.inf, 3e38, 1e-45, 1e300]).astype(
          dtype
        )
        return generator.choice(edges, count)
      return generator.normal(size=count).astype(dtype)
    limits = np.iinfo(dtype)
    if kind == 1:
      edges = [limits.min, limits.min + (dtype is not np.uint8), limits.max, 0, 1, 2]
      return generator.choice(np.array(edges, dtype), count)
    return generator.integers(-1 if limits.min < 0 else 0, 12, count).astype(dtype)

  def _string(self, rng):
    files = sorted(str(path) for path in self._folder.rglob("*") if path.is_file())
    kind = rng.randrange(6)
    if files and kind == 0:  # A file of a checkpoint that is then read: changed.
      path = rng.choice(files)
      with open(path, "rb") as file:
        content = file.read()
      with open(path, "wb") as file:
        file.write(mutate.data(rng, content))
    if kind <= 3:
      return tf.constant(str(self._folder / rng.choice(("a", "b", "c"))))
    return tf.constant(rng.choice(("", "a", "ctr", "ctr", "\0", str(self._folder))))


_SCALARS = {
  "day", "first_shard", "last_shard", "finished_below", "num_rows", "scale", "path", "prefix",
  "table_name", "exit_code",
}  # fmt: skip


def _snake(name):
  return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _text(arguments):
  def one(value):
    if isinstance(value, list):
      return [one(entry) for entry in value]
    if isinstance(value, tf.Tensor) and value.dtype != tf.resource:
      return (
        value.dtype.name,
        value.shape.as_list(),
        np.asarray(value.numpy()).ravel()[:500].tolist(),
      )
    return str(value)[:200]

  return {name: one(value) for name, value in arguments.items()}


def make(folder, note):
  return Ops(folder, note)
