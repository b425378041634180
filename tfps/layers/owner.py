"""The model that trains or predicts: it must know every embedding layer that it calls."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  import tf_keras as keras

_owner: contextvars.ContextVar[Any] = contextvars.ContextVar("owner", default=None)


@contextlib.contextmanager
def calling(model: keras.Model) -> Iterator[None]:
  """While it is active, `model` is the owner; not where a model that calls it is one already."""
  if _owner.get() is not None:
    yield
    return
  token = _owner.set(model)
  try:
    yield
  finally:
    _owner.reset(token)


def check_tracked(layer: keras.layers.Layer, what: str) -> None:
  """Raises ValueError if there is an owner, and it does not track the layer.

  Args:
    layer: a layer that is called.
    what: what the layer does, for the sentence.
  """
  owner = _owner.get()
  if owner is None or any(module is layer for module in owner.submodules):
    return
  raise ValueError(
    f"layer '{layer.name}' {what}, but model '{owner.name}' does not track it, so its rows would "
    "be in no checkpoint and no export: assign it as an attribute of the model, or of a layer of "
    "the model (in a list or dict if need be, but not in an object that is no layer)."
  )
