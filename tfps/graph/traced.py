"""A function that is traced once, and takes other variables' handles at every call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    function: a Python function of tensors, or the ConcreteFunction of one.
    *specs: nested tf.TypeSpecs of its arguments.
    side_effects: whether its side effects are kept, or only what it returns.
    autograph: whether AutoGraph converts it.
    outputs: the places of those tensors, among all that it returns, that a call returns, as a list;
      None for what the function returns.

  Attributes:
    variables: the tf.Variables that it uses.
    changed: those of them that it may change.
    assigned: those of them that it gives a value, rather than adding to them.
    others: (external tensor, placeholder) of everything else that it has captured.
    deferred: (function that finds it, placeholder) of what a call captures where it runs, such as
      the handle of the lookup table of that worker.
    concrete: the ConcreteFunction.
    graph_def: its GraphDef, without devices.
  """

  def __init__(
    self,
    function: Any,
    *specs: Any,
    side_effects: bool = True,
    autograph: bool = True,
    outputs: Sequence[int] | None = None,
  ) -> None:
    if not isinstance(function, tf.types.experimental.ConcreteFunction):
      function = tf.function(function, autograph=autograph).get_concrete_function(*specs)
    self.concrete: Any = function
    graph = self.concrete.graph
    self._structure = graph.structured_outputs
    self._outputs = list(graph.outputs)
    if outputs is not None:
      self._structure = self._outputs = [self._outputs[place] for place in outputs]
    named = {identity(variable): variable for variable in self.concrete.variables}
    captures = compat.captures(graph)
    self.others = [(e, p) for e, p in captures if id(e) not in named]
    self._variables = [(named[id(e)], p) for e, p in captures if id(e) in named]
    self.deferred = compat.deferred_captures(graph)
    captured = len(captures) + len(self.deferred)
    graph_def = graph.as_graph_def()
    roots = [output.op.name for output in self._outputs]
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
    self.deferred = [(find, p) for find, p in self.deferred if p.op.name in there]
    self.variables = [variable for variable, _ in self._variables]
    ops_of = {
      identity(variable): {op.type for op in placeholder.consumers() if op.name in there}
      for variable, placeholder in self._variables
    }
    self.changed = [one for one in self.variables if ops_of[identity(one)] - set(_READS)]
    self.assigned = [one for one in self.variables if "AssignVariableOp" in ops_of[identity(one)]]
    arguments = graph.inputs[: len(graph.inputs) - captured]
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
    here = tf.compat.v1.get_default_graph()
    for find, placeholder in self.deferred:
      inputs[placeholder.name] = compat.capture_late(here, find, placeholder)
    for variable, placeholder in self._variables:
      inputs[placeholder.name] = _here(handles[identity(variable)])
    outputs = tf.graph_util.import_graph_def(
      self.graph_def,
      input_map=inputs,
      return_elements=[output.name for output in self._outputs],
    )
    if self._structure is None:
      return None
    return pack(self._structure, outputs)


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


def writers(variable: tf.Variable) -> list[Any]:
  """The operations, so far in the graph that is being made, that may change a variable."""
  handle = compat.capture(tf.compat.v1.get_default_graph(), variable.handle)
  return [op for op in handle.consumers() if op.type not in _READS]


def pack(structure: Any, tensors: Iterable[Any]) -> Any:
  """Puts tensors in the places that are not None of what a traced function returned."""
  remaining = iter(tensors)
  flat = [
    None if place is None else next(remaining)
    for place in tf.nest.flatten(structure, expand_composites=True)
  ]
  return tf.nest.pack_sequence_as(structure, flat, expand_composites=True)


def lasting(concrete: Any) -> list[bool]:
  """Which of the tensors that a ConcreteFunction returns could be computed once more after it.

  These are computed from nothing but constants and variables, and from these as the function leaves
  them: the result of a metric, but not a loss.
  """
  graph = concrete.graph
  constant = {placeholder.op.name for _, placeholder in compat.captures(graph)}
  # What a write waits for has been read too early.
  early = {
    before.name
    for op in graph.get_operations()
    if op.type not in _READS and any(tensor.dtype == tf.resource for tensor in op.inputs)
    for before in op.control_inputs
  }
  known: dict[str, bool] = {}

  def lasts(root: Any) -> bool:
    to_visit = [root]
    while to_visit:
      op = to_visit[-1]
      inputs = [tensor.op for tensor in op.inputs]
      waiting = [one for one in inputs if one.name not in known]
      if waiting:
        to_visit += waiting
        continue
      if op.type == "Placeholder":
        is_pure = op.name in constant
      else:
        is_pure = op.type in _READS or not compat.is_stateful(op.type)
      known[op.name] = is_pure and op.name not in early and all(known[one.name] for one in inputs)
      to_visit.pop()
    return known[root.name]

  return [lasts(output.op) for output in graph.outputs]


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
