"""The input of a served model in its three forms."""

import tensorflow as tf
from tf_keras.src.engine.functional import Functional

from tfps.data.raw_inputs import padding
from tfps.errors import ExportError
from tfps.layers.embedding import Embedding
from tfps.table.feasigns import feasign


class ModelInputs:
  """The input of a model in three forms: raw, feasigns in dense tensors, and as the model takes it.

  Strings of slots are hashed before the model; those of a functional model, which takes no integers
  in their place, by the model.

  Args:
    model: the Keras model.
    raw: its `RawInputs`.

  Attributes:
    specs: of the input as the model takes it.
    dense_specs: {name: tf.TensorSpec}, the same with 0 as padding in the place of ragged and sparse
      tensors.
  """

  def __init__(self, model, raw):
    layers = [module for module in model.submodules if isinstance(module, Embedding)]
    self._slots = {slot for layer in layers for slot in layer.slots}
    # The inputs of a functional model have the dtype that they were made with.
    self._hash = not isinstance(model, Functional)
    self._raw = raw
    traced = tf.function(self.from_raw, autograph=False).get_concrete_function(dict(raw.specs))
    self.specs = tf.nest.map_structure(tf.type_spec_from_value, traced.structured_outputs)
    for slot in self._slots - set(self.specs):
      raise ExportError(
        f"the raw inputs' features have no slot '{slot}', which the model looks up."
      )
    self.dense_specs = {name: _dense(name, spec) for name, spec in self.specs.items()}

  def from_raw(self, raw):
    """The model's input of {name: raw tensor}."""
    features = self._raw.features(raw)
    if not isinstance(features, dict):
      raise ExportError("the raw inputs' features must return a dict: the model's input by name.")
    return {name: self._hashed(name, feature) for name, feature in features.items()}

  def to_dense(self, features):
    """{name: tensor} as `dense_specs` say, of the model's input."""
    dense = {}
    for name, feature in features.items():
      if isinstance(feature, tf.RaggedTensor):
        feature = feature.to_tensor(padding(feature.dtype))
      elif isinstance(feature, tf.SparseTensor):
        feature = tf.sparse.to_dense(feature, padding(feature.dtype))
      dense[name] = feature
    return dense

  def from_dense(self, dense):
    """The model's input of {name: tensor} as `dense_specs` say."""
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

  def _hashed(self, name, feature):
    if self._hash and name in self._slots and feature.dtype == tf.string:
      return feasign(name, feature, padding="")
    return feature


def _dense(name, spec):
  return tf.TensorSpec(spec.shape, spec.dtype, name=name)
