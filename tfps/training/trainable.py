"""Which layers were trainable when Keras would have traced a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import tf_keras as keras

if TYPE_CHECKING:
  from tfps.training.model import Model

_Flags = list[tuple[keras.layers.Layer, bool]]


class Trainable:
  """What `trainable` was when each of a compiled model's functions was first traced.

  Keras traces a function once for all batches of one form, so what was trainable then counts until
  the model is compiled anew. A source that opens otherwise is traced by itself, as Keras would not.

  Args:
    model: the `tfps.Model`.
  """

  def __init__(self, model: Model):
    self._model = model
    self._first: dict[tuple, _Flags] = {}

  @contextlib.contextmanager
  def when_traced(self, function: Any, spec: Any) -> Iterator[None]:
    """While it is active, layers are trainable as they were the first time.

    Args:
      function: what is traced; hashable.
      spec: nested tf.TypeSpecs of its batches.
    """
    layers = [self._model, *self._model.submodules]
    now = [(one, one.trainable) for one in layers if isinstance(one, keras.layers.Layer)]
    _set(self._first.setdefault((function, repr(spec)), now))
    try:
      yield
    finally:
      _set(now)


def _set(flags: _Flags) -> None:
  # Setting a layer's sets those of the layers in it, which are put right in the next pass.
  while others := [(layer, flag) for layer, flag in flags if layer.trainable != flag]:
    for layer, flag in others:
      layer.trainable = flag
