"""Raw inputs: what clients of a served model send."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class RawInputs:
  """The features of an example before they are feasigns, as clients of a served model send them.

  Attributes:
    specs: {name: tf.TensorSpec} of strings, int64 or float32, [None], [None, k] or [None, None];
      the first dimension is the batch. Where there are several to an example, "" or 0 fills up.
    features: a function of {name: tensor} to the model's input, a dict; stock TensorFlow ops only.
    sample: None, or a function of (the ordinal of a day, n) to {name: array} of n of its examples
      at most; exports keep some to be checked with.
    check_padding: whether the served graph refuses rows that a server may have filled up with
      values, because it joins requests of different widths (pad_variable_length_inputs). A request
      whose row ends with the value with which it begins is then refused, too.

  Examples:
    >>> user_id, genres = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, None], tf.string)
    >>> raw = tfps.data.RawInputs(
    ...   {"user_id": user_id, "genres": genres},
    ...   lambda raw: {slot: tfps.feasign(slot, value, padding="") for slot, value in raw.items()},
    ... )
    >>> x = raw.features({"user_id": tf.constant(["u7"]), "genres": tf.constant([["Drama", ""]])})
    >>> x["genres"].shape
    TensorShape([1, 2])
    >>> list(raw.of(["genres"]).specs)
    ['genres']
  """

  specs: Mapping[str, tf.TensorSpec]
  features: Callable[[dict[str, tf.Tensor]], dict]
  sample: Callable[[int, int], dict] | None = None
  check_padding: bool = False

  def __post_init__(self) -> None:
    for name, spec in self.specs.items():
      good = spec.dtype in (tf.string, tf.int64, tf.float32) and spec.shape.rank in (1, 2)
      if not good or spec.shape[0] is not None:
        raise ValueError(
          f"raw input '{name}' is {spec.dtype.name} {spec.shape}; it must be string, int64 or "
          "float32, and [None], [None, k] or [None, None]."
        )

  def of(self, slots: Sequence[str]) -> "RawInputs":
    """The inputs of a part of the model, such as one tower: those that some slots are made of.

    Args:
      slots: names in what `features` returns; the others are left out.

    Raises:
      ValueError: `features` returns no such slot, or these are made of no input.
    """
    with tf.Graph().as_default():
      inputs = {
        name: tf.compat.v1.placeholder(spec.dtype, spec.shape) for name, spec in self.specs.items()
      }
      features = self.features(dict(inputs))
      for slot in slots:
        if slot not in features:
          raise ValueError(f"slot '{slot}' is none of the raw inputs' {', '.join(features)}.")
      made = tf.nest.flatten([features[slot] for slot in slots], expand_composites=True)
    needed = _made_of(made)
    specs = {name: spec for name, spec in self.specs.items() if inputs[name].op in needed}
    if not specs:
      raise ValueError(f"the slots {', '.join(slots)} are made of none of the raw inputs.")

    def features_of(raw: dict[str, tf.Tensor]) -> dict:
      rows = tf.shape(raw[next(iter(specs))])[:1]
      absent = {
        name: tf.fill(
          tf.concat([rows, [size or 1 for size in spec.shape[1:]]], axis=0), padding(spec.dtype)
        )
        for name, spec in self.specs.items()
        if name not in specs
      }
      made = self.features({**absent, **raw})
      return {slot: made[slot] for slot in slots}

    return RawInputs(specs, features_of, self.sample, self.check_padding)

  def parse_examples(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """{name: tensor} of serialized tf.Examples [B]; what an example does not have is "" or 0."""
    parsing = {
      name: tf.io.VarLenFeature(spec.dtype)
      if spec.shape.rank == 2
      else tf.io.FixedLenFeature([], spec.dtype, padding(spec.dtype))
      for name, spec in self.specs.items()
    }
    parsed = tf.io.parse_example(serialized, parsing)
    for name, spec in self.specs.items():
      if spec.shape.rank == 2:
        parsed[name] = tf.RaggedTensor.from_sparse(parsed[name]).to_tensor(
          padding(spec.dtype), shape=spec.shape
        )
    return parsed

  def empty_batch(self) -> dict[str, tf.Tensor]:
    """{name: tensor} of one example that has nothing."""
    return {
      name: tf.fill([1 if size is None else size for size in spec.shape], padding(spec.dtype))
      for name, spec in self.specs.items()
    }


def _made_of(tensors: Sequence[tf.Tensor]) -> set[tf.Operation]:
  """The operations that some tensors of a graph depend on, and their own."""
  found: set[tf.Operation] = set()
  waiting = [tensor.op for tensor in tensors]
  while waiting:
    operation = waiting.pop()
    if operation not in found:
      found.add(operation)
      waiting += [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]
  return found


def padding(dtype: tf.DType) -> tf.Tensor:
  """The value that stands for "nothing here"."""
  return tf.constant("" if dtype == tf.string else 0, dtype)
