"""Runs benchmarks one after the other and writes what they found into docs/benchmarks.md.

Each one's JSON is kept in --results. On the page, what stands between the markers of a benchmark
that was run is replaced; the figures of the others stay. A benchmark that fails keeps its old
figures.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import time

from tqdm import tqdm

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The benchmarks in the order of the page, each with its flags for a quick run.
BENCHMARKS = {
  "table_speed": ["--quick"],
  "table_pauses": ["--rows=400000", "--grown=400000", "--seconds=0.5", "--repeats=2"],
  "end_to_end": ["--examples=50000", "--repeats=3"],
  "input": ["--records=20000", "--repeats=2"],
  "join_speed": ["--records=100000", "--repeats=2", "--slack=1.2"],
  "memory_per_row": ["--rows=1000000", "--slack=1.3"],
  "eviction_memory": ["--rows=1000000", "--cases=mixed", "--percent=10"],
  "checkpoint_speed": ["--rows=1000000"],
  "delta_lag": ["--rows", "20000", "--lags", "5", "--repeats", "4"],
  "cluster_throughput": ["--parts=throughput", "--examples=50000", "--days=1", "--repeats=1"],
  "progressive_auc": ["--only=movielens"],
  "models": ["--rows=20000", "--seeds=1"],
  "two_towers": ["--rows=20000", "--seeds=1"],
  "consistency_auc": ["--days=30", "--seeds", "1", "--settings", "async"],
}
DRAWN = ["table_speed"]  # They can draw, and the page shows it.
SECTION = "<!-- figures of {} -->\n"
END = "<!-- end of figures -->\n"


def main():
  flags = parser().parse_args()
  here = [name for name in BENCHMARKS if (ROOT / "benchmarks" / f"{name}.py").exists()]
  if unknown := [name for name in flags.benchmarks if name not in here]:
    parser().error(f"there is no benchmark '{unknown[0]}'; there are {', '.join(here)}.")
  flags.results.mkdir(parents=True, exist_ok=True)
  failed = []
  names = [name for name in here if name in (flags.benchmarks or here)]
  with tqdm(names, unit=" benchmarks") as progress:
    for name in progress:
      progress.set_postfix_str(name)
      plot = flags.page.parent / "images" / f"{name}.png" if name in DRAWN else None
      report, exit_code = run(name, BENCHMARKS[name] if flags.quick else [], plot)
      if report is None:
        failed.append(f"{name} failed with exit code {exit_code}")
        continue
      (flags.results / f"{name}.json").write_text(json.dumps(report, indent=2))
      flags.page.write_text(with_figures(flags.page.read_text(), name, report))
      failed += [f"{name} missed: {goal['name']}" for goal in report["goals"] if not goal["met"]]
  for line in failed:
    print(line, file=sys.stderr)
  return int(bool(failed))


def parser():
  flags = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
  )
  flags.add_argument("benchmarks", nargs="*", help=f"of {', '.join(BENCHMARKS)}; all by default")
  flags.add_argument("--quick", action="store_true", help="small sizes, to see that all is well")
  flags.add_argument("--page", type=pathlib.Path, default=ROOT / "docs" / "benchmarks.md")
  flags.add_argument("--results", type=pathlib.Path, default=ROOT / "build" / "bench")
  return flags


def run(name, arguments=(), plot=None):
  """Returns the JSON of a benchmark, and its exit code; None for the JSON if there is none.

  "run", which says how it was measured, is added.

  It draws to the file `plot`, if that is given.
  """
  command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--json", *arguments]
  command += [f"--plot={plot.absolute()}"] if plot else []
  path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
  before, began = busy_seconds(), time.monotonic()
  done = subprocess.run(
    command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}
  )
  seconds = time.monotonic() - began
  at, own = (after - since for after, since in zip(busy_seconds(), before))
  try:
    report = json.loads(done.stdout)
  except json.JSONDecodeError:
    return None, done.returncode
  report["run"] = {
    "command": " ".join(["python", f"benchmarks/{name}.py", *arguments]),
    "date": datetime.date.today().isoformat(),
    "seconds": round(seconds),
    "used_by_others": max(0.0, at - own) / (seconds * os.cpu_count()),
    "plot": plot.name if plot else None,
  }
  return report, done.returncode


def busy_seconds():
  """Returns processor seconds: of the machine, with those that its host took; of ended children."""
  with open("/proc/stat") as lines:
    user, nice, system, _, _, irq, softirq, steal = map(int, lines.readline().split()[1:9])
  ticks = user + nice + system + irq + softirq + steal
  own = resource.getrusage(resource.RUSAGE_CHILDREN)
  return ticks / os.sysconf("SC_CLK_TCK"), own.ru_utime + own.ru_stime


def with_figures(page, name, report):
  """Returns the page with a report's figures in place of the benchmark's old ones, or the end."""
  section = SECTION.format(name) + figures(name, report) + END
  old = re.compile(re.escape(SECTION.format(name)) + ".*?" + re.escape(END), re.DOTALL)
  if old.search(page):
    return old.sub(lambda _: section, page)
  return page.rstrip("\n") + "\n\n" + section


def figures(name, report):
  """Markdown: the results as a table, the goals, and where and how well they were measured."""
  rows = [{key: cell(value) for key, value in row.items()} for row in report["results"]]
  # A column without a single number in it says nothing.
  columns = [key for key in rows[0] if any(row[key] != "-" for row in rows)]
  lines = [f"### Figures of {name}.py", "", report["title"] + ".", ""]
  lines.append(table_line(column.replace("_", " ") for column in columns))
  lines.append("|---" * len(columns) + "|")
  lines += [table_line(row[column] for column in columns) for row in rows]
  lines.append("")
  if report["run"]["plot"]:
    lines += [f"![{report['title']}](images/{report['run']['plot']})", ""]
  for goal in report["goals"]:
    verdict = "met" if goal["met"] else "**missed**"
    relation = "at least" if goal["at_least"] else "at most"
    value, limit = (f"{cell(goal[key])} {goal['unit']}".rstrip() for key in ("value", "limit"))
    lines.append(f"- {goal['name']}: {value} ({relation} {limit}: {verdict})")
  machine = ", ".join(f"{key} {value}" for key, value in report["machine"].items())
  lines += ["" if report["goals"] else None, f"`{report['run']['command']}`: {noise(report)}"]
  lines += ["", f"On {machine}.", ""]
  return "\n".join(line for line in lines if line is not None) + "\n"


def noise(report):
  """One line: when and how long it ran, how far measurements spread, what else was running."""
  run_ = report["run"]
  spreads = [value for row in report["results"] for value in row.values() if is_spread(value)]
  apart = sorted((s["high"] - s["low"]) / s["median"] for s in spreads if s["median"])
  line = f"{run_['date']}, {run_['seconds']:,} s"
  if apart:
    line += (
      f"; repeats spread over {apart[len(apart) // 2]:.0%} of their median, at most {apart[-1]:.0%}"
    )
  return line + f"; other programs used {run_['used_by_others']:.0%} of the processors."


def is_spread(value):
  return isinstance(value, dict) and set(value) == {"median", "low", "high"}


def cell(value):
  """A value of a report as text: a Spread as its median and extremes."""
  if is_spread(value):
    return f"{number(value['median'])} ({number(value['low'])} to {number(value['high'])})"
  if value is None:
    return "-"
  if isinstance(value, bool):
    return "yes" if value else "no"
  return number(value) if isinstance(value, (int, float)) else str(value)


def number(value):
  """Four digits, or all of a whole number."""
  if isinstance(value, int) or abs(value) >= 1000:
    return f"{value:,.0f}"
  return f"{value:.4g}"


def table_line(cells):
  return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
  sys.exit(main())
