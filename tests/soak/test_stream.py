"""`stream.py`, for as long as a test can afford."""

import argparse

from tests.soak import stream


def test_stream(tmp_path, capsys):
  stream.soak(tmp_path, argparse.Namespace(kills=2, cluster_kills=0, seed=1))
  out = capsys.readouterr().out
  assert "one process: 2 kills of join and trainer, 1 times on from a checkpoint" in out
  assert "lost or doubled: none" in out
