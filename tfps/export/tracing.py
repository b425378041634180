"""A trained model as a graph of stock ops, whose rows and weights come from elsewhere."""

import tensorflow as tf

from tfps import serving
from tfps.embedding import tables_of
from tfps.export.errors import ExportError
from tfps.graph_defs import anywhere
from tfps.export.served_table import ServedTable
from tfps.export.weights import PackedWeights

# What TensorFlow's kernel takes for: a resource of its own each time that the op runs.
_OF_NO_NAME = "cd2c89b7-88b7-44c8-ad83-06c2a9158347"


class TracedModel:
  """The prediction of a model, cut off from its parameter servers.

  The model is traced once, with stock tables where its embedding layers pull. What it reads of its
  own variables is replaced when it is called.

  Args:
    model: the Keras model, built.
    features: specs of its input: a dict of tf.TensorSpec, tf.RaggedTensorSpec or
      tf.SparseTensorSpec.

  Attributes:
    tables: {name: `ServedTable`}.
    weights: `PackedWeights` of the variables that a prediction reads.

  Raises:
    ExportError: two of its tables have one name, or it needs a resource that is neither a table nor
      a variable.
  """

  def __init__(self, model, features):
    tables = tables_of(model)
    self.tables = {table.name: ServedTable(table.name, table.row_width) for table in tables}
    if len(self.tables) < len(tables):
      raise ExportError("two tables of the model have one name: give each its own.")
    served = {table: self.tables[table.name] for table in tables}

    @tf.function(autograph=False)
    def predict(features):
      with serving.serve_from(served):
        return model(features, training=False)

    concrete = predict.get_concrete_function(features)
    self._graph = concrete.graph
    captures = self._graph.captures
    variables = {id(variable.handle): variable for variable in concrete.variables}
    handles = {id(table.resource_handle) for table in self.tables.values()}
    self._variables, self._others = [], []
    for external, placeholder in captures:
      if id(external) in variables:
        self._variables.append((variables[id(external)], placeholder))
      elif external.dtype == tf.resource and id(external) not in handles:
        raise ExportError(
          f"the model reads '{placeholder.op.name}', which is neither a variable nor a feasign "
          "table: a served model can have nothing else."
        )
      else:
        self._others.append((external, placeholder))
    self.weights = PackedWeights(variable for variable, _ in self._variables)
    self._arguments = self._graph.inputs[: len(self._graph.inputs) - len(captures)]
    self._graph_def = anywhere(self._graph.as_graph_def())

  def __call__(self, features, weights):
    """The model's prediction.

    Args:
      features: tensors as the specs say.
      weights: float32 [weights.size], the packed weights.

    Returns:
      What the model returns.
    """
    inputs = zip(self._arguments, tf.nest.flatten(features, expand_composites=True))
    inputs = {placeholder.name: tensor for placeholder, tensor in inputs}
    for external, placeholder in self._others:
      is_handle = external.dtype == tf.resource
      # The identity captures a table in the graph that is being made.
      value = tf.identity(external) if is_handle else tf.constant(external.numpy())
      inputs[placeholder.name] = value
    for (variable, placeholder), value in zip(self._variables, self.weights.unpack(weights)):
      inputs[placeholder.name] = _variable_of_this_run(variable, value)
    outputs = tf.graph_util.import_graph_def(
      self._graph_def,
      input_map=inputs,
      return_elements=[output.name for output in self._graph.outputs],
      name="model",
    )
    return tf.nest.pack_sequence_as(self._graph.structured_outputs, outputs, expand_composites=True)


def _variable_of_this_run(variable, value):
  """The handle of a variable that holds `value` and is gone when the request is answered."""
  handle = tf.raw_ops.VarHandleOp(
    dtype=variable.dtype, shape=variable.shape, shared_name=_OF_NO_NAME
  )
  assign = tf.raw_ops.AssignVariableOp(resource=handle, value=value)
  with tf.control_dependencies([assign]):
    return tf.identity(handle)
