"""Samples: which features a sample has, and the files and folder that they go to.

Docs/join.md has the format.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from tfps.join import example

# Every sample has these features; no feature of the log may have such a name.
IDS = ("request_id", "item_id")
TIMES = ("time", "label_time")
COUNTS = ("show", "click", "weight")
LABEL, LABEL_WEIGHT = "label/", "weight/"

_FILE = re.compile(r"samples-(\d{12,})\.tfrecord")


def is_reserved(name: str) -> bool:
  """Whether a feature of the log may not have this name, because samples have one of their own."""
  return name in (*IDS, *TIMES, *COUNTS) or name.startswith((LABEL, LABEL_WEIGHT))


def shown(
  request_id: pa.Array, item_id: pa.Array, time: pa.Array, slots: Mapping[str, pa.Array]
) -> pa.Array:
  """Makes the parts of samples that are known at the show: map entries of ids, time and slots.

  Args:
    request_id, item_id: n strings each.
    time: n int64, milliseconds since 1970.
    slots: {name: n values or lists of values}.
  """
  columns = {"request_id": request_id, "item_id": item_id, "time": time, **slots}
  pieces = [piece for name, column in columns.items() for piece in example.entries(name, column)]
  return example.concatenate(pieces, len(request_id))


def records(
  entries: pa.Array,
  label_time: np.ndarray,
  show: np.ndarray,
  click: np.ndarray,
  weight: np.ndarray,
  labels: Mapping[str, np.ndarray],
  label_weights: Mapping[str, np.ndarray],
) -> pa.Array:
  """Serialized samples.

  Args:
    entries: n of `shown`.
    label_time: int64 [n], milliseconds since 1970 of the newest event in the sample.
    show, click, weight: float [n].
    labels: {name of the label: float [n]}.
    label_weights: the same names; 1 where the sample says something about the label, otherwise 0.
  """
  numbers = {"show": show, "click": click, "weight": weight}
  numbers |= {LABEL + name: values for name, values in labels.items()}
  numbers |= {LABEL_WEIGHT + name: values for name, values in label_weights.items()}
  pieces = [entries, *example.entries("label_time", pa.array(np.asarray(label_time, np.int64)))]
  pieces.append(example.floats(numbers, len(entries)))
  return example.examples(pieces, len(entries))


class SampleFolder:
  """A folder of files samples-000000000000.tfrecord, -000000000001, ..., each whole on appearing.

  A file is written under a hidden name first (`stage`), and named when it is certain that it is to
  be (`publish`).
  """

  def __init__(self, folder: str | os.PathLike):
    self.folder = pathlib.Path(folder)
    self.folder.mkdir(parents=True, exist_ok=True)

  def path(self, number: int) -> pathlib.Path:
    return self.folder / f"samples-{number:012d}.tfrecord"

  def stage(self, number: int, samples: Sequence[pa.Array]) -> None:
    """Writes the file of this number, durably, under a name that starts with a dot."""
    self.write(self._staged(number).name, samples)

  def write(self, name: str, samples: Sequence[pa.Array]) -> None:
    """Writes a file of this name, durably."""
    with open(self.folder / name, "wb") as file:
      for part in samples:
        file.write(example.tfrecords(part))
      file.flush()
      os.fsync(file.fileno())

  def publish(self, below: int) -> None:
    """Names all staged files with a number below this, and removes the others."""
    for path in sorted(self.folder.glob(".samples-*.tfrecord")):
      match = _FILE.fullmatch(path.name[1:])
      if not match:
        continue
      if int(match[1]) < below:
        os.rename(path, self.path(int(match[1])))
      else:
        path.unlink()
    _sync(self.folder)

  def newest(self) -> int:
    """The largest number of a named file, -1 where there is none."""
    numbers = (_FILE.fullmatch(path.name) for path in self.folder.glob("samples-*.tfrecord"))
    return max((int(match[1]) for match in numbers if match), default=-1)

  def _staged(self, number: int) -> pathlib.Path:
    return self.folder / f".{self.path(number).name}"


def _sync(folder: pathlib.Path) -> None:
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
