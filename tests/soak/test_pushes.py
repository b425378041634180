"""`pushes.py`, for as long as a test can afford."""

import argparse

from tests.soak import pushes


def test_pushes(tmp_path, capsys):
  pushes.soak(tmp_path, argparse.Namespace(kills=2, consistency="async", seed=1))
  out = capsys.readouterr().out
  assert "2 kills: " in out and "lost or doubled: none" in out
