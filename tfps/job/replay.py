"""What `tfps replay` takes of a config and a checkpoint: the trainer's features and predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfps.errors import ConfigError
from tfps.export.served.inputs import ModelInputs
from tfps.export.served.model import named
from tfps.export.target import of_models
from tfps.graph.autograph import traced
from tfps.job import restored
from tfps.job import train as training

if TYPE_CHECKING:
  from tfps.data.source import Source
  from tfps.training.model import Model

Arrays = dict[str, np.ndarray]


class ConfigTrainer:
  """The trainer's side of a replay: the features of a config's source, and its model's predictions.

  Args:
    config: ConfigDict with the fields of `tfps.training.config.default_config`.
    source: the `tfps.data` source, with raw inputs.
    model_class: as for `tfps.job.train.run`.
    checkpoint: a checkpoint, or a folder of checkpoints, whose newest is restored; "": `predict`
      cannot be called.
    name: of a model with `served_models` the one that is compared.

  Attributes:
    checkpoint: what was restored, and where the run was; "" if nothing was.

  Raises:
    CheckpointError: the checkpoint is missing or damaged, or is not one of this model.
    ConfigError: the source has no raw inputs, or a field does not fit.
  """

  def __init__(
    self,
    config: Any,
    source: Source,
    model_class: Callable[..., Model],
    checkpoint: str = "",
    name: str = "",
  ) -> None:
    if source.raw_inputs is None:
      raise ConfigError(
        "The source does not say what clients of the served model send: set its raw_inputs to a "
        "tfps.data.RawInputs."
      )
    self.checkpoint = ""
    if checkpoint:
      path, position, model = restored.restore(checkpoint, config, source, model_class)
      self.checkpoint = f"{path} ({position}), step {int(model.optimizer.iterations.numpy()):,}"
    else:
      _, model = training.build(config, model_class, tf.distribute.get_strategy())
      model.build_for(source)
    parts = model.served_models() or {"": model}
    part = name if name in parts else ""
    if part not in parts:
      raise ConfigError(
        f"the config's model is served as {' and '.join(parts)}, each from a folder of its name: "
        f"name the export folder of one of them, not '{name}'."
      )
    served = parts[part]
    self._raw = of_models(source.raw_inputs, parts, "raw_inputs")[part]
    inputs = ModelInputs(served, self._raw)
    specs = dict(self._raw.specs)
    self._input = tf.function(inputs.from_raw, autograph=False).get_concrete_function(specs)
    self._to_dense = inputs.to_dense
    call = tf.function(lambda x: named(served(x, training=False)))
    self._predict = traced(lambda: call.get_concrete_function(inputs.specs))

  def parse(self, serialized: Any) -> Arrays:
    """The raw inputs of serialized tf.Examples."""
    return _numpy(self._raw.parse_examples(tf.constant(serialized, tf.string)))

  def features(self, raw: Mapping[str, np.ndarray]) -> Arrays:
    """The model's input, dense, made of raw inputs."""
    return _numpy(self._to_dense(self._input(self._tensors(raw))))

  def predict(self, raw: Mapping[str, np.ndarray]) -> Arrays:
    """{name: float32 [n, k]}: the outputs of the model, with all rows that the checkpoint has."""
    outputs = _numpy(self._predict(self._input(self._tensors(raw))))
    return {name: value.reshape(len(value), -1) for name, value in outputs.items()}

  def _tensors(self, raw: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
    if set(raw) != set(self._raw.specs):
      raise ConfigError(
        f"the config's raw inputs are {', '.join(sorted(self._raw.specs))}, and those of the "
        f"artifact {', '.join(sorted(raw))}: name the config that it was exported with."
      )
    return {name: tf.constant(raw[name], spec.dtype) for name, spec in self._raw.specs.items()}


def _numpy(tensors: Mapping[str, tf.Tensor]) -> Arrays:
  return {name: value.numpy() for name, value in tensors.items()}
