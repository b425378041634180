"""Learning rates of a model's tables: schedules that follow the model's steps."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import tf_keras as keras

from tfps.layers.embedding import tables_of
from tfps.table.feasign_table import FeasignTable


def scheduled(tables: Iterable[FeasignTable]) -> list[FeasignTable]:
  """Those of the tables that have a learning rate which depends on the number of steps."""
  return [table for table in tables if table.learning_rates.are_scheduled]


def follow_schedules(model: keras.Model) -> None:
  """Sets the scheduled learning rates of the model's tables to those of its next step."""
  tables = scheduled(tables_of(model))
  if tables:
    step = int(model.optimizer.iterations)
    for table in tables:
      table.learning_rates.follow(step)


def warn_of_clipping(model: keras.Model) -> None:
  """Warns if the optimizer of a model with tables clips the norm of all gradients together."""
  optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
  if getattr(optimizer, "global_clipnorm", None) and tables_of(model):
    warnings.warn(
      f"global_clipnorm of optimizer {type(optimizer).__name__} is that of the dense weights' "
      "gradients, without those of rows: to clip these, give the table's optimizer a clipnorm or a "
      "clipvalue.",
      stacklevel=3,
    )
