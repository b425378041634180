"""Data sets that published figures are of, as arrays, made from files that the user has.

Frappe: Baltrunas et al., "Frappe: Understanding the Usage and Perception of Mobile App
Recommendations In-The-Wild", arXiv 1505.03014, as He & Chua (SIGIR 2017) cut it: 288,609 rows, of
which each third is a use of an app and the others are two apps that the user never used in the same
context, at random 70 % training, 20 % validation, 10 % test. MovieLens 1M: Harper & Konstan, TiiS
2015. Both are for research, and not to be handed on.
"""

import collections
import pathlib
from typing import NamedTuple

import numpy as np

# The fields of Frappe and how many values each has, in the order of the published features.
FRAPPE = {
  "user": 957,
  "item": 4082,
  "daytime": 7,
  "weekday": 7,
  "isweekend": 2,
  "homework": 3,
  "cost": 2,
  "weather": 9,
  "country": 80,
  "city": 233,
}
# The same in CFM's files: of the context, and of the item.
CONTEXT = ("user", "daytime", "weekday", "isweekend", "homework", "weather", "country", "city")
_NEGATIVES = 2
MOVIELENS = ("user", "movie", "gender", "age", "occupation", "year", "genres")


class Rows(NamedTuple):
  """Examples.

  Fields:
    x: {slot: int64 [n], or [n, k] with padding 0}, numbers of one vocabulary, from 1.
    y: float32 [n, 1].
  """

  x: dict
  y: np.ndarray

  def __len__(self):
    return len(self.y)

  def take(self, places):
    """The rows at these places."""
    return Rows({slot: values[places] for slot, values in self.x.items()}, self.y[places])


class Split(NamedTuple):
  """Rows to train on, to choose the best epoch by, and to report."""

  train: Rows
  validation: Rows
  test: Rows


def frappe(folder, seed=0):
  """Frappe as published, except for the apps in the negative rows of the training set.

  The files of validation and test are the published ones, and the training set follows from them:
  its uses are those that are not held out, and each context has two negatives for every use, less
  those that are held out. A negative keeps its whole context, with the field "cost" of the used
  app, which tells a model much. Only its app is drawn anew, uniformly from those that the user
  never used.

  Args:
    folder: has frappe.validation.libfm and frappe.test.libfm of
      github.com/hexiangnan/neural_factorization_machine (data/frappe), and train.csv and test.csv
      of github.com/chenboability/CFM (Data/frappe), which hold the uses.
    seed: of the apps that are drawn, and of the order of the rows.

  Returns:
    A `Split` with 202,005 rows in training (202,027 are published: 8 uses are in none of the
    files), 57,722 in validation and 28,860 in test.
  """
  folder, rng = pathlib.Path(folder), np.random.default_rng(seed)
  held = [_libfm(folder / f"frappe.{part}.libfm") for part in ("validation", "test")]
  uses = np.concatenate([_cfm(folder / f"{part}.csv") for part in ("train", "test")])
  held_out = set(map(tuple, np.concatenate([x[y == 1] for x, y in held])))
  item = list(FRAPPE).index("item")
  left = collections.Counter()
  for use in uses.tolist():
    left[_context(use, item)] += _NEGATIVES
  left.subtract(_context(x, item) for x in np.concatenate([x[y == 0] for x, y in held]).tolist())
  used = collections.defaultdict(set)
  for use in uses.tolist():
    used[use[0]].add(use[item])
  first = FRAPPE["user"]
  negatives = []
  for context, count in left.items():
    for _ in range(count):
      drawn = first + rng.integers(FRAPPE["item"])
      while drawn in used[context[0]]:
        drawn = first + rng.integers(FRAPPE["item"])
      negatives.append((*context[:item], drawn, *context[item:]))
  positives = [use for use in map(tuple, uses.tolist()) if use not in held_out]
  x = np.array(positives + negatives)
  y = np.repeat([1, 0], [len(positives), len(negatives)])
  order = rng.permutation(len(x))
  return Split(*(_frappe_rows(*part) for part in ((x[order], y[order]), *held)))


def _context(row, item):
  return (*row[:item], *row[item + 1 :])


def _frappe_rows(x, y):
  columns = {slot: 1 + x[:, i].astype(np.int64) for i, slot in enumerate(FRAPPE)}
  return Rows(columns, y.astype(np.float32)[:, None])


def _libfm(file):
  """(Features int [n, 10], labels 0 or 1 [n]) of lines "-1 12:1 3456:1 ..."."""
  lines = [line.split() for line in file.read_text().splitlines()]
  x = np.array([[int(feature.partition(":")[0]) for feature in line[1:]] for line in lines])
  return x, np.array([int(line[0] == "1") for line in lines])


def _cfm(file):
  """Features int [n, 10] of lines "user-daytime-...-city,item-cost", each side numbered from 0."""
  lines = [line.split(",") for line in file.read_text().splitlines()]
  sides = [np.array([line[i].split("-") for line in lines], int) for i in (0, 1)]
  published = dict(zip(FRAPPE, np.cumsum([0, *FRAPPE.values()])))
  columns = {}
  for values, fields in zip(sides, (CONTEXT, ("item", "cost"))):
    begin = 0
    for i, field in enumerate(fields):
      columns[field] = values[:, i] - begin + published[field]
      begin += FRAPPE[field]
  return np.stack([columns[field] for field in FRAPPE], axis=1)


def movielens(folder, seed=0):
  """MovieLens 1M for clicks: 4 and 5 stars are clicks, 1 and 2 are none, 3 are left out.

  So it is in Wang et al., "DCN V2" (WWW 2021), and in RecBole's figures, which have these fields;
  739,012 rows, at random 8:1:1. Which rows they held out is not published.

  Args:
    folder: has ratings.dat, users.dat and movies.dat, as GroupLens publishes them.
    seed: of the split.
  """
  read = lambda name: [
    line.split("::") for line in (pathlib.Path(folder) / name).read_text("latin-1").splitlines()
  ]
  users = {user: values[:3] for user, *values in read("users.dat")}
  movies = {movie: (title[-5:-1], genres) for movie, title, genres in read("movies.dat")}
  ratings = [rating[:3] for rating in read("ratings.dat") if rating[2] != "3"]
  y = np.array([[stars > "3"] for _, _, stars in ratings], np.float32)
  columns = zip(*((user, movie, *users[user], *movies[movie]) for user, movie, _ in ratings))
  x, size = {}, 0
  for slot, texts in zip(MOVIELENS, columns):
    x[slot], count = _numbered(np.array(texts), size)
    size += count
  order = np.random.default_rng(seed).permutation(len(y))
  tenth, rows = len(y) // 10, Rows(x, y)
  cuts = order[: -2 * tenth], order[-2 * tenth : -tenth], order[-tenth:]
  return Split(*(rows.take(places) for places in cuts))


def _numbered(texts, size):
  """(int64 [n] of n texts, or [n, k] of texts like "Action|Drama"; how many values there are).

  Values are numbered from 1 + size; where a text has fewer than k, 0 stands for those that lack.
  """
  kinds, which = np.unique(texts, return_inverse=True)
  lists = [kind.split("|") for kind in kinds]
  number = {word: 1 + size + i for i, word in enumerate(sorted(set().union(*lists)))}
  table = np.zeros([len(lists), max(map(len, lists))], np.int64)
  for row, words in zip(table, lists):
    row[: len(words)] = [number[word] for word in words]
  x = table[which.reshape(-1)]
  return x[:, 0] if x.shape[1] == 1 else x, len(number)
