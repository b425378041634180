"""The short report at the end of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from tfps.data.ticket import Day
from tfps.learning.outputs import ONLY, by_output

_MOST_LINES = 14
# Statistics of a table that are 0 where all is well.
_DROPPED = {
  "reserved_pushes": "reserved keys",
  "nonfinite_gradients": "NaN gradients",
  "nonfinite_counts": "NaN counts",
}


@dataclasses.dataclass(frozen=True)
class Summary:
  """How a run went.

  Attributes:
    days: (`tfps.data` day, its scores) for each day tested before it was trained on: a
      `tfps.learning.metrics.ClickScores`, or {output: `ClickScores`} where there are several; of
      two towers a `tfps.learning.recall.RecallScores`.
    total: the scores of all days, likewise.
    table: the table's statistics at the end.
    evicted: number of feasigns evicted at day ends.
    examples: number of examples trained.
    examples_per_second: of training alone.
    skipped: {reason: number} of the records that were bad.
    nonfinite_steps: number of train steps that changed no weight: their loss or a gradient was not
      finite.
    stream: of a stream {name: number}: seconds from a sample's event until it was trained, on
      average and at most, and the numbers of samples that came late or early; None for other
      sources.
    epochs: {metric: number} on held-out examples after each epoch; empty where there are none.
  """

  days: list[tuple[Day, Any]]
  total: Any
  table: dict[str, float]
  evicted: int
  examples: int
  examples_per_second: float
  skipped: dict[str, int] = dataclasses.field(default_factory=dict)
  stream: dict[str, float] | None = None
  nonfinite_steps: int = 0
  epochs: list[dict[str, float]] = dataclasses.field(default_factory=list)

  def text(self) -> str:
    """The report as lines of text."""
    lines = []
    if self.days:
      lines += ["", "Each day tested before it is trained on:"]
      for days in _runs(self.days, _MOST_LINES):
        lines += _lines(*days)
      lines += _lines("all days", sum(day.records for day, _ in self.days), by_output(self.total))
    if self.epochs:
      lines += ["", "Held-out examples after each epoch:"]
      for epoch, found in enumerate(self.epochs, 1):
        values = "   ".join(f"{name} {value:.4f}" for name, value in found.items())
        lines.append(f"  {epoch:>4}   {values}")
    table = self.table
    share = table["admitted"] / table["rows"] if table["rows"] else 0.0
    lines += [
      "",
      f"  feasigns         {table['rows']:>14,.0f}",
      f"  admitted         {table['admitted']:>14,.0f}  ({share:.1%})",
      f"  evicted          {self.evicted:>14,}",
      f"  evicted at limit {table['evicted_at_limit']:>14,.0f}",
      f"  total shows      {table['show']:>14,.0f}",
      f"  table memory     {table['bytes'] / 2**20:>14,.1f}  MiB",
      f"  examples         {self.examples:>14,}",
      f"  examples/s       {self.examples_per_second:>14,.0f}",
    ]
    for name, what in _DROPPED.items():
      if table.get(name):
        lines.append(f"  {what:<16} {table[name]:>14,.0f}")
    if self.skipped:
      lines.append(f"  bad records      {sum(self.skipped.values()):>14,}  skipped:")
      order = sorted(self.skipped.items(), key=lambda entry: (-entry[1], entry[0]))
      lines += [f"{count:>33,}  {reason}" for reason, count in order]
    if self.nonfinite_steps:
      lines.append(f"  NaN steps        {self.nonfinite_steps:>14,}")
    if self.stream is not None:
      stream = self.stream
      lines += [
        f"  event to trained {stream['seconds_to_trained']:>14,.1f}  s on average, "
        f"{stream['seconds_to_trained_max']:,.1f} at most",
        f"  late samples     {stream['late']:>14,}",
      ]
    return "\n".join(lines)

  def as_dict(self) -> dict[str, Any]:
    """The same for programs, as JSON values: days by name, total, table and other attributes."""
    return {
      "days": {day.name: {"examples": day.records} | _scores(scores) for day, scores in self.days},
      "total": _scores(self.total) if self.days else {},
      "table": self.table,
      "evicted": self.evicted,
      "examples": self.examples,
      "examples_per_second": self.examples_per_second,
      "skipped": self.skipped,
      "nonfinite_steps": self.nonfinite_steps,
      "stream": self.stream,
      "epochs": self.epochs,
    }


def _scores(scores: Any) -> dict[str, Any]:
  """As JSON values: {metric: number}, or {"outputs": {output: {metric: number}}}."""
  if isinstance(scores, Mapping):
    return {"outputs": {output: of_output.as_dict() for output, of_output in scores.items()}}
  return scores.as_dict()


def _runs(days: list[tuple[Day, Any]], most: int) -> Iterator[tuple[str, int, dict[str, Any]]]:
  """Joins neighbouring days into at most `most` runs: (name, examples, scores by output) each."""
  size = -(-len(days) // most)
  for start in range(0, len(days), size):
    run = days[start : start + size]
    first, last = run[0][0], run[-1][0]
    scores: dict[str, Any] = {}
    for _, day_scores in run:
      for output, of_output in by_output(day_scores).items():
        scores.setdefault(output, type(of_output)()).merge(of_output)
    name = first.name if size == 1 else f"{first.name} .. {last.name}"
    yield name, sum(day.records for day, _ in run), scores


def _lines(name: str, examples: int, scores: dict[str, Any]) -> Iterator[str]:
  """A line for each output."""
  head = f"  {name:<24} {examples:>11,} examples"
  width = max(map(len, scores), default=0)
  for output, of_output in scores.items():
    title = "" if output == ONLY else f"   {output:<{width}}"
    yield f"{head}{title}   {of_output}"
    head = " " * len(head)
