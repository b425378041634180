"""A function that is traced once, and takes other variables' handles at every call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tfps.graph import compat
from tfps.graph.graph_defs import anywhere

# Ops that do not change a variable.
_READS = (
  "ReadVariableOp",
  "ResourceGather",
  "ResourceGatherNd",
  "VariableShape",
  "VarIsInitializedOp",
)


class Traced:
  """A function as a graph without devices, whose variables each call replaces.

  Args:
    function: a Python function of tensors.
    *specs: nested tf.TypeSpecs of its arguments.
    side_effects: whether its side effects are kept, or only what it returns.
    autograph: whether AutoGraph converts it.

  Attributes:
    variables: the tf.Variables that it uses.
    changed: those of them that it may change.
    others: (external tensor, placeholder) of everything else that it has captured.
    concrete: the ConcreteFunction.
    graph_def: its GraphDef, without devices.
  """

  def __init__(
    self, function: Callable, *specs: Any, side_effects: bool = True, autograph: bool = True
  ) -> None:
    self.concrete = tf.function(function, autograph=autograph).get_concrete_function(*specs)
    graph = self.concrete.graph
    named = {identity(variable): variable for variable in self.concrete.variables}
    captures = compat.captures(graph)
    self.others = [(e, p) for e, p in captures if id(e) not in named]
    self._variables = [(named[id(e)], p) for e, p in captures if id(e) in named]
    graph_def = graph.as_graph_def()
    roots = [output.op.name for output in graph.outputs]
    if side_effects:
      roots += [op.name for op in compat.control_outputs(graph)]
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
    arguments = graph.inputs[: len(graph.inputs) - len(captures)]
    self._arguments = [(i, p) for i, p in enumerate(arguments) if p.op.name in there]
    self.graph_def = anywhere(graph_def)
    for nodes in (self.graph_def.node, *(f.node_def for f in self.graph_def.library.function)):
      for node in nodes:
        node.attr.pop(compat.COLOCATION, None)
    for function in self.graph_def.library.function:
      # Importing into the body of a loop does not make a function known outside of the body.
      compat.add_function(function)

  def __call__(self, *arguments: Any, handles: Mapping[int, tf.Tensor]) -> Any:
    """Adds the function to the graph that is being made; returns what the function returns.

    Args:
      *arguments: nested tensors as the specs say.
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


def local_variable(variable: tf.Variable, value: tf.Tensor) -> tf.Tensor:
  """The handle of a new variable like `variable` that holds `value`; it ends with the call."""
  handle = tf.raw_ops.VarHandleOp(
    dtype=variable.dtype, shape=variable.shape, shared_name=compat.anonymous_name()
  )
  assign = tf.raw_ops.AssignVariableOp(resource=handle, value=value)
  with tf.control_dependencies([assign]):
    return tf.identity(handle)


def identity(variable: tf.Variable) -> int:
  """A number that identifies a variable, whatever a strategy has wrapped it in."""
  return id(variable.handle)


def _reachable(graph_def: Any, roots: list[str]) -> set[str]:
  """The names of the nodes named `roots` and of all nodes that they depend on."""
  inputs = {
    node.name: [name.lstrip("^").split(":")[0] for name in node.input] for node in graph_def.node
  }
  there: set[str] = set()
  to_visit = list(roots)
  while to_visit:
    name = to_visit.pop()
    if name not in there:
      there.add(name)
      to_visit += inputs[name]
  return there


def _here(tensor: Any) -> tf.Tensor:
  """The tensor that stands for `tensor` in the graph that is being made."""
  graph = tf.compat.v1.get_default_graph()
  tensor = tf.convert_to_tensor(tensor)
  is_here = tf.is_symbolic_tensor(tensor) and tensor.graph is graph
  return tensor if is_here else compat.capture(graph, tensor)
