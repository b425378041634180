"""Tries the wheel on every TensorFlow that tfps runs on, and writes the table of docs/versions.md.

python -m tests.matrix                 # all combinations
python -m tests.matrix 2.20 2.21@3.11  # those of a minor version; one on a Python of your choice
"""

import pathlib
import re
import sys
import traceback

from tests.matrix import steps
from tests.matrix.environment import ROOT, Combination, Environment, Failed, Missing
from tfps import versions

PYTHONS = {"2.19": ("3.12",), "2.20": ("3.13",), "2.21": ("3.13", "3.10")}
_PYTHON = ("3.11",)
COMBINATIONS = tuple(
  Combination(release, python)
  for release in versions.RELEASES
  for python in PYTHONS.get(versions.minor(release), _PYTHON)
)
FOLDER = ROOT / "build" / "matrix"
PAGE = ROOT / "docs" / "versions.md"
BEGIN, END = "<!-- make matrix writes this table -->", "<!-- the table ends -->"


def main(names: list[str]) -> int:
  """Runs the named combinations; returns the exit code."""
  wheels = sorted(FOLDER.glob("dist/*.whl"), key=lambda wheel: wheel.stat().st_mtime)
  if not wheels:
    sys.exit("there is no wheel to try: run `make matrix`")
  rows = [_row(combination, wheels[-1]) for combination in chosen(names)]
  table = "\n".join(
    [
      _line(["TensorFlow", "Python", "NumPy", "Keras 2", *steps.STEPS]),
      _line(["---"] * (4 + len(steps.STEPS))),
      *map(_line, rows),
    ]
  )
  print(table)
  if not names:
    _write(table)
  return int(any(not cell.startswith("yes") for row in rows for cell in row[4:]))


def chosen(names: list[str]) -> list[Combination]:
  """Returns the combinations of names such as "2.21" and "2.21@3.11"; all if there is none."""
  found = []
  for name in names or [versions.minor(release) for release in versions.RELEASES]:
    minor, _, python = name.partition("@")
    releases = [release for release in versions.RELEASES if versions.minor(release) == minor]
    if not releases:
      sys.exit(
        f"tfps does not run on TensorFlow {minor}: name one of {', '.join(versions.RELEASES)}"
      )
    listed = [combination for combination in COMBINATIONS if combination.tensorflow == releases[0]]
    found += [Combination(releases[0], python)] if python else listed
  return found


def _row(combination: Combination, wheel: pathlib.Path) -> list[str]:
  environment = Environment(combination, FOLDER)
  cells: list[str] = []
  installed = ["", ""]
  for name, step in steps.STEPS.items():
    print(f"{combination}: {name}", flush=True)
    try:
      if name == next(iter(steps.STEPS)):
        environment.install(wheel)
        installed = [environment.version("numpy"), environment.version("tf-keras")]
      cells.append(f"yes{step(environment)}")
    except (Failed, Missing) as error:
      cells.append(f"NO: {error}")
      print(f"{combination}: {name}: {error}", flush=True)
      if len(cells) == 1:
        cells += ["not tried"] * (len(steps.STEPS) - 1)
        break
    except Exception:
      traceback.print_exc()
      cells.append("NO: the matrix itself failed")
  return [combination.tensorflow, combination.python, *installed, *cells]


def _line(cells: list[str]) -> str:
  return f"| {' | '.join(cells)} |"


def _write(table: str) -> None:
  page = PAGE.read_text()
  pattern = f"{re.escape(BEGIN)}.*?{re.escape(END)}"
  PAGE.write_text(re.sub(pattern, lambda _: f"{BEGIN}\n\n{table}\n\n{END}", page, flags=re.DOTALL))


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
