"""What the soak tests share: jobs as processes of their own, and the rows that they leave."""

import json
import os
import pathlib

import numpy as np

from tfps.checkpoint.reader import open_checkpoint

HERE = pathlib.Path(__file__).resolve().parent


def environment(**more):
  """That of this process, from which the sources are found, with `more` and without a cluster."""
  env = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
  path = [str(HERE.parents[1]), os.environ.get("PYTHONPATH")]
  return {**env, "PYTHONPATH": os.pathsep.join(filter(None, path)), **more}


def children_of(pid):
  """The ids of a process's children."""
  return [
    int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
  ]


def tasks_of(launcher):
  """{("worker", 0): pid, ...} of the processes that a `tfps launch` started and that still run."""
  tasks = {}
  for pid in children_of(launcher):
    try:
      environ = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
      continue  # It has ended since.
    config = next((each[10:] for each in environ if each.startswith(b"TF_CONFIG=")), None)
    if config:
      task = json.loads(config)["task"]
      tasks[task["type"], task["index"]] = pid
  return tasks


class Rows:
  """All rows of a checkpoint, in the order of their keys."""

  def __init__(self, folder):
    parts = [
      (shard.rows, np.full(len(shard.rows.keys), shard.finished_day))
      for shard in open_checkpoint(str(folder)).tables["ctr"].shards()
    ]
    self.keys = np.concatenate([rows.keys for rows, _ in parts])
    order = np.argsort(self.keys)
    self.keys = self.keys[order]
    self.columns = {
      name: np.concatenate([getattr(rows, name) for rows, _ in parts])[order]
      for name in ("slots", "statistics", "unseen_days", "flags")
    }
    self.columns["finished_day"] = np.concatenate([days for _, days in parts])[order]
    self.floats = [rows.row_floats(i).tobytes() for rows, _ in parts for i in range(len(rows.keys))]
    self.floats = [self.floats[i] for i in order]


def compare(expected, actual, exactly):
  """Raises AssertionError unless the rows are the same.

  Where not `exactly`, their weights may differ.
  """
  np.testing.assert_array_equal(actual.keys, expected.keys, "the feasigns differ")
  for name, column in expected.columns.items():
    np.testing.assert_array_equal(actual.columns[name], column, f"{name} differ")
  if exactly and actual.floats != expected.floats:
    raise AssertionError("the weights differ")
