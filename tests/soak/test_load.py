"""`load.py`, for as long as a test can afford."""

import argparse

from tests.soak import load


def test_load(tmp_path, capsys):
  # Too short to say whether memory stays flat.
  flags = dict(minutes=0.1, workers=2, ps=2, ids=512, max_rows=40_000, growth=10.0)
  load.soak(tmp_path, argparse.Namespace(**flags))
  out = capsys.readouterr().out
  assert "milliseconds of a push" in out and "pushes lost or doubled: 0" in out
