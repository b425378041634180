"""One training step: what its embedding layers pulled, and the push that answers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfps import native
from tfps.layers.exchange import (
  current_exchange,
  current_step,
  last_step,
  set_last_step,
  set_step,
)
from tfps.layers.lookup import Lookup
from tfps.table.feasign_table import FeasignTable

__all__ = ["Step", "Verdict", "current_exchange", "current_step", "last_step"]


class Verdict(NamedTuple):
  """Whether a step is finite, as bool scalars.

  Attributes:
    steps: whether rows may step: loss and dense gradients are finite.
    spoilt: whether the step is to change nothing and is told. A loss scale that was too large
      spoils nothing: the optimizer lowers it.
  """

  steps: tf.Tensor
  spoilt: tf.Tensor


class Step:
  """Collects the lookups of a forward pass, then pushes their gradients and counts.

  A context manager around the forward pass. The gradient tape watches what was pulled, so that
  `tape.gradient(loss, step.rows)` is what `push` takes:

      with tf.GradientTape() as tape, Step(tape) as step:
        y_pred = self(x, training=True)
        loss = self.compute_loss(x, y, y_pred)
      step.push(tape.gradient(loss, step.rows), show, click)

  Args:
    tape: the tf.GradientTape that records the forward pass.

  Attributes:
    losses: (compiled loss, its value) for each that was computed.
    verdict: the `Verdict` on it, which `tfps.Model.apply_gradients` gives; None before.
    data: its batch, where the train step says; for messages.
  """

  def __init__(self, tape: tf.GradientTape) -> None:
    self.losses: list[tuple[Any, tf.Tensor]] = []
    self.verdict: Verdict | None = None
    self.data: Any = None
    self._tape = tape
    self._lookups: list[Lookup] = []
    self._is_trainable: list[bool] = []

  def __enter__(self) -> Step:
    self._outer = set_step(self)
    set_last_step(self)
    return self

  def __exit__(self, *exc_info: object) -> None:
    set_step(self._outer)

  def record(self, lookup: Lookup, trainable: bool) -> None:
    """Called by an embedding layer for each pull, before anything is computed from its rows.

    Args:
      lookup: the `Lookup`.
      trainable: whether its gradients step rows; otherwise its push adds counts only.
    """
    if trainable:
      self._tape.watch(lookup.rows)
    self._lookups.append(lookup)
    self._is_trainable.append(trainable)

  @property
  def rows(self) -> list[tf.Tensor]:
    """The pulled rows, one tensor [U, 1 + the layer's mf_dim] for each lookup."""
    return [lookup.rows for lookup in self._lookups]

  def follow_schedules(self, steps: Any) -> None:
    """Sets scheduled learning rates of the tables for this step; on a cluster, each ticket does.

    Args:
      steps: scalar, how many steps there were before: the optimizer's `iterations`.
    """
    exchange = current_exchange()
    for table in dict.fromkeys(lookup.table for lookup in self._lookups):
      exchange.follow_schedule(table, steps)

  @tf.autograph.experimental.do_not_convert
  def push(
    self,
    row_gradients: Sequence[tf.Tensor | tf.IndexedSlices | None],
    show: tf.Tensor,
    click: tf.Tensor,
    scale: float | tf.Tensor = 1.0,
  ) -> None:
    """Pushes gradients and counts to every table that was pulled from.

    In a step that is not finite, as `verdict` has it, no row steps; shows and clicks count.

    Args:
      row_gradients: for each of `rows`, the gradient of the loss; None if the loss does not depend
        on it, or the layer's `trainable` is False.
      show: float [B], what one occurrence in each example adds to its feasign's show.
      click: float [B], likewise for click.
      scale: turns the gradients into those of the sum over examples of the loss.
    """
    exchange = current_exchange()
    set_last_step(None)
    by_table: dict[FeasignTable, list[tuple[Lookup, tf.Tensor, bool]]] = {}
    for lookup, gradient, trainable in zip(self._lookups, row_gradients, self._is_trainable):
      gradient = tf.zeros_like(lookup.rows) if gradient is None else tf.convert_to_tensor(gradient)
      frozen = tf.constant(True)
      if trainable:
        frozen = tf.constant(False) if self.verdict is None else ~self.verdict.steps
      by_table.setdefault(lookup.table, []).append((lookup, gradient, frozen))
    for table, pushed in by_table.items():
      lookups, gradients, frozen = (list(column) for column in zip(*pushed))
      messages = native.ops.tfps_make_push(
        keys=[keys for lookup in lookups for keys in lookup.keys],
        slots=[slots for lookup in lookups for slots in lookup.slots],
        pulled=[reply for lookup in lookups for reply in lookup.replies],
        positions=[lookup.positions for lookup in lookups],
        row_splits=[lookup.row_splits for lookup in lookups],
        gradients=gradients,
        frozen=frozen,
        show=show,
        click=click,
        scale=scale,
        step=exchange.step,
        num_servers=table.num_servers,
        readers=_readers(lookups),
        wire_dtype=exchange.wire_dtype,
      )
      exchange.push(table, messages, gradients)


def _readers(lookups: Sequence[Lookup]) -> list[int]:
  """For each lookup the number of its reader, as `TfpsMakePush` has it; [] where none shares."""
  names = sorted({lookup.reader for lookup in lookups if lookup.reader is not None})
  if not names:
    return []
  numbers: dict[str | None, int] = {None: 0}
  numbers |= {name: 1 + i for i, name in enumerate(names)}
  return [numbers[lookup.reader] * (1 if lookup.counts else -1) for lookup in lookups]
