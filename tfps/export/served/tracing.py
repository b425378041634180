"""A trained model as a graph of stock ops, whose rows and weights are inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfps.errors import ExportError
from tfps.export.served.table import ServedTable
from tfps.export.served.weights import PackedWeights
from tfps.graph.traced import Traced, identity, local_variable
from tfps.layers import served_lookup
from tfps.layers.embedding import row_widths, tables_of

if TYPE_CHECKING:
  import tf_keras as keras


class TracedModel:
  """The prediction of a model, cut off from its parameter servers.

  The model is traced once, with stock tables from which its embedding layers pull. Each call then
  replaces what the trace reads of the model's own variables.

  Args:
    model: the Keras model, built.
    features: the specs of its input by name: tf.TensorSpec, tf.RaggedTensorSpec or
      tf.SparseTensorSpec.

  Attributes:
    tables: the stock tables by name.
    weights: the variables that a prediction reads.

  Raises:
    ExportError: two of the model's tables have one name, or it needs a resource that is neither a
      table nor a variable.
  """

  def __init__(self, model: keras.Model, features: Mapping[str, tf.TypeSpec]) -> None:
    tables = tables_of(model)
    widths = row_widths(model)
    self.tables = {table.name: ServedTable(table.name, widths[table]) for table in tables}
    if len(self.tables) < len(tables):
      raise ExportError("two tables of the model have one name: give each its own.")
    served = {table: self.tables[table.name] for table in tables}

    def predict(features: Mapping[str, Any]) -> Any:
      with served_lookup.Served(served):
        return model(features, training=False)

    self._traced = Traced(predict, features, autograph=False)
    handles = {id(table.resource_handle) for table in self.tables.values()}
    for external, placeholder in self._traced.others:
      if external.dtype == tf.resource and id(external) not in handles:
        raise ExportError(
          f"the model reads '{placeholder.op.name}', which is neither a variable nor a feasign "
          "table: a served model can have nothing else."
        )
    self.weights = PackedWeights(self._traced.variables)

  def __call__(self, features: Mapping[str, Any], weights: tf.Tensor) -> Any:
    """What the model returns.

    Args:
      features: tensors as the specs describe them.
      weights: float32 [weights.size], the packed weights.
    """
    # Each request has variables of its own, which end with it.
    values = zip(self._traced.variables, self.weights.unpack(weights))
    handles = {identity(variable): local_variable(variable, value) for variable, value in values}
    return self._traced(features, handles=handles)
