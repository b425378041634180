"""Metrics of scored examples: over all of them, within groups, and for the values of slots."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfps.learning import outputs as outputs_lib
from tfps.learning.metrics import ClickScores, grouped_auc
from tfps.table.feasigns import feasign


class ExampleScores:
  """AUC, log loss and calibration of examples, their GAUC, and the same for single values of slots.

  Of a model with several outputs it measures each that has labels. It keeps some 24 bytes of each
  example and output, and 16 for every value of the slots.

  Args:
    gauc_slot: the feature that groups the examples for GAUC, one value each; none where it is "".
    slots: what else is told apart: "genres" for the values of that feature with most examples,
      "genres=Drama" for this one. A value is what the feature holds or, where that is a feasign,
      what `tfps.feasign` makes one of: a string, or an integer.
    most_values: how many values "genres" stands for.
    outputs: names of the outputs that are measured; all by default.
    output_names: the names of outputs that are a list (`output_names` of a functional model).

  Examples:
    >>> scores = tfps.evaluation.ExampleScores(gauc_slot="user_id", slots=["category"])
    >>> for scored in model.score(source, features=scores.features):
    ...   scores.update(scored)
    >>> 0 < scores.results()["log_loss"] < 10
    True
  """

  def __init__(
    self,
    gauc_slot: str = "",
    slots: Sequence[str] = (),
    most_values: int = 20,
    outputs: Sequence[str] = (),
    output_names: Sequence[str] | None = None,
  ) -> None:
    self._outputs = tuple(outputs), output_names
    self._gauc_slot = gauc_slot
    self._most_values = most_values
    self._all_values = {name for name in slots if "=" not in name}
    self._named: dict[str, list[str]] = {}  # {slot: the names of single values}
    for slot, name in (entry.split("=", 1) for entry in slots if "=" in entry):
      self._named.setdefault(slot, []).append(name)
    self._slots = list(dict.fromkeys(entry.split("=", 1)[0] for entry in slots))
    # {output: [(label, prediction, weight) of each ticket]}
    self._parts: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    self._features: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {
      name: [] for name in self.features
    }

  @property
  def features(self) -> tuple[str, ...]:
    """The names of the features that `update` needs."""
    return tuple(dict.fromkeys(([self._gauc_slot] if self._gauc_slot else []) + self._slots))

  def update(self, scored: Mapping[str, Any]) -> None:
    """Counts what `tfps.Model.score` yields, given these `features`."""
    for name, output in outputs_lib.chosen(scored, *self._outputs).items():
      outputs_lib.count(ClickScores(), name, output)  # raises what is wrong with it
      label, prediction = (np.asarray(part).reshape(-1) for part in output[:2])
      weight = output.weight
      weight = np.ones_like(label) if weight is None else np.asarray(weight).reshape(-1)
      self._parts.setdefault(name, []).append((label, prediction, weight))
    for name in self.features:
      self._features[name].append(scored["features"][name])

  def results(self) -> dict[str, float]:
    """Returns {tag: float}: auc, gauc, log_loss, calibration, auc/genres=Drama and so on.

    Of several outputs, the tags begin with the output's name: ctr/auc. Undefined metrics are left
    out.
    """
    results = {}
    for output, parts in self._parts.items():
      columns = [np.concatenate(column) for column in zip(*parts)]
      prefix = "" if output == outputs_lib.ONLY else f"{output}/"
      results.update({prefix + tag: value for tag, value in self._of_output(columns).items()})
    return {tag: value for tag, value in results.items() if np.isfinite(value)}

  def _of_output(self, columns: Sequence[np.ndarray]) -> dict[str, float]:
    results = _click_scores(columns)
    if self._gauc_slot:
      results["gauc"] = self._gauc(columns)
    for slot in self._slots:
      for name, examples in self._groups(slot):
        scores = _click_scores([column[examples] for column in columns])
        results.update({f"{metric}/{slot}={name}": value for metric, value in scores.items()})
    return results

  def _gauc(self, columns: Sequence[np.ndarray]) -> float:
    values, examples = self._values(self._gauc_slot)
    if np.any(examples[1:] == examples[:-1]):
      raise ValueError(
        f"gauc_slot is '{self._gauc_slot}', of which an example has several values; name a feature "
        "with one, like the user's id."
      )
    counts = columns[2][examples] != 0  # An output without a label in an example weighs 0 there.
    values, examples = values[counts], examples[counts]
    _, group = np.unique(values, return_inverse=True)
    label, prediction, _ = (column[examples] for column in columns)
    return grouped_auc(label, prediction, group) if len(group) else float("nan")

  def _groups(self, slot: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, numbers of the examples) of a slot's values, most examples first."""
    values, examples = self._values(slot)
    distinct, value_of = np.unique(values, return_inverse=True)
    # An example that has a value twice counts once.
    pairs = np.unique(np.stack([value_of, examples], axis=1), axis=0)
    bounds = np.searchsorted(pairs[:, 0], np.arange(len(distinct) + 1))
    names = self._names(slot, values.dtype)
    order = np.argsort(bounds[:-1] - bounds[1:], kind="stable")
    for rank, at in enumerate(order):
      value = distinct[at]
      reported = slot in self._all_values and rank < self._most_values
      if reported or value in names:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        yield names.get(value, text), pairs[bounds[at] : bounds[at + 1], 1]

  def _names(self, slot: str, dtype: np.dtype) -> dict[bytes | int, str]:
    """{value as the feature holds it: its name} of the values that are named."""
    names: dict[bytes | int, str] = {}
    for name in self._named.get(slot, ()):
      if dtype.kind == "O":  # bytes
        names[name.encode()] = name
        continue
      names[int(feasign(slot, name))] = name
      if name.lstrip("-").isdecimal() and -(2**63) <= int(name) < 2**63:
        names[int(feasign(slot, np.int64(name)))] = name
        names[int(name)] = name
    return names

  def _values(self, slot: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns a feature's values [N] without padding, and the example of each [N]."""
    values, lengths = (np.concatenate(parts) for parts in zip(*self._features[slot]))
    examples = np.repeat(np.arange(len(lengths)), lengths)
    there = values != (b"" if values.dtype.kind == "O" else 0)
    return values[there], examples[there]


def _click_scores(columns: Sequence[np.ndarray]) -> dict[str, float]:
  scores = ClickScores()
  scores.update(*columns)
  return {"auc": scores.auc, "log_loss": scores.log_loss, "calibration": scores.calibration}
