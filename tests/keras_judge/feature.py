"""A line of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.keras_judge.ways import Program


class Feature(NamedTuple):
  """A feature of Keras, and what is right where its program runs on a source.

  Fields:
    kind: the part of the table, such as "metrics".
    name: the feature.
    program: what uses it; several features may share one.
    only: a regex of the names of what is seen that belongs to it; "" for all.
    only_on_cluster: the same on a cluster; "" where that is not another.
    refused: a regex of the error with which a source refuses it; "" if it does not.
    refused_on_cluster: the same where only a cluster refuses it.
    cluster: whether the suite runs it on a cluster each time: where tests/test_worker.py has
      nothing like it; the report always does.
    rounding: how far values may differ, where that is more than float32 makes them.
    note: what the table says about it.
  """

  kind: str
  name: str
  program: Program
  only: str = ""
  only_on_cluster: str = ""
  refused: str = ""
  refused_on_cluster: str = ""
  cluster: bool = False
  rounding: float = 0.0
  note: str = ""

  @property
  def id(self) -> str:
    """kind and name."""
    return f"{self.kind}: {self.name}"


class Features(list):
  """Features of one kind, in order."""

  def __init__(self, kind: str):
    super().__init__()
    self._kind = kind

  def add(self, *names: str, **settings) -> Callable[[Program], Program]:
    """Decorates a program, for one feature or more."""

    def register(program: Program) -> Program:
      self.extend(Feature(self._kind, name, program, **settings) for name in names)
      return program

    return register
