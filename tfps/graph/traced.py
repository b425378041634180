"""A function traced once, with variables that can be other ones wherever it is called."""

import tensorflow as tf
from tensorflow.python.eager import context

from tfps.graph.graph_defs import anywhere

# What TensorFlow's kernel takes for: a resource of its own each time that the op runs.
_OF_NO_NAME = "cd2c89b7-88b7-44c8-ad83-06c2a9158347"

# What leaves a variable as it is.
_READS = (
  "ReadVariableOp",
  "ResourceGather",
  "ResourceGatherNd",
  "VariableShape",
  "VarIsInitializedOp",
)


class Traced:
  """A function as a graph without devices, in which variables are replaced when it is called.

  Args:
    function: a Python function of tensors.
    *specs: nested tf.TypeSpecs of its arguments.
    side_effects: whether what it does is wanted, or only what it returns.
    autograph: whether AutoGraph converts it.

  Attributes:
    variables: the tf.Variables that it uses.
    changed: those of them that it may change.
    concrete: the ConcreteFunction.
  """

  def __init__(self, function, *specs, side_effects=True, autograph=True):
    self.concrete = tf.function(function, autograph=autograph).get_concrete_function(*specs)
    graph = self.concrete.graph
    named = {identity(variable): variable for variable in self.concrete.variables}
    self.others = [(e, p) for e, p in graph.captures if id(e) not in named]
    self._variables = [(named[id(e)], p) for e, p in graph.captures if id(e) in named]
    graph_def = graph.as_graph_def()
    roots = [output.op.name for output in graph.outputs]
    if side_effects:
      roots += [op.name for op in graph.control_outputs]
    else:
      for node in graph_def.node:
        data = [name for name in node.input if not name.startswith("^")]
        node.ClearField("input")
        node.input.extend(data)
    there = _reachable(graph_def, roots)
    nodes = [node for node in graph_def.node if node.name in there]
    del graph_def.node[:]
    graph_def.node.extend(nodes)
    self._variables = [(v, p) for v, p in self._variables if p.op.name in there]
    self.others = [(e, p) for e, p in self.others if p.op.name in there]
    self.variables = [variable for variable, _ in self._variables]
    self.changed = [
      variable
      for variable, placeholder in self._variables
      if any(op.type not in _READS for op in placeholder.consumers() if op.name in there)
    ]
    arguments = graph.inputs[: len(graph.inputs) - len(graph.captures)]
    self._arguments = [(i, p) for i, p in enumerate(arguments) if p.op.name in there]
    self.graph_def = anywhere(graph_def)
    for nodes in (self.graph_def.node, *(f.node_def for f in self.graph_def.library.function)):
      for node in nodes:
        node.attr.pop("_class", None)  # With which node it was to be placed.
    for function in self.graph_def.library.function:
      # Importing into the body of a loop does not make a function known where the loop runs.
      context.context().add_function_def(function)

  def __call__(self, *arguments, handles):
    """What the function returns.

    Args:
      *arguments: as the specs say.
      handles: {identity of a variable: the resource handle that takes its place}.
    """
    flat = tf.nest.flatten(arguments, expand_composites=True)
    inputs = {placeholder.name: _here(flat[i]) for i, placeholder in self._arguments}
    for external, placeholder in self.others:
      is_handle = external.dtype == tf.resource
      inputs[placeholder.name] = _here(external) if is_handle else tf.constant(external.numpy())
    for variable, placeholder in self._variables:
      inputs[placeholder.name] = _here(handles[identity(variable)])
    outputs = tf.graph_util.import_graph_def(
      self.graph_def,
      input_map=inputs,
      return_elements=[output.name for output in self.concrete.graph.outputs],
    )
    structure = self.concrete.graph.structured_outputs
    if structure is None:
      return None
    return tf.nest.pack_sequence_as(structure, outputs, expand_composites=True)


def local_variable(variable, value):
  """The handle of a variable like `variable` that holds `value` and lives as long as the call that makes it."""
  handle = tf.raw_ops.VarHandleOp(
    dtype=variable.dtype, shape=variable.shape, shared_name=_OF_NO_NAME
  )
  assign = tf.raw_ops.AssignVariableOp(resource=handle, value=value)
  with tf.control_dependencies([assign]):
    return tf.identity(handle)


def identity(variable):
  """Tells a variable from all others, whatever a strategy has wrapped it in."""
  return id(variable.handle)


def _reachable(graph_def, roots):
  """The names of the nodes that those named `roots` need, and theirs."""
  inputs = {
    node.name: [name.lstrip("^").split(":")[0] for name in node.input] for node in graph_def.node
  }
  there, to_visit = set(), list(roots)
  while to_visit:
    name = to_visit.pop()
    if name not in there:
      there.add(name)
      to_visit += inputs[name]
  return there


def _here(tensor):
  """The tensor in the graph that is being made."""
  graph = tf.compat.v1.get_default_graph()
  tensor = tf.convert_to_tensor(tensor)
  return (
    graph.capture(tensor)
    if isinstance(tensor, tf.__internal__.EagerTensor) or tensor.graph is not graph
    else tensor
  )
