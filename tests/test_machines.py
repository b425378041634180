"""A job that goes on, from its checkpoints, on other numbers of workers and parameter servers."""

import argparse

from tests.soak import faults


def test_each_day_on_other_numbers_of_machines(tmp_path):
  # Without workers it is one process.
  flags = argparse.Namespace(workers=0, ps=0, day_examples=2_000, base_days=2, pause=0)
  with faults.Job(tmp_path / "whole", flags, days=3) as whole:
    expected = whole.finish()
  # Nothing but TF_CONFIG changes.
  for days, (workers, ps) in enumerate([(2, 2), (1, 3), (3, 1)], 1):
    flags.workers, flags.ps = workers, ps
    with faults.Job(tmp_path / "faults", flags, days=days) as job:
      trained = job.finish()
    assert trained["days"] == days
  assert faults.differences(tmp_path, "before-last-day-ends") == 0
  assert faults.differences(tmp_path, "checkpoints") == 0
  assert abs(trained["auc"] - expected["auc"]) < 0.1
