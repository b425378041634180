"""What all benchmarks share: flags, repeated measurements, goals, and the two forms of a report.

A benchmark builds its parser with `parser`, measures, and ends with `sys.exit(report(...))`.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time


@dataclasses.dataclass(frozen=True)
class Goal:
  """A bound that a measured value must keep: at most `limit`, or at least with at_least=True."""

  name: str
  value: float
  limit: float
  unit: str = ""
  at_least: bool = False

  @property
  def met(self):
    return self.value >= self.limit if self.at_least else self.value <= self.limit

  def __str__(self):
    relation = "at least" if self.at_least else "at most"
    verdict = "met" if self.met else "MISSED"
    value, limit = (f"{number:,.4g} {self.unit}".rstrip() for number in (self.value, self.limit))
    return f"goal {verdict}: {self.name} {value}, {relation} {limit}"


@dataclasses.dataclass(frozen=True)
class Spread:
  """The median and the extremes of repeated measurements, in their unit."""

  median: float
  low: float
  high: float

  def __str__(self):
    return f"{self.median:,.4g} [{self.low:,.4g} .. {self.high:,.4g}]"


def spread(values):
  """The Spread of some numbers."""
  return Spread(statistics.median(values), min(values), max(values))


def seconds(function, repeats=5, warm_up=1):
  """The Spread of the seconds that `function` takes, after `warm_up` calls that do not count."""
  return interleaved_seconds({"": function}, repeats, warm_up)[""]


def interleaved_seconds(functions, repeats=5, warm_up=1):
  """The same for several functions {name: function}. Returns {name: Spread}.

  They are called in turn, so that a slow moment of the machine hits all of them.
  """
  taken = {name: [] for name in functions}
  for round_ in range(warm_up + repeats):
    for name, function in functions.items():
      start = time.perf_counter()
      function()
      if round_ >= warm_up:
        taken[name].append(time.perf_counter() - start)
  return {name: spread(values) for name, values in taken.items()}


def parser(description):
  """An argparse parser with the flags of every benchmark, --json and --check."""
  flags = argparse.ArgumentParser(
    description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
  )
  flags.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
  flags.add_argument(
    "--check", action="store_true", help="exit with 1 when a goal is missed, not only say so"
  )
  return flags


def machine():
  """Where the numbers were taken, as a dict."""
  return {
    "cpu": _cpu_model(),
    "cores": len(os.sched_getaffinity(0)),
    "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    "system": platform.platform(),
    "python": platform.python_version(),
    "tensorflow": _version("tensorflow"),
    "numpy": _version("numpy"),
    "tfra": _version("tensorflow-recommenders-addons"),
    "compiler": _compiler(),
  }


def report(flags, title, rows, goals=()):
  """Prints the results and returns the exit code.

  Args:
    flags: the parsed flags of `parser`.
    title: one line that says what was measured.
    rows: a list of dicts with the same keys, the columns: strings, numbers, Spreads, or None for
      what was not measured.
    goals: the Goals that the results must keep.

  Returns:
    1 if --check was given and a goal was missed, otherwise 0.
  """
  if flags.json:
    print(
      json.dumps(
        {
          "title": title,
          "machine": machine(),
          "results": rows,
          "goals": [dataclasses.asdict(goal) | {"met": goal.met} for goal in goals],
        },
        indent=2,
        default=dataclasses.asdict,
      )
    )
  else:
    print(title)
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print()
    print(table(rows))
    print()
    for goal in goals:
      print(goal)
  return int(flags.check and not all(goal.met for goal in goals))


def table(rows):
  """Rows, dicts with the same keys, as text in columns: words to the left, numbers to the right."""
  cells = [[name.replace("_", " ") for name in rows[0]]]
  cells += [[_text(value) for value in row.values()] for row in rows]
  widths = [max(map(len, column)) for column in zip(*cells)]
  left = [isinstance(value, str) for value in rows[0].values()]
  lines = [
    "  ".join(
      cell.ljust(width) if to_left else cell.rjust(width)
      for cell, width, to_left in zip(line, widths, left)
    ).rstrip()
    for line in cells
  ]
  return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _text(value):
  if value is None:
    return "-"
  if isinstance(value, bool):
    return "yes" if value else "no"
  if isinstance(value, int):
    return f"{value:,}"
  return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _cpu_model():
  with open("/proc/cpuinfo") as lines:
    for line in lines:
      if line.startswith("model name"):
        return line.split(":", 1)[1].strip()
  return platform.machine()


def _compiler():
  command = os.environ.get("CXX", "g++").split()[-1]
  try:
    done = subprocess.run([command, "-dumpfullversion"], capture_output=True, text=True)
  except FileNotFoundError:
    return "none"
  return f"{command} {done.stdout.strip()}"


def _version(package):
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return "none"
