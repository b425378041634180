"""Runs all programs in all ways; see the package's docstring."""

import argparse
import pathlib
import re
import sys
import tempfile

from tests.keras_judge import cluster, compare, report, ways
from tests.keras_judge.table import FEATURES


def main() -> int:
  """Returns the exit code: 1 if anything differs."""
  parser = argparse.ArgumentParser(prog="python -m tests.keras_judge", description=__doc__)
  parser.add_argument("--report", action="store_true", help="write it into docs/keras_features.md")
  parser.add_argument("--only", default="", help="a regex: only such features, by 'kind: name'")
  arguments = parser.parse_args()
  features = [feature for feature in FEATURES if re.search(arguments.only, feature.id)]
  names = dict.fromkeys(feature.program.__name__ for feature in features)
  with tempfile.TemporaryDirectory() as folder:
    on_cluster = cluster.run(names, pathlib.Path(folder), show=True)
  lines, differ = [], False
  for feature in features:
    name, on_arrays = feature.program.__name__, lambda: ways.seen(feature.program, ways.Way)
    cells = []
    for found, judge in (
      (ways.seen(feature.program, ways.OneProcess), compare.in_one_process),
      (on_cluster[name], compare.on_a_cluster),
    ):
      wrong = judge(feature, found, on_arrays)
      if wrong:
        differ = True
        print(f"{feature.id}:", *wrong, sep="\n  ", flush=True)
      cells.append(report.cell(found, wrong))
    lines.append((feature, *cells))
  if arguments.report:
    if not arguments.only:
      report.PAGE.unlink(missing_ok=True)
    report.write(lines)
  return int(differ)


if __name__ == "__main__":
  sys.exit(main())
