"""The model of a checkpoint, restored in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfps.checkpoint import CheckpointManager, reader
from tfps.job import outputs
from tfps.job import train as training
from tfps.training.position import Position

if TYPE_CHECKING:
  from tfps.data.source import Source
  from tfps.training.model import Model


def restore(
  path: str, config: Any, source: Source, model_class: Callable[..., Model]
) -> tuple[str, Position, Model]:
  """Builds the model of a config and restores a checkpoint, rows and dense weights, into it.

  Args:
    path: a checkpoint, or a folder of checkpoints, of which the newest is taken.
    config: ConfigDict with the fields of `tfps.training.config.default_config`.
    source: the `tfps.data` source whose examples it takes.
    model_class: as for `tfps.job.train.run`.

  Returns:
    (the checkpoint's path, where the run was, the model).

  Raises:
    CheckpointError: the checkpoint is missing or damaged, or is not one of this model.
    ConfigError: a field does not fit the model or the source.
  """
  checkpoint = reader.open_checkpoint(path).path
  table, model = training.build(config, model_class, tf.distribute.get_strategy())
  outputs.check(config, model, source)
  model.build_for(source)
  folder = checkpoint.rpartition("/")[0] or "."
  manager = CheckpointManager(folder, model, [table], read_only=True)
  return checkpoint, Position(**manager.restore(checkpoint)), model
