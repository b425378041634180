"""The model that a config names, called with the arguments that it declares."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tfps.errors import ConfigError
from tfps.training.config import MODEL_ARGS
from tfps.training.model import Model

if TYPE_CHECKING:
  from tfps.table.feasign_table import FeasignTable

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def make_model(config: Any, model_class: Callable[..., Model], table: FeasignTable) -> Model:
  """Calls a class or function as model_class(table, slots, **args), with what it declares.

  Args:
    config: ConfigDict with the fields of `tfps.training.config.default_config`.
    model_class: a class, or a function that returns a model; it may do without slots. Those of
      config.model.args that are as every config has them are left out where it does not declare
      them.
    table: the first argument.

  Raises:
    ConfigError: config.model.args sets what it does not declare, or lacks what it needs, or it
      returns no `tfps.Model`.
  """
  name, args = model_class.__name__, dict(config.model.args)
  positional, others = _declared(model_class)
  takes_all = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in others)
  second = positional[1] if len(positional) > 1 else None
  takes_slots = second is not None and (
    second.name == "slots"
    or (second.default is inspect.Parameter.empty and second.name not in args)
  )
  takes_slots |= any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in others)
  rest = [*positional[1 + takes_slots :], *others]
  named = [one for one in rest if one.kind in (*_POSITIONAL, inspect.Parameter.KEYWORD_ONLY)]
  declared = [one.name for one in named]
  for argument in [one for one in args if one not in declared and not takes_all]:
    if argument not in MODEL_ARGS or args[argument] != MODEL_ARGS[argument]:
      raise ConfigError(
        f"config.model.args sets '{argument}', which {name} does not declare; it takes "
        f"{', '.join(declared) or 'none'}."
      )
    del args[argument]
  for one in named:
    if one.default is inspect.Parameter.empty and one.name not in args:
      raise ConfigError(
        f"{name} needs the argument '{one.name}': set config.model.args.{one.name}, or give it a "
        "default."
      )
  slots = [list(config.slots)] if takes_slots else []
  model = model_class(table, *slots, **args)
  if not isinstance(model, Model):
    raise ConfigError(
      f"{name} returned a {type(model).__name__}: config.model.name must be a subclass of "
      "tfps.Model, or a function that returns a tfps.Model."
    )
  return model


def _declared(
  model_class: Callable[..., Model],
) -> tuple[list[inspect.Parameter], list[inspect.Parameter]]:
  """(the positional parameters, the others), without `self`."""
  is_class = isinstance(model_class, type)
  # The signature of a class may be that of a base's __new__, which takes anything.
  function: Any = model_class.__init__ if is_class else model_class
  parameters = list(inspect.signature(function).parameters.values())
  positional = [one for one in parameters if one.kind in _POSITIONAL]
  return positional[is_class:], [one for one in parameters if one.kind not in _POSITIONAL]
