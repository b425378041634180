"""Training on tickets in this process."""

import tensorflow as tf

from tfps.data import batching
from tfps.graph.autograph import users
from tfps.graph.loops import while_loop
from tfps.layers.step import Routed
from tfps.training.routes import Routes


class LocalTrainer:
  """Trains batch after batch, each on what the one before it left.

  While a batch computes, the next one is read and, with `ahead`, its feasigns are made unique.

  Args:
    model: the `tfps.Model`, built for the source.
    source: the `tfps.data` source.
    ahead: whether the train step pulls what one forward pass on its batch pulls, in that order.
  """

  def __init__(self, model, source, ahead):
    self._model = model
    self._spec = source.element_spec
    routes = Routes(model, self._spec) if ahead and not tf.config.functions_run_eagerly() else None
    self._routes = routes if routes is not None and routes.are_of_batch else None

  def __call__(self, dataset):
    """Trains on one ticket; traced once.

    Args:
      dataset: the ticket's, as the source opened it.

    Returns:
      ({metric name: value}, int64 scalar: how many examples it trained on).
    """
    iterator = iter(dataset)

    def train(examples, is_there, data, routes):
      del is_there
      batch = tf.nest.pack_sequence_as(self._spec, data, expand_composites=True)
      examples += batching.rows(tf.nest.flatten(batch)[0])
      # The next batch is made ready beside the push, which leaves a processor free; before that nothing would.
      with tf.control_dependencies(self._train(batch, routes)):
        return examples, *self._next(iterator, data, routes)

    state = tf.zeros([], tf.int64), *self._next(iterator, *self._none())
    examples, *_ = while_loop(lambda examples, is_there, *_: is_there, train, state)
    return {metric.name: metric.result() for metric in self._model.metrics}, examples

  def _next(self, iterator, data, routes):
    """(whether there is another batch, its tensors, its routes); without one, what is given."""
    batch = iterator.get_next_as_optional()

    def routed():
      value = batch.get_value()
      return tf.nest.flatten(value, expand_composites=True), self._route(value)

    is_there = batch.has_value()
    return is_there, *tf.cond(is_there, routed, lambda: (data, routes))

  def _route(self, batch):
    return () if self._routes is None else self._routes(batch)

  def _none(self):
    """Tensors like those of a batch and its routes, of no example."""
    routes = () if self._routes is None else self._routes.traced.concrete.structured_outputs
    specs = tf.nest.flatten(self._spec, expand_composites=True), routes
    return tf.nest.map_structure(
      lambda spec: tf.zeros([size or 0 for size in spec.shape], spec.dtype), specs
    )

  def _train(self, batch, routes):
    """One train step; returns the gradients of the pulled rows, where it is known which those are."""
    run, train_step = self._model.distribute_strategy.run, users(self._model.train_step)
    if self._routes is None:
      run(train_step, args=(batch,))
      return []

    def train(batch, routes):
      with Routed(routes) as routed:
        train_step(batch)
      return routed.gradients

    return run(train, args=(batch, routes))
