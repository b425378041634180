"""What a config says of a model's outputs: a loss, a weight and metrics of each, and the click."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras as keras
from ml_collections import config_dict

from tfps.errors import ConfigError
from tfps.graph.autograph import traced
from tfps.job.table import check_names
from tfps.learning import losses
from tfps.learning.outputs import ONLY, names_of

if TYPE_CHECKING:
  from tfps.data.source import Source
  from tfps.training.model import Model

_BY_OUTPUT = ("loss", "loss_weights", "metrics")


def compiled_with(config: Any) -> dict[str, Any]:
  """The arguments of `compile` that config.loss, loss_weights and metrics are."""
  loss, metrics = config.loss, config.metrics
  arguments = {
    "loss": {name: _loss(f"loss.{name}", one) for name, one in loss.items()}
    if is_group(loss)
    else _loss("loss", loss),
    "metrics": {name: _metrics(f"metrics.{name}", one) for name, one in metrics.items()}
    if is_group(metrics)
    else _metrics("metrics", metrics),
  }
  if config.loss_weights:
    arguments["loss_weights"] = dict(config.loss_weights)
  return arguments


def set_click_label(model: Model, click_label: str) -> None:
  """Sets what config.click_label names: a key of the labels, or a number, which is a position."""
  if click_label:
    model.click_label = int(click_label) if click_label.isdecimal() else click_label


def check(config: Any, model: Model, source: Source) -> None:
  """Raises ConfigError, in one sentence, where outputs, labels and config do not fit.

  Args:
    config: ConfigDict with the fields of `tfps.training.config.default_config`.
    model: the compiled `tfps.Model`; it is traced once where its outputs have to be known.
    source: the `tfps.data` source to train on or to score.
  """
  _, y, weight = keras.utils.unpack_x_y_sample_weight(source.element_spec)
  _check_click_label(model, y, config.click_label)
  by_output = {field: list(config[field]) for field in _BY_OUTPUT if is_group(config[field])}
  of_labels = {"label": y, "weight": weight}
  if not any(by_output.values()) and not config.scored_outputs and not isinstance(y, dict):
    return
  outputs = _outputs(model, source)
  for field, names in [*by_output.items(), ("scored_outputs", config.scored_outputs)]:
    _check_outputs(field, names, outputs)
  if outputs == (ONLY,):
    return
  for what, given in of_labels.items():
    for name in given if isinstance(given, dict) else ():
      if name not in outputs:
        raise ConfigError(
          f"the source has a {what} '{name}', but the model's outputs are {', '.join(outputs)}: "
          "name labels as the output that they belong to, and leave out the others."
        )
  for name in by_output.get("loss", ()):
    if isinstance(y, dict) and name not in y:
      raise ConfigError(
        f"config.loss has a loss for output '{name}', for which the source has no label; its "
        f"labels are {', '.join(y)}."
      )


def is_group(value: Any) -> bool:
  """Whether a field holds fields: as get_config set it, or as the command line may override it."""
  return isinstance(value, (Mapping, config_dict.ConfigDict))


def _outputs(model: Model, source: Source) -> tuple[str, ...]:
  """The names of the outputs, found by a trace.

  `build_for` would compute the loss, too, and Keras's own sentence would come first.
  """
  x, *_ = keras.utils.unpack_x_y_sample_weight(source.element_spec)
  found: list[tuple[str, ...]] = []

  def call(x: Any) -> None:
    found.append(names_of(model(x, training=False), model.output_names))

  with model.distribute_strategy.scope():
    run = lambda x: model.distribute_strategy.run(call, args=(x,))
    traced(lambda: tf.function(run).get_concrete_function(x))
  return found[-1]


def _check_outputs(field: str, names: Any, outputs: tuple[str, ...]) -> None:
  if names and outputs == (ONLY,):
    raise ConfigError(
      f"config.{field} names output '{next(iter(names))}', but the model has one output, without a "
      "name: give config.loss as a text, config.metrics as a tuple, and leave the others empty."
    )
  try:
    check_names(field, names, outputs, "the model's outputs are")
  except ValueError as error:
    raise ConfigError(str(error)) from None


def _check_click_label(model: Model, y: Any, click_label: str) -> None:
  if not click_label:
    return
  if isinstance(y, dict):
    if model.click_label not in y:
      raise ConfigError(
        f"config.click_label is '{click_label}', but the source's labels are {', '.join(y)}."
      )
    return
  count = len(y) if isinstance(y, (list, tuple)) else 1
  if not isinstance(y, (list, tuple)) and y is not None and y.shape.rank == 2:
    count = y.shape[1] or 1
  if not isinstance(model.click_label, int) or model.click_label >= count:
    raise ConfigError(
      f"config.click_label is '{click_label}', but the source's labels have no names: give a "
      f"position below {count}, or leave it empty for the first."
    )


def _loss(field: str, name: Any) -> Any:
  if not isinstance(name, str):
    raise ConfigError(
      f"config.{field} is {name!r}; it must be the name of a loss, and config.loss one name or "
      "{output: name}."
    )
  if not name:
    return None
  loss = losses.named(name)
  if loss is name:
    try:
      keras.losses.get(name)
    except ValueError:
      raise ConfigError(
        f"config.{field} is '{name}', which is no loss of Keras; the usual ones for clicks are "
        "binary_crossentropy and binary_focal_crossentropy."
      ) from None
  return loss


def _metrics(field: str, names: Any) -> list[Any]:
  if isinstance(names, str):
    return [names]
  if not isinstance(names, (list, tuple)):
    raise ConfigError(
      f"config.{field} is {names!r}; it must be a tuple of metrics' names, and config.metrics one "
      "tuple or {output: tuple}."
    )
  return list(names)
