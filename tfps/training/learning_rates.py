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


def check_compiled(model: keras.Model) -> None:
  """Checks what a model was compiled with, if it has tables.

  Warns if its optimizer clips the norm of all gradients together.

  Raises:
    ValueError: it is to be compiled by XLA.
  """
  if model.jit_compile and tables_of(model):
    raise ValueError(
      "jit_compile=True compiles a train step with XLA, which has no ops that look rows up: leave "
      "it out."
    )
  optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
  if getattr(optimizer, "global_clipnorm", None) and tables_of(model):
    warnings.warn(
      f"global_clipnorm of optimizer {type(optimizer).__name__} is that of the dense weights' "
      "gradients, without those of rows: to clip these, give the table's optimizer a clipnorm or a "
      "clipvalue.",
      stacklevel=3,
    )
