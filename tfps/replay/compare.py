"""Where the features of two sides differ, slot by slot, and how."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfps.replay.records import Place
from tfps.replay.request import Where

# In this order they are looked for; the first that holds is the kind of a difference.
KINDS = (
  "missing in serving", "missing in training", "order", "rounding", "number", "value",
)  # fmt: skip
_MOST_EXAMPLES = 3
_ROUNDING = 0.01  # Decimal numbers that are closer, in relation to the larger, are rounded.


@dataclasses.dataclass
class Example:
  """One example of a difference.

  Attributes:
    id: the example's, as people read it.
    where: its place in the log.
    kind: one of `KINDS`.
    serving, training: the values of the slot on both sides.
    raw: the raw values on both sides, where there is a raw input with the name of the slot.
    record: the record's place.
  """

  id: str
  where: str
  kind: str
  serving: list[Any]
  training: list[Any]
  raw: tuple[list[Any], list[Any]] | None
  record: Place

  def as_dict(self) -> dict[str, Any]:
    """JSON values."""
    raw = None if self.raw is None else {"serving": self.raw[0], "training": self.raw[1]}
    sides = {"serving": self.serving, "training": self.training}
    return {"id": self.id, "where": self.where, "kind": self.kind, **sides, "raw": raw}


@dataclasses.dataclass
class Slot:
  """A slot of the examples that were compared.

  Attributes:
    name: its name.
    compared: how many examples were.
    kinds: {one of `KINDS`: in how many examples it differs so}.
    examples: the first differences, each of another record.
    effects: for how many examples predictions were made with the trainer's value of this slot.
    effect_sum, effect_max: how much that changes the prediction, in sum and at most.
    explained: how many predictions that differ are the trainer's with this slot's value alone.
  """

  name: str
  compared: int = 0
  kinds: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
  examples: list[Example] = dataclasses.field(default_factory=list)
  effects: int = 0
  effect_sum: float = 0.0
  effect_max: float = 0.0
  explained: int = 0

  @property
  def differ(self) -> int:
    """In how many examples it differs."""
    return sum(self.kinds.values())

  @property
  def effect_mean(self) -> float | None:
    """The mean change of the predictions; None where none was made."""
    return self.effect_sum / self.effects if self.effects else None

  def add_effects(self, changes: np.ndarray, explained: int) -> None:
    """Adds what the predictions of some examples change by."""
    self.effects += len(changes)
    self.effect_sum += float(changes.sum())
    self.effect_max = max(self.effect_max, float(changes.max(initial=0)))
    self.explained += explained

  def as_dict(self) -> dict[str, Any]:
    """JSON values."""
    return {
      "slot": self.name,
      "examples": self.compared,
      "differ": self.differ,
      "kinds": dict(self.kinds),
      "prediction_changes_by": {
        "examples": self.effects,
        "mean": self.effect_mean,
        "max": self.effect_max if self.effects else None,
        "explains": self.explained,
      },
      "first": [example.as_dict() for example in self.examples],
    }


def kinds(serving: np.ndarray, training: np.ndarray) -> np.ndarray:
  """How each example of a slot differs.

  Padding at the end, "" or 0, is no difference: the width of a batch says nothing.

  Args:
    serving, training: [n, ...] of integers, floats or bytes.

  Returns:
    int8 [n]: -1 where nothing differs, else the number of one of `KINDS`.
  """
  ours, theirs = _alike(serving), _alike(training)
  empty: Any = b"" if object in (ours.dtype, theirs.dtype) else 0
  if ours.dtype.kind == "f" and theirs.dtype.kind == "f":
    theirs = theirs.astype(ours.dtype)
  width = max(ours.shape[1], theirs.shape[1])
  ours, theirs = _widened(ours, width, empty), _widened(theirs, width, empty)
  same = ours == theirs
  if ours.dtype.kind == theirs.dtype.kind == "f":
    same |= np.isnan(ours) & np.isnan(theirs)
  found = np.full(len(ours), -1, np.int8)
  for row in np.flatnonzero(~same.all(axis=1)):
    found[row] = KINDS.index(_kind(ours[row], theirs[row], empty))
  return found


def _kind(ours: np.ndarray, theirs: np.ndarray, empty: Any) -> str:
  is_number = ours.dtype.kind == theirs.dtype.kind == "f"
  present, others = ours[ours != empty], theirs[theirs != empty]
  if not len(present):
    return "missing in serving"
  if not len(others):
    return "missing in training"
  if len(present) == len(others) and sorted(present.tolist()) == sorted(others.tolist()):
    return "order"
  if is_number and np.allclose(ours, theirs, rtol=_ROUNDING, atol=0, equal_nan=True):
    return "rounding"
  if len(present) != len(others) and not is_number:
    return "number"
  return "value"


def values_of(row: np.ndarray) -> list[Any]:
  """The values of one example as JSON values, without padding at the end."""
  values = [
    value.decode(errors="replace") if isinstance(value, bytes) else value
    for value in np.ravel(row).tolist()
  ]
  while values and values[-1] in ("", 0):
    values.pop()
  return values


def add_differences(
  slot: Slot,
  found: np.ndarray,
  sides: tuple[np.ndarray, np.ndarray],
  raw: Sequence[Mapping[str, np.ndarray]],
  ids: Sequence[str],
  where: Sequence[Where],
) -> None:
  """Counts the differences of some examples in a slot.

  Args:
    slot: the slot.
    found: what `kinds` returned.
    sides: [n, ...] of the slot, of serving and of training.
    raw: the raw inputs of both sides, by name; {} where there are none.
    ids, where: id and place of each example.
  """
  slot.compared += len(found)
  for kind, count in zip(*np.unique(found[found >= 0], return_counts=True)):
    slot.kinds[KINDS[kind]] += int(count)
  for row in np.flatnonzero(found >= 0):
    if len(slot.examples) == _MOST_EXAMPLES:
      break
    if any(example.record == where[row].place for example in slot.examples):
      continue  # Candidates of one request often differ alike.
    both = [values_of(one[slot.name][row]) for one in raw if slot.name in one]
    slot.examples.append(
      Example(
        ids[row],
        str(where[row]),
        KINDS[found[row]],
        values_of(sides[0][row]),
        values_of(sides[1][row]),
        (both[0], both[1]) if len(both) == 2 else None,
        where[row].place,
      )
    )


def alike_wide(serving: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Both sides of a slot, the narrower padded: some models read the padding, too."""
  if serving.ndim < 2 or training.ndim != serving.ndim:
    return serving, training
  width = max(serving.shape[1], training.shape[1])
  empty: Any = b"" if serving.dtype == object else 0
  return _widened(serving, width, empty), _widened(training, width, empty)


def join(arrays: Sequence[np.ndarray]) -> np.ndarray:
  """[n, ...] of batches one after the other; narrow ones are padded with "" or 0."""
  if arrays[0].ndim < 2:
    return np.concatenate(arrays)
  width = max(array.shape[1] for array in arrays)
  empty: Any = b"" if arrays[0].dtype == object else 0
  return np.concatenate([_widened(array, width, empty) for array in arrays])


def _alike(array: np.ndarray) -> np.ndarray:
  array = np.asarray(array)
  if array.dtype.kind in "SU":
    array = array.astype(object)
  return array.reshape(len(array), -1)


def _widened(array: np.ndarray, width: int, value: Any) -> np.ndarray:
  missing = width - array.shape[1]
  if missing <= 0:
    return array
  shape = (len(array), missing, *array.shape[2:])
  return np.concatenate([array, np.full(shape, value, array.dtype)], axis=1)
