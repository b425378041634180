"""The outputs of a model that predicts several things, each with its label and weight."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tfps.learning.metrics import ClickScores

ONLY = ""  # The name of an output that is the only one.


class Output(NamedTuple):
  """What is known of one output in some examples: arrays [B] or [B, 1], the weight None for 1."""

  label: Any
  prediction: Any
  weight: Any


def names_of(y_pred: Any, names: Sequence[str] | None = None) -> tuple[str, ...]:
  """The names of a model's outputs, as Keras has them; (`ONLY`,) where there is one.

  Args:
    y_pred: what the model returns: the keys of a dict are the names.
    names: names of the elements of a list (`output_names` of a functional model); output_1,
      output_2, ... by default.
  """
  if isinstance(y_pred, Mapping):
    return tuple(y_pred)
  if not isinstance(y_pred, (list, tuple)):
    return (ONLY,)
  if names is not None and len(names) == len(y_pred):
    return tuple(names)
  return tuple(f"output_{number}" for number in range(1, len(y_pred) + 1))


def labelled(scored: Mapping[str, Any], names: Sequence[str] | None = None) -> dict[str, Output]:
  """{name: `Output`} of the outputs that have a label.

  Labels and weights belong to outputs as in Keras: by name or place, and one array to all.

  Args:
    scored: what `tfps.Model.score` yields.
    names: as in `names_of`.
  """
  y_pred = scored["y_pred"]
  keys = names_of(y_pred, names)
  parts = [_by_name(part, keys) for part in (scored.get("y"), y_pred, scored.get("sample_weight"))]
  outputs = {name: Output(*(part[name] for part in parts)) for name in keys}
  return {name: output for name, output in outputs.items() if output.label is not None}


def check_names(wanted: Iterable[str], names: Sequence[str]) -> None:
  """Raises ValueError, in one sentence, for the first of `wanted` that is no output's name."""
  for name in wanted:
    if name not in names:
      if tuple(names) == (ONLY,):
        raise ValueError(f"there is no output '{name}': the model has one output, without a name.")
      near = difflib.get_close_matches(name, names, 1)
      hint = f" (did you mean '{near[0]}'?)" if near else ""
      raise ValueError(f"there is no output '{name}'{hint}; the model's are {', '.join(names)}.")


class OutputScores:
  """`ClickScores` of each output of a model.

  Args:
    only: names of the outputs that are scored; all that have labels where it is empty.
    names: as in `names_of`.

  Attributes:
    of: {name: `ClickScores`}.
  """

  def __init__(self, only: Sequence[str] = (), names: Sequence[str] | None = None) -> None:
    self._only = tuple(only)
    self._names = names
    self.of: dict[str, ClickScores] = {}

  def update(self, scored: Mapping[str, Any]) -> None:
    """Counts what `tfps.Model.score` yields.

    Raises:
      ValueError: an output that is scored is missing, or predicts no probabilities.
    """
    for name, output in chosen(scored, self._only, self._names).items():
      count(self.of.setdefault(name, ClickScores()), name, output)

  def merge(self, other: OutputScores) -> None:
    """Adds the counts of `other`."""
    for name, scores in other.of.items():
      self.of.setdefault(name, ClickScores()).merge(scores)

  @property
  def public(self) -> Any:
    """The `ClickScores` of a model's only output, else {name: `ClickScores`}."""
    return self.of.get(ONLY, ClickScores()) if set(self.of) <= {ONLY} else dict(self.of)


def chosen(
  scored: Mapping[str, Any], only: Sequence[str] = (), names: Sequence[str] | None = None
) -> dict[str, Output]:
  """`labelled`, restricted to the outputs `only` unless it is empty; ValueError if one is none."""
  if only:
    check_names(only, names_of(scored["y_pred"], names))
  outputs = labelled(scored, names)
  return {name: output for name, output in outputs.items() if not only or name in only}


def count(scores: ClickScores, name: str, output: Output) -> None:
  """Updates the scores of an output, whose name is in the sentence about what is wrong with it."""
  try:
    scores.update(*output)
  except ValueError as error:
    if name == ONLY:
      raise
    raise ValueError(
      f"output '{name}': {str(error).rstrip('.')}; where it is no click probability, leave it out "
      "of the outputs that are scored (config.scored_outputs)."
    ) from None


def by_output(scores: Any) -> dict[str, Any]:
  """{name: scores} of the scores of an only output, or of {name: scores}."""
  return dict(scores) if isinstance(scores, Mapping) else {ONLY: scores}


def _by_name(part: Any, names: Sequence[str]) -> dict[str, Any]:
  """Labels or weights by the output's name, None where there is none."""
  if isinstance(part, Mapping):
    if tuple(names) == (ONLY,):  # A label with a name, of an output without one.
      return {ONLY: next(iter(part.values()), None)}
    return {name: part.get(name) for name in names}
  if isinstance(part, (list, tuple)):
    padded = [*part, *[None] * len(names)]
    return dict(zip(names, padded))
  return dict.fromkeys(names, part)
