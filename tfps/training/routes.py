"""What the pulls of a forward pass want, derived from a batch before it is trained on."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras as keras

from tfps.graph import compat
from tfps.graph.traced import Traced
from tfps.layers.exchange import NOT_PULLED, Routing
from tfps.layers.lookup import Pull, Route

if TYPE_CHECKING:
  from tfps.training.model import Model

# Stateful for TensorFlow, yet the same for the same batch.
_AS_PURE = ("Placeholder", "LookupTableFindV2", "LookupTableSizeV2")


class Routes:
  """A batch's distinct feasigns by server, for each pull of a model's forward pass in order.

  Args:
    model: the `tfps.Model`, built.
    spec: the batches' element_spec.

  Attributes:
    pulls: the `Pull` of each pull.
    traced: the `Traced` function of a batch that returns a `Route` for each pull.
  """

  def __init__(self, model: Model, spec: Any):
    self.pulls: list[Pull] = []
    self._spec = spec
    self.traced = Traced(functools.partial(self._trace, model), spec, side_effects=False)

  @property
  def spec(self) -> list[Route]:
    """tf.TensorSpecs of what a call returns."""
    return tf.nest.map_structure(
      tf.TensorSpec.from_tensor, self.traced.concrete.graph.structured_outputs
    )

  @property
  def need_pulls(self) -> bool:
    """Whether the ids of one pull are computed from what another one pulled."""
    return any(NOT_PULLED in node.name for node in self.traced.graph_def.node)

  @property
  def are_of_batch(self) -> bool:
    """Whether they depend on the batch alone: on no weight, no random number and no pull."""
    functions = self.traced.graph_def.library.function
    nodes = [*self.traced.graph_def.node, *(node for f in functions for node in f.node_def)]
    return not (self.traced.variables or self.need_pulls or any(map(_has_state, nodes)))

  def __call__(self, batch: Any) -> list[Route]:
    """The `Route` of each pull of a batch, traced where it is called."""
    return self.traced(batch, handles={})

  def _trace(self, model: Model, batch: Any) -> list[Route]:
    def route(batch: Any) -> list[Route]:
      x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
      with Routing() as routing:
        model(x, training=True)
      self.pulls = routing.pulls
      return routing.routes

    return model.distribute_strategy.run(route, args=(batch,))


def _has_state(node: Any) -> bool:
  return compat.is_stateful(node.op) and node.op not in _AS_PURE
