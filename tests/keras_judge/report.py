"""docs/keras_features.md: the table, as it was found; all of the page is written here."""

from __future__ import annotations

import pathlib
import re

import tensorflow as tf
import tf_keras as keras

from tests.keras_judge.feature import Feature
from tests.keras_judge.table import FEATURES
from tests.keras_judge.ways import Seen

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "keras_features.md"
INTRODUCTION = """# What Keras says, tfps does

`fit`, `evaluate` and `predict` of a `tfps.Model` on a source are those of Keras on the same
batches. This page lists the features of Keras 2 and says of each whether a source takes it. It is
written by the suite that finds out, `tests/keras_judge/`: one program uses each feature, and runs

- on arrays, in the training loop of stock Keras and, but where there is a table, as a
  `keras.Model`: what this gives is right;
- on a source in one process, with three batches a ticket;
- on a source on a cluster of one worker and two parameter servers, in [`sync`](consistency.md)
  with one batch a ticket.

*same* means that histories, metrics, what `evaluate` and `predict` return, weights, the
optimizer's variables and rows are the same, up to the rounding of float32. *refused* means that
the call ends with that sentence. Combinations of models, losses, metrics, optimizers, batches and
tickets are drawn at random beside that.

What differs by design is the unit: a step of the progress bar and of a callback's batch hooks is
a finished ticket. See [training](training.md) for sources and [Keras and TensorFlow](keras.md)
for the versions.
"""


def name_of(feature: Feature) -> str:
  """The feature as the page has it."""
  is_name = feature.name.replace("_", "").replace(".", "").isalnum() and " " not in feature.name
  return f"`{feature.name}`" if is_name else feature.name.replace("|", "\\|")


def cell(found: Seen, wrong: list[str]) -> str:
  """What the table says of a way in which this was found, and this is wrong with it."""
  if wrong:
    return f"DIFFERS: {wrong[0].splitlines()[0]}"
  return f"refused: {found.error.partition(': ')[2]}".replace("|", "\\|") if found.error else "same"


def rows(page: str) -> dict[tuple[str, str], list[str]]:
  """{(title of the feature's kind, the feature as the page has it): the cells after that}."""
  found, title = {}, ""
  for line in page.splitlines():
    if line.startswith("## "):
      title = line.removeprefix("## ")
    elif line.startswith("| ") and not line.startswith("| |"):
      name, *cells = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
      found[title, name] = cells
  return found


def key_of(feature: Feature) -> tuple[str, str]:
  """The key of its row in `rows`."""
  return feature.kind[0].upper() + feature.kind[1:], name_of(feature)


def write(lines: list[tuple[Feature, str, str]], page: pathlib.Path = PAGE) -> None:
  """Writes the page; rows of other features stay as they are there.

  Args:
    lines: (feature, the cell of one process, the cell of a cluster).
    page: the page.
  """
  there = rows(page.read_text()) if page.exists() else {}
  for feature, process, cluster in lines:
    same = process == cluster and process != "same"
    there[key_of(feature)] = [process, "as in one process" if same else cluster, feature.note]
  text: list[str] = [INTRODUCTION]
  text.append(f"Found with TensorFlow {tf.__version__} and tf_keras {keras.__version__}.")
  for feature in FEATURES:
    title, name = key_of(feature)
    if (title, name) not in there:
      continue
    if f"## {title}" not in text:
      text += ["", f"## {title}", "", "| | one process | cluster | |", "|---|---|---|---|"]
    text.append(f"| {' | '.join([name, *there[title, name]])} |")
  page.write_text("\n".join([*text, ""]))
