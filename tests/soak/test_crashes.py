"""`crashes.py`, for as long as a test can afford."""

import argparse

from tests.soak import crashes


def test_crashes(tmp_path, capsys):
  crashes.soak(tmp_path, argparse.Namespace(kills=3, cluster_kills=0, days=8, seed=1))
  out = capsys.readouterr().out
  assert "one process: 3 kills" in out and "lost or doubled: none" in out
