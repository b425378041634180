"""python -m tests.clock_trainer FOLDER: trains while the clock of the day jumps.

jumping_clock.cc is preloaded.

Between any two tickets it jumps by days, on or back. The run crashes and goes on from its last
checkpoint, with bases and deltas; what it comes to, and what it leaves, must be what it is where no
clock jumps.
"""

import ctypes
import itertools
import pathlib
import sys
import time

import numpy as np
import tensorflow as tf
import tf_keras as keras

import tfps
from tests import checkpoints, test_resume
from tfps.checkpoint import reader
from tfps.export import artifact
from tfps.export.artifact import ARTIFACTS
from tfps.storage import lock

_DAY = 86400
_jumps = itertools.cycle([1, -2, 2, -1, -1, 1])  # days


def _jump(*ignored):
  before, days = time.time(), next(_jumps)
  ctypes.CDLL(None).jump_clock(ctypes.c_long(_DAY * days))
  for now in (time.time(), float(tf.timestamp())):  # Python's clock, and TensorFlow's
    assert round((now - before) / _DAY) == days


def _fit(run, folder, *more):
  """Trains as a new process would; returns everything in model and table, as bytes."""
  raw = test_resume.SOURCE.raw_inputs
  base = tfps.callbacks.BaseExport(run.model, folder / "export", raw, every_days=2)
  exporter = base.exporter
  # Both would also be written every hour, but none passes.
  delta = tfps.callbacks.DeltaExport(exporter, every_examples=500, every_minutes=60)
  settings = dict(every_tickets=2, every_minutes=60, keep=9, exporter=exporter)
  jump = keras.callbacks.LambdaCallback(on_train_batch_end=_jump, on_day_end=_jump)
  wait = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: exporter.wait())
  bases = tfps.callbacks.EndOfDay(base_export=[base])
  # Behind a scheme the lock is a lease, which must be renewed in time.
  saved = f"file://{folder}/checkpoints"
  return run.fit(saved, wait, bases, delta, jump, *more, days=2, **settings)


def main(folder):
  lock.LEASE_SECONDS = 3.0
  run = test_resume.Run(str(folder / "start"))
  steady = run.fit(folder / "steady", days=2)
  keys = checkpoints.keys_of(run.table)
  counts = run.table.lookup(keys)["statistics"][:, :2]
  try:
    _fit(run, folder, test_resume.CrashAfter(7))
    raise AssertionError("it was to crash")
  except test_resume.Crash:
    pass
  jumped = _fit(run, folder)
  # An export notes of each row that it was served, and of its score.
  assert set(test_resume.differing(steady, jumped)) <= {"served", "statistics"}
  np.testing.assert_array_equal(run.table.lookup(keys)["statistics"][:, :2], counts)
  names = checkpoints.checkpoints_in(folder / "checkpoints")
  saved = [reader.open_checkpoint(str(folder / "checkpoints" / name)) for name in names[:-1]]
  calendars = [one.manifest.calendar for one in saved]
  found = [(one["day"], one["tickets"], one["ended"]) for one in calendars]
  assert names[-1] == "training-ended" and found == [
    (0, 2, False), (0, 4, True), (1, 2, False), (1, 4, True)], (names, found)  # fmt: skip
  exported = [folder / "export" / path for path in ("base/1", "delta/1/1", "base/2")]
  assert len(list((folder / "export").rglob("manifest.json"))) == len(exported)
  manifests = [ARTIFACTS.read(str(path)) for path in exported]
  for path, content in zip(exported, manifests):
    artifact.check_files(str(path), content)
  assert [content.step for content in manifests] == [6, 14, 20]
  print("as if no clock had jumped")


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
