"""The arguments of fit, evaluate and predict: which of them a source takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras as keras

from tfps.data.source import Source
from tfps.layers.embedding import tables_of
from tfps.training.tickets import is_cluster

if TYPE_CHECKING:
  from tfps.training.model import Model

# What to do instead of giving an argument beside a source.
_INSTEAD = {
  "y": "return the labels from its parse function, as (x, y)",
  "sample_weight": "return the weights from its parse function, as (x, y, sample_weight)",
  "batch_size": "make the source with this batch_size",
  "validation_split": "give a source of its own as validation_data, such as source.day(...)",
  "validation_batch_size": "make the source that is validation_data with this batch_size",
  "steps_per_epoch": "an epoch is all of the source: restrict it, as source.day(...) does, or set "
  "model.stop_training in a callback",
  "validation_steps": "validation is on all of its source: restrict that, as source.day(...) does",
  "steps": "restrict the source, as source.day(...) does, or pass tickets to model.score",
}


def refuse(**arguments: Any) -> None:
  """Raises ValueError, with a remedy, for the first argument that is given."""
  for name, value in arguments.items():
    if value is not None:
      raise ValueError(f"{name} does not go with a tfps.data source: {_INSTEAD[name]}.")


def check_shuffle(source: Source, shuffle: Any) -> None:
  """Raises ValueError unless `shuffle`, where it is given, is what the source does."""
  if shuffle is not None and bool(shuffle) != source.shuffles:
    raise ValueError(
      f"shuffle={shuffle!r} does not go with this tfps.data source, which does "
      f"{'' if source.shuffles else 'not '}shuffle: make it with shuffle={bool(shuffle)}."
    )


def check_down_sampling(model: Model, source: Source) -> None:
  """Raises ValueError unless the model corrects for the negatives that the source leaves out."""
  if model.down_sampling != source.down_sampling:
    raise ValueError(
      f"the source has down_sampling {source.down_sampling}, and model '{model.name}' has "
      f"{model.down_sampling}: set the model's down_sampling to the source's before compile, so "
      "that its predictions are those of all data."
    )


def check_all_negatives(source: Source, name: str) -> None:
  """Raises ValueError if negatives are left out of a source that a model is evaluated on."""
  if source.down_sampling is not None:
    raise ValueError(
      f"{name} leaves out negatives, and a model's predictions are those of all data: give "
      "source.to_test()."
    )


def check_validation(x: Any, validation_data: Any, validation_freq: Any) -> None:
  """Raises ValueError unless `fit` can validate so; before it trains."""
  is_source = isinstance(x, Source)
  if validation_data is not None and is_source != isinstance(validation_data, Source):
    raise ValueError(
      "fit on a source takes a source as validation_data: wrap it in tfps.data.source."
      if is_source
      else "validation_data is a source, but x is not: wrap x in tfps.data.source, or evaluate the "
      "source in a callback."
    )
  if not isinstance(validation_freq, (int, list)):
    raise ValueError(
      f"validation_freq is {validation_freq!r}; it must be a whole number or a list of epochs."
    )
  if isinstance(validation_data, Source):
    if validation_data.is_endless:
      raise ValueError("validation_data is a stream, which does not end: give files.")
    check_all_negatives(validation_data, "validation_data")


def validates(epoch: int, validation_freq: int | list[int]) -> bool:
  """Whether the epoch 0, 1, ... is one after which `fit` validates."""
  if isinstance(validation_freq, int):
    return (epoch + 1) % validation_freq == 0
  return epoch + 1 in validation_freq


def check_unknown(arguments: dict[str, Any]) -> None:
  """Raises TypeError, as Keras does, for arguments that nobody knows."""
  if arguments:
    raise TypeError(f"Invalid keyword arguments: {list(arguments)}")


def check_compiled(model: Model) -> None:
  """Raises ValueError if the model cannot run as it was compiled."""
  if model.jit_compile and tables_of(model):
    raise ValueError(
      f"model '{model.name}' has feasign tables, whose pulls and pushes XLA cannot compile: leave "
      "out jit_compile=True; a part of its call may be a tf.function with jit_compile=True."
    )


def is_overridden(model: Model, name: str) -> bool:
  """Whether a method of Keras's is the user's own."""
  return getattr(getattr(model, name), "__func__", None) is not getattr(keras.Model, name)


def check_made_functions(model: Model, *names: str) -> None:
  """Raises ValueError if the model overrides one of these methods, which a source does not call."""
  for name in names:
    if is_overridden(model, name):
      step = name.replace("make_", "").replace("function", "step")
      raise ValueError(
        f"model '{model.name}' overrides {name}, which does not run on a tfps.data source: "
        f"override {step}."
      )


def check_on_batch(model: Model, method: str) -> None:
  """Raises ValueError on a cluster, for a method of Keras's that runs one batch.

  Args:
    model: the `tfps.Model`.
    method: its name.
  """
  if is_cluster(model.distribute_strategy):
    raise ValueError(
      f"{method} runs on the chief alone, which Keras does not do on a cluster: give a source of "
      "one batch to fit, evaluate or predict."
    )


def is_eager(model: Model) -> bool:
  """Whether the model is to run in Python.

  Raises:
    ValueError: on a cluster it cannot.
  """
  eager = bool(model.run_eagerly) or tf.config.functions_run_eagerly()
  if eager and is_cluster(model.distribute_strategy):
    raise ValueError(
      "workers run graphs only: compile without run_eagerly=True, leave "
      "tf.config.run_functions_eagerly at False, or run eagerly in one process."
    )
  return eager


def verbosity(verbose: Any) -> int:
  """What "auto" stands for: as in Keras, and on a cluster as in one process."""
  if verbose != "auto":
    return int(verbose)
  return 1 if keras.utils.is_interactive_logging_enabled() else 2


def in_order(logs: Any, names: list[str]) -> Any:
  """The values of an evaluation's logs as Keras returns them: those of `names`, then others."""
  if not isinstance(logs, dict):
    return logs
  there = [name for name in names if name in logs]
  values = [logs[name] for name in [*there, *sorted(logs.keys() - set(names))]]
  return values[0] if len(values) == 1 else values
