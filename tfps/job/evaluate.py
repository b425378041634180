"""What `tfps train` does in an evaluator's process."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfps.cluster import liveness
from tfps.errors import ConfigError, LostError
from tfps.evaluation import watch
from tfps.evaluation.evaluator import Evaluator
from tfps.job import feeding, outputs
from tfps.job import train as training

if TYPE_CHECKING:
  from tfps.cluster.tf_config import Task
  from tfps.data.source import Source
  from tfps.training.model import Model


def run(config: Any, task: Task, source: Source, model_class: Callable[..., Model]) -> None:
  """Evaluates the checkpoints of the run that `config` describes until it is over.

  Args:
    config: ConfigDict with the fields of `tfps.training.config.default_config`.
    task: the `tfps.cluster.Task` that this process is, of type evaluator.
    source: the `tfps.data` source to score.
    model_class: as for `tfps.job.train.run`.

  Raises:
    ConfigError: a field of the config is not set or wrong.
    LostError: the chief is lost before training has ended.
  """
  folder, log_dir = _folders(config)
  table, model = training.build(config, model_class, tf.distribute.get_strategy())
  outputs.check(config, model, source)
  settings = {**config.evaluation, "outputs": config.scored_outputs}
  del settings["tensorboard"]
  poll_seconds = settings.pop("poll_seconds")
  try:
    evaluator = Evaluator(folder, model, [table], source, log_dir, **settings)
  except ValueError as error:
    raise ConfigError(f"config.evaluation: {error}") from None
  print(f"Evaluating the checkpoints in {folder}, for TensorBoard in {log_dir}.", flush=True)
  chief = liveness.ChiefWatch(task.cluster.chief[0])
  told = evaluator.follow(watch.TrainingWatch(folder, chief).poll, poll_seconds)
  if told is not watch.ENDED:
    raise LostError(f"{told} It did not say that training had ended.")
  print("Training has ended, and all of its checkpoints are evaluated.", flush=True)


def evaluation_source(config: Any, module: ModuleType) -> Source:
  """What to score.

  `evaluation_source(config)` of the module, or else of its source the held-out share, or else the
  last day.
  """
  if hasattr(module, "evaluation_source"):
    return module.evaluation_source(config)
  source, share = feeding.prepared(config, module.source(config))
  if share is not None:
    return share
  source = source.to_test()
  days = [day for day in source.days() if day.records]
  return source.day(days[-1]) if days else source


def _folders(config: Any) -> tuple[str, str]:
  """The folders of the checkpoints and of TensorBoard's files."""
  log_dir = config.evaluation.tensorboard
  if not log_dir and config.tensorboard:
    log_dir = config.tensorboard.rstrip("/") + "/evaluator"
  for name, folder in (("checkpoint.folder", config.checkpoint.folder), ("tensorboard", log_dir)):
    if not folder:
      raise ConfigError(
        f"config.{name} is empty: the evaluator follows the checkpoints in "
        "config.checkpoint.folder, and writes to config.tensorboard; set both."
      )
  return config.checkpoint.folder, log_dir
