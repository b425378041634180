"""`faults.py`, for as long as a test can afford."""

import argparse

from tests.soak import faults


def test_faults(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(faults, "KINDS", {"worker": 1, "ps": 1})
  monkeypatch.setattr(faults, "TICKETS_BETWEEN", 9)  # One more than between two checkpoints.
  flags = argparse.Namespace(
    minutes=60, faults=2, workers=2, ps=2, day_examples=5_000, base_days=2, pause=0, seed=13
  )
  faults.soak(tmp_path, flags)
  out = capsys.readouterr().out
  assert "2 faults injected: 1 of worker, 1 of ps;" in out
  assert "losses: 0\n" in out and "failed: 0\n" in out
