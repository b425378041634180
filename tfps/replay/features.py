"""Compares the features that serving had with the trainer's, and what the differences cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import tensorflow as tf

from tfps.errors import ConfigError
from tfps.replay import compare
from tfps.replay.compare import Slot
from tfps.replay.predictions import Pairs, distance
from tfps.replay.request import FEASIGNS, RAW, Request, shown

if TYPE_CHECKING:
  from tfps.replay.samples import Samples
  from tfps.replay.served import Arrays, Served

_AT_ONCE = 512  # examples


class Trainer(Protocol):
  """The side that serving is compared with."""

  def parse(self, serialized: Any) -> Arrays:
    """The raw inputs of serialized tf.Examples."""

  def features(self, raw: Mapping[str, np.ndarray]) -> Arrays:
    """The model's input, dense, made of raw inputs."""


class Predictor(Protocol):
  """A trainer's model."""

  def predict(self, raw: Mapping[str, np.ndarray]) -> Arrays:
    """{name: [n, k]}: the outputs of a forward pass."""


class Comparison:
  """Counts the differences between serving's features and the trainer's.

  Attributes:
    slots: {name: `Slot`}.
    examples: how many examples were compared.
    changed: how many predictions the differences change by more than the tolerance.
    differ: how many examples differ in any slot.
    only: {"serving" or "training": the names of features that the other side does not have}.

  Args:
    served: predicts.
    tolerance: the largest difference at which two predictions count as equal.
    only_slots: the slots to compare; all where it is empty.
  """

  def __init__(self, served: Served, tolerance: float, only_slots: Sequence[str] = ()) -> None:
    self._served, self._tolerance, self._only = served, tolerance, set(only_slots)
    self.slots: dict[str, Slot] = {}
    self.examples = self.changed = self.differ = 0
    self.only: dict[str, list[str]] = {"serving": [], "training": []}

  def add(
    self,
    sides: tuple[Arrays, Arrays],
    raw: Sequence[Mapping[str, np.ndarray]],
    ids: Sequence[str],
    where: Sequence[Any],
  ) -> None:
    """Compares some examples.

    Args:
      sides: the features of serving and of training, dense, by name.
      raw: the raw inputs of both; [] where there are none.
      ids, where: id and place of each example.
    """
    ours, theirs = sides
    self.only = {
      "serving": sorted(set(ours) - set(theirs)),
      "training": sorted(set(theirs) - set(ours)),
    }
    names = sorted(set(ours) & set(theirs))
    if unknown := self._only - set(names):
      raise ConfigError(
        f"there is no slot '{min(unknown)}' on both sides; they have {', '.join(names)}."
      )
    if self._only:
      names = [name for name in names if name in self._only]
    found = {name: compare.kinds(ours[name], theirs[name]) for name in names}
    for name, kinds in found.items():
      slot = self.slots.setdefault(name, Slot(name))
      compare.add_differences(slot, kinds, (ours[name], theirs[name]), raw, ids, where)
    self.examples += len(ids)
    differs = np.zeros(len(ids), bool)
    for kinds in found.values():
      differs |= kinds >= 0
    self.differ += int(differs.sum())
    if differs.any():
      self._add_effects(ours, theirs, found, np.flatnonzero(differs))

  def _add_effects(
    self, ours: Arrays, theirs: Arrays, found: Mapping[str, np.ndarray], rows: np.ndarray
  ) -> None:
    """Predicts with the trainer's values: of one slot at a time, and of all that differ."""
    serving = {name: value[rows] for name, value in ours.items()}
    training = {name: theirs[name][rows] for name in found}
    for name, values in training.items():
      serving[name], training[name] = compare.alike_wide(serving[name], values)
    try:
      before = self._served.predict(FEASIGNS, serving)
      after = self._served.predict(FEASIGNS, {**serving, **training})
    except ValueError:
      return  # Such features are none that the model takes.
    changed = _apart(before, after) > self._tolerance
    self.changed += int(changed.sum())
    for name, kinds in found.items():
      of_slot = kinds[rows] >= 0
      if not of_slot.any():
        continue
      swapped = {key: value[of_slot] for key, value in serving.items()}
      swapped[name] = training[name][of_slot]
      try:
        alone = self._served.predict(FEASIGNS, swapped)
      except ValueError:
        continue  # Ids and their weights go together only.
      change = _apart({key: value[of_slot] for key, value in before.items()}, alone)
      rest = _apart({key: value[of_slot] for key, value in after.items()}, alone)
      explained = changed[of_slot] & (rest <= self._tolerance)
      self.slots[name].add_effects(change, int(explained.sum()))

  def as_dict(self) -> dict[str, Any]:
    """JSON values."""
    slots = sorted(self.slots.values(), key=lambda slot: (-slot.differ, slot.name))
    return {
      "examples": self.examples,
      "differ": self.differ,
      "predictions_changed": self.changed,
      "only_in": self.only,
      "slots": [slot.as_dict() for slot in slots],
    }


def _apart(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> np.ndarray:
  """[n]: the largest difference of any output."""
  return np.max(
    [distance(value, second[name]).max(axis=1) for name, value in first.items()], axis=0
  )


class FeatureChecks:
  """Compares the features of requests, some hundred examples at a time.

  Args:
    served: the artifact; its features are serving's.
    trainer: makes features as the trainer does; None: the artifact makes those of samples, too.
    predictor: predicts as the trainer does; None if that is not compared.
    samples: the training samples; None if there are none.
    tolerance, only_slots: as of `Comparison`.

  Attributes:
    code: the features that artifact and trainer make of the same raw inputs.
    samples: the features of the log and those of the samples.
    predictions: those of the trainer and of the artifact.
    without_id, without_sample: how many examples had no id, or none of a sample.
    not_made: how many examples have no features, because the artifact has no signature for them.
    bad_samples: how many samples have features of other types than the model.
    refused: how many examples the artifact refused.
    refusal: why, of one of them.
  """

  def __init__(
    self,
    served: Served,
    trainer: Trainer | None,
    predictor: Predictor | None,
    samples: Samples | None,
    tolerance: float,
    only_slots: Sequence[str] = (),
  ) -> None:
    self._served, self._trainer, self._predictor, self._samples = (
      served,
      trainer,
      predictor,
      samples,
    )
    self.code = Comparison(served, tolerance, only_slots)
    self.samples = Comparison(served, tolerance, only_slots)
    self.predictions = Pairs()
    self.without_id = self.without_sample = self.not_made = 0
    self.refused = self.bad_samples = 0
    self.refusal = ""
    self._waiting: list[Request] = []
    self._examples = 0

  def add(self, request: Request) -> None:
    """Takes a request."""
    if self._trainer is None and self._samples is None:
      return
    if self._waiting and (request.signature == FEASIGNS) != (
      self._waiting[0].signature == FEASIGNS
    ):
      self.flush()
    self._waiting.append(request)
    self._examples += len(request)
    if self._examples >= _AT_ONCE:
      self.flush()

  def flush(self) -> None:
    """Compares what has been taken."""
    requests, self._waiting, self._examples = self._waiting, [], 0
    if not requests:
      return
    try:
      self._compare(requests)
    except ConfigError:
      raise
    except ValueError as error:  # The graph's own, of a request that the server refused, too.
      if len(requests) == 1:
        self.refused += len(requests[0])
        self.refusal = str(error)
        return
      for request in requests:
        self._waiting = [request]
        self.flush()

  def _compare(self, requests: Sequence[Request]) -> None:
    ids = [id for request in requests for id in request.ids]
    where = [place for request in requests for place in request.where]
    raw = None
    if requests[0].signature != FEASIGNS:
      raw = _joined([self._served.raw_of(request) or {} for request in requests])
    if raw is None:
      features = _joined([dict(request.inputs) for request in requests])
    elif self._served.makes_features:
      features = self._served.features(raw)
    else:
      self.not_made += len(ids)
      return
    if raw is not None and self._predictor is not None:
      predicted = self._predictor.predict(raw)
      self.predictions.add(predicted, self._served.predict(RAW, raw))
    if raw is not None and self._trainer is not None:
      sides = features, self._trainer.features(raw)
      self.code.add(sides, [raw, raw], list(map(shown, ids)), where)
    if self._samples is not None:
      self._compare_samples(self._samples, ids, where, raw, features)

  def _compare_samples(
    self,
    samples: Samples,
    ids: Sequence[str | None],
    where: Sequence[Any],
    raw: Arrays | None,
    features: Arrays,
  ) -> None:
    found = samples.of(ids)
    self.without_id += sum(id is None for id in ids)
    self.without_sample += sum(id is not None and sample is None for id, sample in zip(ids, found))
    side: Trainer = self._trainer or self._served
    rows = [row for row, sample in enumerate(found) if sample is not None]
    if self._trainer is None and not self._served.makes_features:
      self.not_made += len(rows)
      return
    if not _parse(side, [found[row] for row in rows]):
      good = [row for row in rows if _parse(side, [found[row]])]
      self.bad_samples += len(rows) - len(good)
      rows = good
    trained = _parse(side, [found[row] for row in rows])
    if not trained:
      return
    taken = lambda arrays: {name: value[rows] for name, value in arrays.items()}
    self.samples.add(
      (taken(features), side.features(trained)),
      [taken(raw), trained] if raw is not None else [],
      [shown(ids[row]) for row in rows],
      [where[row] for row in rows],
    )


def _parse(side: Trainer, serialized: Sequence[Any]) -> Arrays:
  """The raw inputs of samples; {} where one of them, or there is none, has other features."""
  try:
    return side.parse(serialized) if serialized else {}
  except tf.errors.InvalidArgumentError:
    return {}


def _joined(batches: Sequence[Mapping[str, np.ndarray]]) -> Arrays:
  return {name: compare.join([batch[name] for batch in batches]) for name in batches[0]}
