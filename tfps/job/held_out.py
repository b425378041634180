"""What a run does with held-out examples: it validates, slows down, stops, and goes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tf_keras as keras

from tfps import callbacks as tfps_callbacks
from tfps.errors import ConfigError

if TYPE_CHECKING:
  from tfps.data.source import Source
  from tfps.table.feasign_table import FeasignTable


class HeldOut(keras.callbacks.Callback):
  """Keeps what validation found after each epoch.

  Attributes:
    epochs: {metric: number} of each epoch's validation, without "val_".
  """

  def __init__(self) -> None:
    super().__init__()
    self.epochs: list[dict[str, float]] = []

  def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
    found = {
      name.removeprefix("val_"): float(value)
      for name, value in (logs or {}).items()
      if name.startswith("val_")
    }
    if found:
      self.epochs.append(found)


def check(config: Any, source: Source | None) -> None:
  """Raises ConfigError where `config.validation` asks for what the run lacks."""
  settings = config.validation
  asked = [
    name
    for name, off in (("patience", 0), ("reduce_rate", 1.0), ("best_folder", ""))
    if settings[name] != off
  ]
  if asked and source is None:
    raise ConfigError(
      f"config.validation.{asked[0]} is {settings[asked[0]]!r}, but nothing is held out: write a "
      "function validation_source(config), which returns a tfps.data source, into the config, or "
      "set config.held_out."
    )
  if not 0 < settings.reduce_rate <= 1:
    raise ConfigError(
      f"config.validation.reduce_rate is {settings.reduce_rate}; it must be above 0 and at most 1."
    )
  if settings.mode not in ("auto", "min", "max"):
    raise ConfigError(
      f"config.validation.mode is {settings.mode!r}; it must be one of auto, min, max."
    )


def callbacks(config: Any, table: FeasignTable) -> list[keras.callbacks.Callback]:
  """The callbacks that `config.validation` asks for, in the order in which they are to run.

  Raises:
    ConfigError: the table's learning rates cannot follow.
  """
  settings = config.validation
  best = tfps_callbacks.BestCheckpoint(
    settings.best_folder, settings.monitor, mode=settings.mode, restore=True, tables=[table]
  )
  compared = {
    "monitor": settings.monitor, "mode": best.mode, "min_delta": settings.min_delta,
  }  # fmt: skip
  listed: list[keras.callbacks.Callback] = []
  if settings.reduce_rate < 1:
    try:
      follow = tfps_callbacks.FollowLearningRate(table, base=config.dense_optimizer.learning_rate)
    except ValueError as error:
      raise ConfigError(f"config.validation.reduce_rate: {error}") from None
    plateau = keras.callbacks.ReduceLROnPlateau(
      factor=settings.reduce_rate,
      patience=settings.reduce_patience,
      min_lr=settings.min_rate,
      **compared,
    )
    listed += [plateau, follow]
  if settings.patience:
    listed.append(keras.callbacks.EarlyStopping(patience=settings.patience, **compared))
  return [*listed, best] if settings.best_folder else listed
