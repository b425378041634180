"""The soak tests, for as long as a test can afford; their own commands run longer."""

import argparse

from tests.soak import crashes, faults, load, pushes, stream


def test_crashes(tmp_path, capsys):
  crashes.soak(tmp_path, argparse.Namespace(kills=3, cluster_kills=0, days=8, seed=1))
  out = capsys.readouterr().out
  assert "one process: 3 kills" in out and "lost or doubled: none" in out


def test_pushes(tmp_path, capsys):
  pushes.soak(tmp_path, argparse.Namespace(kills=2, consistency="async", seed=1))
  out = capsys.readouterr().out
  assert "2 kills: " in out and "lost or doubled: none" in out


def test_load(tmp_path, capsys):
  # Too short to say whether memory stays flat.
  flags = dict(minutes=0.1, workers=2, ps=2, ids=512, max_rows=40_000, growth=10.0)
  load.soak(tmp_path, argparse.Namespace(**flags))
  out = capsys.readouterr().out
  assert "milliseconds of a push" in out and "pushes lost or doubled: 0" in out


def test_stream(tmp_path, capsys):
  stream.soak(tmp_path, argparse.Namespace(kills=2, cluster_kills=0, seed=1))
  out = capsys.readouterr().out
  assert "one process: 2 kills of join and trainer, 1 times on from a checkpoint" in out
  assert "lost or doubled: none" in out


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
