"""The short report at the end of a run."""

import dataclasses

_MOST_LINES = 14


@dataclasses.dataclass(frozen=True)
class Summary:
  """How a run went.

  Attributes:
    days: (name, number of examples, {metric: float}) for each day tested before it was trained on.
    table: the table's statistics at the end.
    evicted: number of feasigns evicted at day ends.
    examples: number of examples trained.
    examples_per_second: of training alone.
  """

  days: list
  table: dict
  evicted: int
  examples: int
  examples_per_second: float

  def text(self):
    """The report as lines of text."""
    lines = []
    if self.days:
      lines += ["", "Each day tested before it is trained on:"]
      lines += [_line(days) for days in _runs(self.days, _MOST_LINES)]
    table = self.table
    share = table["admitted"] / table["rows"] if table["rows"] else 0.0
    lines += [
      "",
      f"  feasigns         {table['rows']:>14,.0f}",
      f"  admitted         {table['admitted']:>14,.0f}  ({share:.1%})",
      f"  evicted          {self.evicted:>14,}",
      f"  total shows      {table['show']:>14,.0f}",
      f"  table memory     {table['bytes'] / 2**20:>14,.1f}  MiB",
      f"  examples         {self.examples:>14,}",
      f"  examples/s       {self.examples_per_second:>14,.0f}",
    ]
    return "\n".join(lines)


def _runs(days, most):
  """Splits days into at most `most` runs of neighbours."""
  size = -(-len(days) // most)
  return [days[start : start + size] for start in range(0, len(days), size)]


def _line(days):
  """One line for a run of days, each metric the mean over its examples."""
  name = days[0][0] if len(days) == 1 else f"{days[0][0]} .. {days[-1][0]}"
  examples = sum(count for _, count, _ in days)
  metrics = {
    metric: sum(count * logs[metric] for _, count, logs in days) / examples for metric in days[0][2]
  }
  # Every name on its own: Keras numbers metrics (auc, auc_1, ...) in one process.
  values = "  ".join(f"{metric} {value:.4f}" for metric, value in metrics.items())
  return f"  {name:<24} {examples:>9,} examples  {values}"
