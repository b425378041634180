"""Turns the graph of one program into a graph for any program."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfps.graph import compat


def anywhere(graph_def: Any) -> Any:
  """A copy without the devices of a cluster, whose functions have new, unique names.

  Functions that no node calls, such as those for a gradient, are left out.

  Args:
    graph_def: a GraphDef.

  Returns:
    GraphDef.
  """
  functions = {function.signature.name: function for function in graph_def.library.function}
  called: set[str] = set()
  to_visit = list(graph_def.node)
  while to_visit:
    new = (_callees(to_visit.pop()) & functions.keys()) - called
    called |= new
    to_visit += [node for name in new for node in functions[name].node_def]
  result = tf.compat.v1.GraphDef(versions=graph_def.versions)
  result.node.extend(graph_def.node)
  result.library.function.extend(functions[name] for name in sorted(called))
  # TensorFlow does not allow a second function of a name that it knows.
  mark = uuid.uuid4().hex[:8]
  names = {name: f"{name}_{mark}" for name in called}
  for function in result.library.function:
    function.signature.name = names[function.signature.name]
    for attribute in [name for name in function.attr if name not in _KEPT]:
      del function.attr[attribute]
  clear_devices(result)
  for nodes in [result.node, *(function.node_def for function in result.library.function)]:
    for node in nodes:
      node.op = names.get(node.op, node.op)
      for called_function in _called(node):
        called_function.name = names.get(called_function.name, called_function.name)
  return result


def clear_devices(graph_def: Any) -> None:
  """Removes the devices of all nodes of a GraphDef, in place."""
  for nodes in [graph_def.node, *(function.node_def for function in graph_def.library.function)]:
    for node in nodes:
      node.device = ""


# The attributes of a function that stay. Others name functions to call for gradients or on devices.
_KEPT = (compat.INPUT_SHAPES, compat.CONSTRUCTION_CONTEXT)


def _called(node: Any) -> Iterator[Any]:
  """The functions that a node's attributes name."""
  for attribute in node.attr.values():
    if attribute.HasField("func"):
      yield attribute.func
    yield from attribute.list.func


def _callees(node: Any) -> set[str]:
  """The names of the functions that a node calls; its op may be one."""
  return {node.op, *(function.name for function in _called(node))}
