"""Importing the saved tables of TensorFlow Recommenders Addons (TFRA); TFRA itself is not needed.

The files and tensors of its dynamic-embedding variables (seen with TFRA 0.8.1):
- files `<name>_mht_1of2_rank0_size1-keys` and `...-values`, one pair for each table of a variable
  and process, from `save_to_file_system` and `FileSystemSaver`; a single table's are `<name>-keys`
  and `<name>-values`. They hold nothing but the numbers.
- tensors in a TensorFlow checkpoint or SavedModel: `.../tables_of_<name>/0/.ATTRIBUTES/table-keys`
  and `...-values`, from tf.train.Checkpoint and Keras; `<name>_mht_1of2-keys` from
  tf.compat.v1.train.Saver.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfps.migration.columns import ArrayColumn, RawColumn, open_file
from tfps.migration.from_numpy import write_columns
from tfps.migration.vectors import VectorWriter

if TYPE_CHECKING:
  from tfps.migration.columns import Column
  from tfps.migration.vectors import Imported
  from tfps.table.feasign_table import FeasignTable

_KEYS, _VALUES = "-keys", "-values"
_SHARD = re.compile(r"(.*)_mht_(\d+)of(\d+)(?:_rank(\d+)_size(\d+))?")
_TRACKED = re.compile(r"(?:.*/)?tables_of_([^/]*)/(\d+)/\.ATTRIBUTES/table")
# Between the name of a variable and that of an optimizer's variable for it.
_OF_OPTIMIZER = re.compile(r"[_/]DynamicEmbedding[_/]")
_FOLDER = "TFRADynamicEmbedding"  # where FileSystemSaver puts its files, beside a checkpoint

OpenPair = Callable[[contextlib.ExitStack], Iterable["Column"]]


def import_tfra(
  table: FeasignTable,
  slot: str,
  path: str | os.PathLike,
  variable: str | None = None,
  *,
  dim: int | None = None,
  value_dtype: npt.DTypeLike = "float32",
  feasigns: bool = False,
) -> Imported:
  """Puts what a TFRA variable holds into one slot of a table.

  Every feasign is admitted; its optimizer has taken no step yet.

  Args:
    table: the `tfps.FeasignTable` to fill.
    slot: name of the slot.
    path: the folder of `save_to_file_system`'s files, or what their names begin with; the prefix of
      a TensorFlow checkpoint; or a SavedModel's folder.
    variable: name of the variable; needed where there are several.
    dim: the variable's dim: the slot's mf_dim, which is the default, or 1 more where lr_w comes
      first.
    value_dtype: of the values, where they are files; keys in files are int64.
    feasigns: the keys are feasigns already. Otherwise they are values of the slot, of which
      `tfps.feasign(slot, keys)` makes them: each variable of TFRA has keys of its own, the slots of
      a table share theirs.

  Returns:
    `Imported`, as from `import_numpy`; shows and clicks are those of `import_numpy` without show.

  Raises:
    ValueError: there is no such variable, a file is missing or truncated, or the dim does not fit.
    FileNotFoundError: there is nothing at `path`.
  """
  path = str(path).rstrip("/")
  writer = VectorWriter(table, slot, feasigns)
  dim = dim or writer.mf_dim
  writer.check(path, np.dtype(np.int64), dim)
  tensors, files = _find(path)
  if tensors is not None:
    pairs = _tensor_pairs(tensors, _choose(path, _by_variable(tensors), variable), dim)
  else:
    pairs = _file_pairs(_choose(path, _by_variable(files), variable), dim, np.dtype(value_dtype))
  for open_pair in pairs:  # All have been looked at before the first one is read.
    with contextlib.ExitStack() as stack:
      keys, values = open_pair(stack)
      write_columns(writer, {"keys": keys, "values": values}, keys.shape[0])
  return writer.imported


def _find(path: str) -> tuple[Any, list[str] | None]:
  """Returns (checkpoint reader, None), or (None, the files' paths without "-keys")."""
  prefix = next(
    (p for p in (path, f"{path}/variables/variables") if tf.io.gfile.exists(p + ".index")), None
  )
  if prefix is not None:
    reader = tf.train.load_checkpoint(prefix)
    if any(name.endswith(_KEYS) for name in reader.get_variable_to_shape_map()):
      return reader, None
    path = f"{os.path.dirname(prefix) or '.'}/{_FOLDER}"
  patterns = (f"{path}/*", path, f"{path}_mht_*")
  found = sorted({name for pattern in patterns for name in tf.io.gfile.glob(pattern + _KEYS)})
  if not found:
    raise FileNotFoundError(
      "There is neither a TensorFlow checkpoint with a table of TFRA, nor a file ending in -keys "
      f"at {path}."
    )
  return None, [name.removesuffix(_KEYS) for name in found]


def _by_variable(source: Any) -> dict[str, list[str]]:
  """{variable: [name without "-keys"]} of a checkpoint reader, or of files' paths.

  Checks that no table is missing.
  """
  if not isinstance(source, list):
    tensors = sorted(source.get_variable_to_shape_map())
    source = [name.removesuffix(_KEYS) for name in tensors if name.endswith(_KEYS)]
  variables: dict[str, list[str]] = {}
  expected: dict[str, int] = {}
  for name in source:
    tracked, shard = _TRACKED.fullmatch(name), _SHARD.fullmatch(os.path.basename(name))
    if tracked:
      variable = re.sub(r"\.([.S])", lambda escaped: {".": ".", "S": "/"}[escaped[1]], tracked[1])
    elif shard:
      variable, _, tables, _, processes = shard.groups()
      expected[variable] = int(tables) * int(processes or 1)
    else:
      variable = os.path.basename(name)
    variables.setdefault(variable, []).append(name)
  for variable, count in expected.items():
    if len(variables[variable]) != count:
      there = ", ".join(os.path.basename(name) for name in variables[variable])
      raise ValueError(
        f"variable '{variable}' has {count} tables, but only {len(variables[variable])} are "
        f"there: {there}; put all files of one saving, and of no other, into the folder."
      )
  return variables


def _choose(path: str, variables: Mapping[str, list[str]], variable: str | None) -> list[str]:
  names = [name for name in variables if not _OF_OPTIMIZER.search(name)]
  if variable is None and len(names) == 1:
    return variables[names[0]]
  if variable is None or variable not in variables:
    told = "several variables" if variable is None else f"no variable '{variable}'"
    raise ValueError(f"{path} has {told}; name one of {', '.join(names or variables)}.")
  return variables[variable]


def _tensor_pairs(reader: Any, names: Sequence[str], dim: int) -> list[OpenPair]:
  shapes = reader.get_variable_to_shape_map()

  def pair(name: str) -> OpenPair:
    keys, values = shapes[name + _KEYS], shapes.get(name + _VALUES)
    if values is None or len(values) != 2 or values[0] != keys[0]:
      raise ValueError(f"the tensor {name}{_VALUES} does not belong to {keys[0]} keys: {values}.")
    if values[1] != dim:
      raise ValueError(f"the tensor {name}{_VALUES} has the dim {values[1]}, not {dim}.")
    return lambda stack: [
      ArrayColumn(name + end, reader.get_tensor(name + end)) for end in (_KEYS, _VALUES)
    ]

  return [pair(name) for name in names]


def _file_pairs(names: Sequence[str], dim: int, dtype: np.dtype) -> list[OpenPair]:
  def pair(name: str) -> OpenPair:
    sizes = {}
    for end in (_KEYS, _VALUES):
      file, sizes[end] = open_file(name + end)
      file.close()
    count, rest = divmod(sizes[_KEYS], 8)
    if rest:
      raise ValueError(f"{name}{_KEYS} is truncated: {sizes[_KEYS]:,} bytes are no int64 keys.")
    expected = count * dim * dtype.itemsize
    if sizes[_VALUES] != expected:
      raise ValueError(
        f"{name}{_VALUES} has {sizes[_VALUES]:,} bytes, but {count:,} keys with {dim} {dtype} "
        f"each take {expected:,}: it is truncated, or the variable has another dim."
      )

    def open_pair(stack: contextlib.ExitStack) -> tuple[Column, Column]:
      keys, values = (stack.enter_context(open_file(name + end)[0]) for end in (_KEYS, _VALUES))
      return (
        RawColumn(name + _KEYS, keys, np.int64, [count]),
        RawColumn(name + _VALUES, values, dtype, [count, dim]),
      )

    return open_pair

  return [pair(name) for name in names]
