"""Logged predictions beside replayed ones: how many differ, and of which state they are."""

from __future__ import annotations

import array
import collections
import dataclasses
import heapq
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tfps.replay.request import Request, shown

QUANTILES = (0.5, 0.9, 0.99, 0.999)
_MOST_EXAMPLES = 3


@dataclasses.dataclass(frozen=True)
class Difference:
  """Two sides of some predictions.

  Attributes:
    number: how many predictions.
    differ: how many differ by more than the tolerance.
    mean, max: the absolute difference.
    quantiles: {one of `QUANTILES`: the absolute difference}.
    mean_of_first, mean_of_second: the mean prediction on each side.
  """

  number: int
  differ: int
  mean: float
  max: float
  quantiles: Mapping[float, float]
  mean_of_first: float
  mean_of_second: float

  @property
  def calibration(self) -> float | None:
    """The first side's mean by the second's; None where that is 0."""
    return self.mean_of_first / self.mean_of_second if self.mean_of_second else None

  def as_dict(self, first: str, second: str) -> dict[str, Any]:
    """JSON values; the sides have these names."""
    return {
      "predictions": self.number,
      "differ": self.differ,
      "mean": self.mean,
      "max": self.max,
      "quantiles": {str(q): value for q, value in self.quantiles.items()},
      f"mean_{first}": self.mean_of_first,
      f"mean_{second}": self.mean_of_second,
      "calibration": self.calibration,
    }


def difference(first: np.ndarray, second: np.ndarray, tolerance: float) -> Difference:
  """The `Difference` of two arrays of one shape; what is not a number on one side is infinite."""
  apart = distance(first, second).ravel()
  quantiles = np.quantile(apart, QUANTILES, method="higher") if len(apart) else []
  return Difference(
    number=len(apart),
    differ=int(np.count_nonzero(~(apart <= tolerance))),
    mean=float(apart.mean()) if len(apart) else 0.0,
    max=float(apart.max(initial=0)),
    quantiles={q: float(value) for q, value in zip(QUANTILES, quantiles)},
    mean_of_first=float(np.mean(first, dtype=np.float64)) if first.size else 0.0,
    mean_of_second=float(np.mean(second, dtype=np.float64)) if second.size else 0.0,
  )


def distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """float64: how far predictions are apart; infinite where one of both is not a number."""
  with np.errstate(invalid="ignore"):
    apart = np.abs(np.asarray(first, np.float64) - np.asarray(second, np.float64))
  apart[np.isnan(first) & np.isnan(second)] = 0
  apart[np.isnan(apart)] = np.where(np.equal(first, second), 0, np.inf)[np.isnan(apart)]
  return apart


class Pairs:
  """Predictions of two sides by the output's name, 8 bytes for each."""

  def __init__(self) -> None:
    self._sides: dict[str, tuple[array.array, array.array]] = {}

  def add(self, first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> None:
    """Adds float arrays by the output's name; those that only one side has are left out."""
    for name in first.keys() & second.keys():
      for side, values in zip(self.of(name), (first[name], second[name])):
        side.frombytes(np.ascontiguousarray(values, np.float32).tobytes())

  def of(self, name: str) -> tuple[array.array, array.array]:
    """Both sides of an output."""
    return self._sides.setdefault(name, (array.array("f"), array.array("f")))

  def __bool__(self) -> bool:
    return bool(self._sides)

  def differences(self, tolerance: float) -> dict[str, Difference]:
    """{output: `Difference`}."""
    return {
      name: difference(np.frombuffer(a, np.float32), np.frombuffer(b, np.float32), tolerance)
      for name, (a, b) in sorted(self._sides.items())
    }


class _Outputs:
  """The logged predictions of requests that have the same outputs."""

  def __init__(self, widths: Mapping[str, int]) -> None:
    self.widths = widths
    self.pairs = Pairs()
    self.distance = array.array("f")  # of each example: that of its own prediction
    self.score = array.array("f")  # of each example, by which a state is the nearest
    self.state = array.array("i")

  def rows(self, name: str, side: int) -> np.ndarray:
    """[n, k]: the predictions of an output, logged (0) or replayed (1)."""
    return _view(self.pairs.of(name)[side], np.float32).reshape(-1, self.widths[name])


class Place(NamedTuple):
  """Where `Logged` has the predictions of a request."""

  outputs: _Outputs
  rows: slice


class Logged:
  """The logged predictions of a version, and of each request the nearest of its states.

  A state is a base with its first deltas. A server has one after the other, and the log does not
  say which, so the replay tries each, over the same requests in the same order. A request that one
  call served is of one state.

  Memory: 12 bytes for each example, and 8 for each of its predictions.
  """

  def __init__(self) -> None:
    self._of: dict[tuple[tuple[str, int], ...], _Outputs] = {}
    self._next: collections.Counter[tuple[tuple[str, int], ...]] = collections.Counter()
    self._worst: list[tuple[float, int, dict[str, Any]]] = []

  def rewind(self) -> None:
    """Begins the requests anew."""
    self._next.clear()

  def next(self, request: Request) -> Place:
    """The place of the next request."""
    key = tuple(sorted((name, value.shape[1]) for name, value in request.outputs.items()))
    outputs = self._of.setdefault(key, _Outputs(dict(key)))
    begin = self._next[key]
    self._next[key] += len(request)
    if begin == len(outputs.state):
      nothing = {name: np.full_like(value, np.nan) for name, value in request.outputs.items()}
      outputs.pairs.add(request.outputs, nothing)
      outputs.distance.extend([np.inf] * len(request))
      outputs.score.extend([np.inf] * len(request))
      outputs.state.extend([-1] * len(request))
    return Place(outputs, slice(begin, begin + len(request)))

  def is_settled(self, place: Place) -> bool:
    """Whether one of the states before gave exactly what was logged."""
    return not any(place.outputs.score[place.rows])

  def update(
    self, place: Place, request: Request, predicted: Mapping[str, np.ndarray], state: int
  ) -> None:
    """Takes what a state predicts for a request, where that is nearer than what was found before.

    Raises:
      ValueError: an output is missing, or has another shape than the one that was logged.
    """
    outputs, rows = place
    apart = np.zeros(len(request))
    for name, logged in request.outputs.items():
      if name not in predicted or predicted[name].shape != logged.shape:
        raise ValueError(f"the logged output '{name}' has another shape than the model's")
      apart = np.maximum(apart, distance(logged, predicted[name]).max(axis=1, initial=0))
    # By the roots: a state that gives most examples exactly is nearer than one that is not far from
    # any. As float32 on both sides, so that an equal score in a later state is not a nearer one.
    score = np.sqrt(apart)
    if request.together:
      score = np.full_like(score, score.mean())
    scores, states = _view(outputs.score, np.float32), _view(outputs.state, np.int32)
    nearer = (score.astype(np.float32) < scores[rows]) | (states[rows] < 0)
    scores[rows][nearer] = score[nearer]
    states[rows][nearer] = state
    _view(outputs.distance, np.float32)[rows][nearer] = apart[nearer]
    for name in request.outputs:
      outputs.rows(name, 1)[rows][nearer] = predicted[name][nearer]

  def keep_worst(self, place: Place, request: Request) -> None:
    """Keeps the example of a request, in its nearest state, that is furthest apart."""
    apart = _view(place.outputs.distance, np.float32)[place.rows]
    row = int(np.argmax(apart))
    if not apart[row]:
      return
    of = lambda side: {
      name: place.outputs.rows(name, side)[place.rows][row].tolist() for name in request.outputs
    }
    example = {
      "id": shown(request.ids[row]),
      "where": str(request.where[row]),
      "logged": of(0),
      "replayed": of(1),
    }
    heapq.heappush(self._worst, (float(apart[row]), -request.number, example))
    if len(self._worst) > _MOST_EXAMPLES:
      heapq.heappop(self._worst)

  def __len__(self) -> int:
    return sum(len(outputs.state) for outputs in self._of.values())

  def differences(self, tolerance: float) -> dict[str, Difference]:
    """{output: `Difference`} of what was logged and what was replayed."""
    both = Pairs()
    for outputs in self._of.values():
      for name in outputs.widths:
        both.add({name: outputs.rows(name, 0)}, {name: outputs.rows(name, 1)})
    return both.differences(tolerance)

  def differ(self, tolerance: float) -> int:
    """How many examples have a prediction that is not the one of their state."""
    return len(self) - sum(self.states(tolerance).values())

  def states(self, tolerance: float) -> dict[int, int]:
    """{number of the last delta: how many examples it served}; those that differ are left out."""
    counts: collections.Counter[int] = collections.Counter()
    for outputs in self._of.values():
      served = _view(outputs.distance, np.float32) <= tolerance
      counts.update(_view(outputs.state, np.int32)[served].tolist())
    return dict(sorted(counts.items()))

  def worst(self, tolerance: float) -> list[dict[str, Any]]:
    """The examples furthest apart, each {"id", "where", "logged", "replayed"}."""
    worst = sorted(self._worst, reverse=True)
    return [example for apart, _, example in worst if not apart <= tolerance]


def _view(values: array.array, dtype: type) -> np.ndarray:
  """A writable view, which must end before the array grows."""
  return np.frombuffer(memoryview(values).cast("B"), dtype)
