"""What each type of Arrow's becomes: see the table in docs/inputs.md."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfps import native

if TYPE_CHECKING:
  import numpy.typing as npt
  import pyarrow as pa

STRING, INT, FLOAT, LIST, STRUCT = "string", "int64", "float32", "list", "struct"
_DTYPES = {STRING: tf.string, INT: tf.int64, FLOAT: tf.float32}


@dataclasses.dataclass(frozen=True)
class Kind:
  """What a column becomes.

  Attributes:
    base: STRING, INT or FLOAT: a dense tensor; LIST: a tf.RaggedTensor, or dense where each row has
      the same number of values; STRUCT: a dict.
    fields: (name, Kind) of a struct's fields, or of the elements of a list, whose name is "".
    size: of a list: how many values every row has; 0 where that differs.
  """

  base: str
  fields: tuple[tuple[str, Kind], ...] = ()
  size: int = 0

  def __str__(self) -> str:
    inner = ", ".join(f"{name}: {kind}" if name else str(kind) for name, kind in self.fields)
    return f"{self.base}{self.size or ''}<{inner}>" if inner else self.base

  @property
  def element(self) -> Kind:
    """The kind of a list's elements."""
    return self.fields[0][1]

  def to_json(self) -> list:
    """What JSON can hold, and `from_json` reads."""
    return [self.base, self.size, [[name, kind.to_json()] for name, kind in self.fields]]

  @classmethod
  def from_json(cls, value: list) -> Kind:
    """The kind that `to_json` wrote."""
    base, size, fields = value
    return cls(base, tuple((name, cls.from_json(kind)) for name, kind in fields), size)


def kind_of(kind: pa.DataType) -> Kind | None:
  """The `Kind` of a column of Arrow's type; None where there is none."""
  import pyarrow.types as types

  if isinstance(kind, _arrow().BaseExtensionType):
    return kind_of(kind.storage_type)
  if types.is_dictionary(kind):
    return kind_of(kind.value_type)
  if types.is_map(kind):
    key, value = kind_of(kind.key_type), kind_of(kind.item_type)
    if key is None or value is None:
      return None
    return Kind(LIST, (("", Kind(STRUCT, (("key", key), ("value", value)))),))
  if types.is_struct(kind):
    names = [field.name for field in kind]
    fields = [kind_of(field.type) for field in kind]
    if not names or len(set(names)) < len(names) or None in fields:
      return None
    return Kind(STRUCT, tuple(zip(names, fields)))  # type: ignore[arg-type]
  if _is_list(kind):
    element = kind_of(kind.value_type)
    if element is None:
      return None
    fixed = types.is_fixed_size_list(kind) and element.base in _DTYPES
    return Kind(LIST, (("", element),), kind.list_size if fixed else 0)
  if types.is_integer(kind) or types.is_boolean(kind) or types.is_temporal(kind):
    return None if types.is_interval(kind) else Kind(INT)
  if types.is_floating(kind):
    return Kind(FLOAT)
  return Kind(STRING) if _is_text(kind) else None


def _is_list(kind: pa.DataType) -> bool:
  names = ("list", "large_list", "fixed_size_list", "list_view", "large_list_view")
  return any(getattr(_arrow().types, f"is_{name}")(kind) for name in names)


def _is_text(kind: pa.DataType) -> bool:
  names = (
    "string", "large_string", "string_view", "binary", "large_binary", "binary_view",
    "fixed_size_binary", "decimal", "null",
  )  # fmt: skip
  return any(getattr(_arrow().types, f"is_{name}")(kind) for name in names)


class Texts(tf.experimental.ExtensionType):
  """The texts of a column, of which each row has one.

  Attributes:
    data: uint8 [m], all bytes of k texts.
    offsets: int64 [k + 1], where each begins.
  """

  __name__ = "tfps.Texts"
  data: tf.Tensor
  offsets: tf.Tensor


TEXTS = Texts.Spec(tf.TensorSpec([None], tf.uint8), tf.TensorSpec([None], tf.int64))


def spec(kind: Kind, text: tf.DType = tf.string) -> Any:
  """The spec of a column's tensors: a structure of tf.TensorSpec and tf.RaggedTensorSpec.

  Args:
    kind: of the column.
    text: the dtype of texts; tf.int32 is that of `pack`, before `with_texts`.
  """
  if kind.base == STRUCT:
    return {name: spec(field, text) for name, field in kind.fields}
  if kind.base != LIST:
    return tf.TensorSpec([None], text if kind.base == STRING else _DTYPES[kind.base])
  inner = spec(kind.element, text)
  if kind.size:
    return tf.TensorSpec([None, kind.size], inner.dtype)
  return tf.nest.map_structure(
    lambda one: tf.RaggedTensorSpec(
      [None, None, *one.shape[1:]],
      one.dtype,
      getattr(one, "ragged_rank", 0) + 1,
      tf.int64,
    ),
    inner,
  )


def dtypes(kind: Kind) -> list[tf.DType]:
  """The dtypes of the arrays that stand for a column between `reader.read` and `pack`."""
  if kind.base == STRING:
    return [tf.uint8, tf.int64, tf.int32]
  if kind.base in _DTYPES:
    return [_DTYPES[kind.base]]
  splits = [tf.int64] if kind.base == LIST and not kind.size else []
  return splits + [dtype for _, field in kind.fields for dtype in dtypes(field)]


def joined(columns: Sequence[Kind], parts: Sequence[Sequence[npt.NDArray]]) -> list[npt.NDArray]:
  """Puts the rows of several ranges together.

  Args:
    columns: their kinds.
    parts: of each range an array [n] and then those of `dtypes` of each column.
  """
  rest = [iter(part) for part in parts]
  found = [np.concatenate([next(part) for part in rest])]

  def join(kind: Kind) -> None:
    if kind.base == STRING:
      data, offsets, codes = zip(*[(next(part), next(part), next(part)) for part in rest])
      first = np.cumsum([0, *(len(one) - 1 for one in offsets)], dtype=np.int32)
      found.extend([np.concatenate(data), _ends(offsets)])
      found.append(np.concatenate([one + begin for one, begin in zip(codes, first)]))
    elif kind.base in _DTYPES:
      found.append(np.concatenate([next(part) for part in rest]))
    elif kind.base == LIST and not kind.size:
      found.append(_ends([next(part) for part in rest]))
    for _, field in kind.fields:
      join(field)

  for kind in columns:
    join(kind)
  return found


def _ends(splits: Sequence[npt.NDArray]) -> npt.NDArray:
  """One array of splits, or offsets, of several."""
  begins = np.cumsum([0, *(int(one[-1]) for one in splits)])
  return np.concatenate([[0], *(one[1:] + begin for one, begin in zip(splits, begins))])


def pack(kind: Kind, arrays: Iterator[tf.Tensor], texts: list[Texts]) -> Any:
  """Makes the tensors of a column, with numbers of texts in place of texts.

  Args:
    kind: of the column.
    arrays: yields tensors [k] of `dtypes`: of texts those of `Texts` and the numbers, of lists the
      row splits and then the elements.
    texts: gets the `Texts` of which the numbers are, in their order.
  """
  if kind.base == STRUCT:
    return {name: pack(field, arrays, texts) for name, field in kind.fields}
  if kind.base == STRING:
    texts.append(Texts(_vector(next(arrays)), _vector(next(arrays))))
  if kind.base != LIST:
    return _vector(next(arrays))
  if kind.size:
    return tf.reshape(pack(kind.element, arrays, texts), [-1, kind.size])
  splits = _vector(next(arrays))
  inner = pack(kind.element, arrays, texts)
  ragged = lambda one: tf.RaggedTensor.from_row_splits(one, splits, validate=False)
  return tf.nest.map_structure(ragged, inner)


def with_texts(kind: Kind, values: Any, texts: Iterator[Texts]) -> Any:
  """What `pack` returned, or rows of that, with texts in place of their numbers."""
  if kind.base == STRUCT:
    return {name: with_texts(field, values[name], texts) for name, field in kind.fields}
  if kind.base == LIST:
    return with_texts(kind.element, values, texts)
  if kind.base != STRING:
    return values
  of = next(texts)
  strings = lambda codes: native.ops.tfps_strings(data=of.data, offsets=of.offsets, codes=codes)
  if isinstance(values, tf.RaggedTensor):
    return values.with_flat_values(strings(values.flat_values))
  return strings(values)


def leaves(kinds: Mapping[str, Kind]) -> dict[str, Kind]:
  """{path: Kind} of all values that are no lists or structs, such as {"tags.weight": ...}."""
  found: dict[str, Kind] = {}
  for name, kind in kinds.items():
    if kind.base in _DTYPES:
      found[name] = kind
    else:
      inner = leaves(dict(kind.fields))
      found |= {path_of(name, path): one for path, one in inner.items()}
  return found


def path_of(*names: str) -> str:
  """The names of a column and of what is within it as one, such as "tags.weight"."""
  return ".".join(filter(None, names))


def _vector(tensor: tf.Tensor) -> tf.Tensor:
  tensor.set_shape([None])
  return tensor


def _arrow() -> Any:
  import pyarrow

  return pyarrow
