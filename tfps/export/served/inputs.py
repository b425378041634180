"""The input of a served model in its three forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfps.data.raw_inputs import padding
from tfps.errors import ExportError
from tfps.graph import compat
from tfps.layers.embedding import Embedding
from tfps.table.feasigns import feasign

if TYPE_CHECKING:
  import tf_keras as keras

  from tfps.data.raw_inputs import RawInputs

Features = dict[str, Any]  # Dense, ragged or sparse tensors by name.


class ModelInputs:
  """The input of a model in three forms: raw, feasigns in dense tensors, and as the model takes it.

  Strings of slots are hashed before they reach the model. A functional model hashes them itself: it
  takes no integers in their place.

  Args:
    model: the Keras model.
    raw: its raw inputs.

  Attributes:
    specs: the specs of the input as the model takes it, by name.
    dense_specs: the same as tf.TensorSpec: ragged and sparse tensors are padded with 0.
  """

  def __init__(self, model: keras.Model, raw: RawInputs) -> None:
    layers = [module for module in model.submodules if isinstance(module, Embedding)]
    self._slots = _owners(layers)
    # The inputs of a functional model keep the dtype that they were made with.
    self._hash = not isinstance(model, compat.functional_model())
    self._raw = raw
    traced = tf.function(self.from_raw, autograph=False).get_concrete_function(dict(raw.specs))
    self.specs = tf.nest.map_structure(tf.type_spec_from_value, traced.structured_outputs)
    for slot in set(self._slots) - set(self.specs):
      raise ExportError(
        f"the raw inputs' features have no slot '{slot}', which the model looks up."
      )
    self.dense_specs = {name: _dense(name, spec) for name, spec in self.specs.items()}

  def from_raw(self, raw: dict[str, tf.Tensor]) -> Features:
    """The model's input, made of raw tensors by name."""
    features = self._raw.features(raw)
    if not isinstance(features, dict):
      raise ExportError("the raw inputs' features must return a dict: the model's input by name.")
    return {name: self._hashed(name, feature) for name, feature in features.items()}

  def to_dense(self, features: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Dense tensors, as `dense_specs` describes them, made of the model's input."""
    dense = {}
    for name, feature in features.items():
      if isinstance(feature, tf.RaggedTensor):
        feature = feature.to_tensor(padding(feature.dtype))
      elif isinstance(feature, tf.SparseTensor):
        feature = tf.sparse.to_dense(feature, padding(feature.dtype))
      dense[name] = feature
    return dense

  def from_dense(self, dense: Mapping[str, tf.Tensor]) -> Features:
    """The model's input, made of dense tensors as `dense_specs` describes them."""
    features = {}
    for name, spec in self.specs.items():
      feature = dense[name]
      if isinstance(spec, tf.RaggedTensorSpec):
        feature = tf.RaggedTensor.from_tensor(
          feature, padding=padding(spec.dtype), row_splits_dtype=spec.row_splits_dtype
        )
      elif isinstance(spec, tf.SparseTensorSpec):
        feature = tf.sparse.from_dense(feature)
      features[name] = feature
    return features

  def _hashed(self, name: str, feature: Any) -> Any:
    if self._hash and name in self._slots and feature.dtype == tf.string:
      return feasign(self._slots[name], feature, padding="")
    return feature


def _owners(layers: Sequence[Embedding]) -> dict[str, str]:
  """{slot: the slot whose feasigns its values are}."""
  owners: dict[str, str] = {}
  for layer in layers:
    for slot in layer.slots:
      owner = owners.setdefault(slot, layer.owner_of(slot))
      if owner != layer.owner_of(slot):
        raise ExportError(
          f"slot '{slot}' reads the rows of slot '{owner}' in one layer and those of slot "
          f"'{layer.owner_of(slot)}' in another: give it two names."
        )
  return owners


def _dense(name: str, spec: tf.TypeSpec) -> tf.TensorSpec:
  return tf.TensorSpec(spec.shape, spec.dtype, name=name)
