"""Feasigns: 64-bit ids of feature values, made with stock TensorFlow ops."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

_SEPARATOR = "\x1f"  # ASCII's unit separator; no slot name contains it.
_INT64_MIN = -(2**63)


def feasign(slot: str, values: Any, padding: str | int | None = None) -> Any:
  """Turns the values of a slot into feasigns.

  Stock TensorFlow ops only: use it in a tf.data pipeline and in a served model alike. The same
  (slot, value) gives the same feasign in every process and release; slots do not share feasigns.

  A string becomes the farmhash64 fingerprint of slot and value: any two of n distinct strings
  collide with a probability of about n^2 / 2^65. An integer goes through splitmix64's finaliser, a
  bijection of 64 bits (Steele, Lea, Flood 2014), after an XOR with a salt made from the slot's
  name: the integers of one slot do not collide, save that the three of all 2^64 that fall on a
  reserved key move to another one. The integer 5 and the string "5" are different feasigns.

  Args:
    slot: name of the slot.
    values: strings or integers: a tensor of any shape, a NumPy array, a (nested) list, a
      tf.RaggedTensor or a tf.SparseTensor.
    padding: the value that stands for "nothing here", for example "" or 0; it becomes key 0.
      None: there is none.

  Returns:
    int64 of the structure and shape of `values`: never -2^63 or -2^63 + 1, and 0 only for
    `padding`.

  Raises:
    ValueError: if `slot` is not a usable name.
    TypeError: if the values are neither strings nor integers.

  Examples:
    >>> tfps.feasign("user_id", ["u7", "u8", ""], padding="").shape
    TensorShape([3])
    >>> bool(tfps.feasign("age", 25) == tfps.feasign("age", "25"))
    False
    >>> int(tfps.feasign("user_id", "", padding=""))
    0
  """
  if not isinstance(slot, str) or not slot or _SEPARATOR in slot:
    raise ValueError(f"slot must be a name without the character \\x1f, not {slot!r}.")
  if isinstance(values, tf.SparseTensor):
    return values.with_values(feasign(slot, values.values, padding))
  if isinstance(values, tf.RaggedTensor):
    return values.with_flat_values(feasign(slot, values.flat_values, padding))
  if not tf.is_tensor(values):
    values = tf.convert_to_tensor(np.asarray(values))
  column = _column(values)
  if column is not None:
    return _of_column(slot, column, padding)
  if values.dtype == tf.string:
    keys = _hash_strings(slot, values)
  elif values.dtype.is_integer:
    keys = _mix_integers(slot, values)
  else:
    raise TypeError(
      f"slot '{slot}' has values of {values.dtype.name}, but feasigns are made of strings or "
      "integers: bucketise or round the numbers first."
    )
  keys = _avoid_reserved(keys)
  if padding is None:
    return keys
  return tf.where(tf.equal(values, tf.constant(padding, values.dtype)), tf.zeros_like(keys), keys)


def as_int64(values: tf.Tensor) -> tf.Tensor:
  """Integers of any type as int64; uint64 keeps its bits."""
  return tf.bitcast(values, tf.int64) if values.dtype == tf.uint64 else tf.cast(values, tf.int64)


def _column(values: tf.Tensor) -> Any:
  """The op that makes texts of a column of Parquet, if these are such texts in a graph."""
  if values.dtype != tf.string or tf.executing_eagerly():
    return None
  op = getattr(values, "op", None)
  return op if op is not None and op.type == "TfpsStrings" else None


def _of_column(slot: str, op: Any, padding: str | int | None) -> tf.Tensor:
  """The feasigns of a column's texts, each hashed once, without a tensor of these."""
  from tfps import native

  data, offsets, codes = op.inputs
  return native.ops.tfps_feasigns(
    data=data,
    offsets=offsets,
    codes=codes,
    prefix=slot + _SEPARATOR,
    has_padding=padding is not None,
    padding=b"" if padding is None else tf.compat.as_bytes(padding),
  )


def _hash_strings(slot: str, values: tf.Tensor) -> tf.Tensor:
  # The fingerprint op takes one dimension.
  fingerprints = tf.fingerprint(slot + _SEPARATOR + tf.reshape(values, [-1]), method="farmhash64")
  keys = tf.reshape(tf.bitcast(fingerprints, tf.int64), tf.shape(values))
  keys.set_shape(values.shape)
  return keys


def _mix_integers(slot: str, values: tf.Tensor) -> tf.Tensor:
  salt = int.from_bytes(hashlib.blake2b(slot.encode(), digest_size=8).digest(), "little")
  return mix(as_int64(values), salt)


def mix(keys: tf.Tensor, salt: int = 0) -> tf.Tensor:
  """splitmix64's finaliser of `keys` XOR `salt`, a bijection of int64; stock ops only."""
  bits = tf.bitwise.bitwise_xor(tf.bitcast(keys, tf.uint64), _uint64(salt))
  bits = _xor_shifted(bits, 30) * _uint64(0xBF58476D1CE4E5B9)
  bits = _xor_shifted(bits, 27) * _uint64(0x94D049BB133111EB)
  return tf.bitcast(_xor_shifted(bits, 31), tf.int64)


def _uint64(value: int) -> tf.Tensor:
  return tf.constant(value, tf.uint64)


def _xor_shifted(bits: tf.Tensor, shift: int) -> tf.Tensor:
  return tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, _uint64(shift)))


def is_special(keys: tf.Tensor) -> tf.Tensor:
  """Which of int64 `keys` are no feasigns: padding (0), and the reserved -2^63 and -2^63 + 1."""
  return tf.logical_or(tf.equal(keys, 0), tf.less_equal(keys, _INT64_MIN + 1))


def _avoid_reserved(keys: tf.Tensor) -> tf.Tensor:
  """Moves the keys that a table or serving keeps for itself."""
  return tf.where(is_special(keys), tf.bitwise.bitwise_xor(keys, 0x5555555555555555), keys)
