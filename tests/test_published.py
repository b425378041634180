"""The data sets and the protocol of benchmarks/published.py, on a little data."""

import itertools
import json

import numpy as np

from benchmarks import published_data
from tests.test_benchmarks import run
from tests.test_configs import RATINGS, write_ratings


def write_frappe(folder, rng, uses=160):
  """Writes what is held out, and all uses; returns the others, [(features, label)]."""
  sizes = published_data.FRAPPE
  rows = {}
  while len(rows) < uses:
    rows[tuple(int(rng.integers(min(size, 9))) for size in sizes.values())] = 1
  free = np.arange(9, sizes["item"])  # Nobody uses these.
  positives = list(rows)
  for user, _, *others in positives:
    for drawn in rng.choice(free, 2, replace=False):
      rows[(user, int(drawn), *others)] = 0
  starts = dict(zip(sizes, np.cumsum([0, *sizes.values()])))
  everything = [
    ([int(value + starts[field]) for field, value in zip(sizes, row)], label)
    for row, label in rows.items()
  ]
  cut = np.split(rng.permutation(len(everything)), [50, 100])
  for name, places in zip(("validation", "test"), cut):
    lines = [
      f"{1 if label else -1} {' '.join(f'{feature}:1' for feature in features)}\n"
      for features, label in (everything[i] for i in places)
    ]
    (folder / f"frappe.{name}.libfm").write_text("".join(lines))
  # As CFM has them: the context's fields, then item and cost, numbered from 0 on each side.
  lines = []
  for row in positives:
    value = dict(zip(sizes, row))
    sides = []
    for fields in (published_data.CONTEXT, ("item", "cost")):
      begins = np.cumsum([0, *(sizes[field] for field in fields)])
      sides.append("-".join(str(value[field] + begin) for field, begin in zip(fields, begins)))
    lines.append(",".join(sides) + "\n")
  (folder / "train.csv").write_text("".join(lines[:90]))
  (folder / "test.csv").write_text("".join(lines[90:]))
  return [everything[i] for i in cut[2]]


def test_frappe_trains_on_what_is_not_held_out_but_for_the_apps_of_negatives(
  tmp_path,
):
  rest = write_frappe(tmp_path, np.random.default_rng(3))
  train, validation, test = published_data.frappe(tmp_path)
  assert (len(validation), len(test)) == (50, 50)
  x, y = np.stack(list(train.x.values()), axis=1) - 1, train.y[:, 0]
  found = lambda label: sorted(map(tuple, x[y == label].tolist()))
  assert found(1) == sorted(tuple(features) for features, label in rest if label)
  others = lambda rows: sorted((*row[:1], *row[2:]) for row in rows)
  assert others(found(0)) == others(features for features, label in rest if not label)
  used = {tuple(features[:2]) for features, label in rest if label}
  assert not used & {row[:2] for row in found(0)}


def test_movielens_leaves_out_three_stars(tmp_path):
  write_ratings(tmp_path, 5)
  split = published_data.movielens(tmp_path)
  stars = [min(rating, 5) for _, _, rating, _ in RATINGS]
  count, clicks = sum(star != 3 for star in stars), sum(star > 3 for star in stars)
  assert sum(map(len, split)) == count and sum(part.y.sum() for part in split) == clicks
  assert [len(part) for part in split[1:]] == [count // 10] * 2
  numbers = [np.unique(split.train.x[slot]) for slot in published_data.MOVIELENS]
  for one, other in itertools.combinations(numbers, 2):
    assert not np.intersect1d(one, other).any()  # 0 alone is in several: padding.


def test_published(tmp_path):
  write_frappe(tmp_path, np.random.default_rng(3))
  flags = [f"--frappe={tmp_path}", "--epochs=1", "--batch-size=64", "--models", "FinalMLP"]
  ways = ["Keras", "tfps, all rows"]
  done = run("published.py", *flags, "--ways", *ways, "--json", home=tmp_path)
  report = json.loads(done.stdout)
  assert [(row["way"], row["epochs"]["high"]) for row in report["results"]] == [
    (way, 1) for way in ways
  ]
  # Whose split is published is held to the published figure, too.
  assert len(report["goals"]) == 2 and done.returncode == 0
