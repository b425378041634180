"""Which combinations `make matrix` tries, and what it makes of a step that fails."""

import pytest

from tests.matrix import __main__ as matrix
from tests.matrix import environment, steps
from tfps import versions


def test_every_release_is_tried_on_a_python_that_runs_it():
  tried = matrix.chosen([])
  assert {combination.tensorflow for combination in tried} == set(versions.RELEASES)
  for combination in tried:
    python = tuple(map(int, combination.python.split(".")))
    assert combination.tensorflow in versions.supported(python)


def test_a_minor_version_and_a_python_of_ones_choice():
  assert [str(found) for found in matrix.chosen(["2.21"])] == ["2.21.0@3.13", "2.21.0@3.10"]
  assert [str(found) for found in matrix.chosen(["2.21@3.11"])] == ["2.21.0@3.11"]
  with pytest.raises(SystemExit, match="tfps does not run on TensorFlow 2.15: name one of 2.16.2"):
    matrix.chosen(["2.15"])


def test_a_python_that_is_missing_is_not_green(tmp_path, monkeypatch):
  monkeypatch.setattr(matrix, "FOLDER", tmp_path)
  row = matrix._row(environment.Combination("2.21.0", "3.99"), tmp_path / "tfps.whl")
  assert row[:2] == ["2.21.0", "3.99"]
  assert row[4] == "NO: no Python 3.99 (PYTHON399=... names one)"
  assert set(row[5:]) == {"not tried"} and len(row) == 4 + len(steps.STEPS)


def test_a_deprecation_counts_only_where_it_is_ours():
  ours = "WARNING From /x/site-packages/tfps/data/files.py:3: f (from g) is deprecated."
  with pytest.raises(environment.Failed, match="a warning: WARNING From"):
    steps._no_deprecation_of_ours(ours)
  steps._no_deprecation_of_ours(ours.replace("/tfps/", "/tf_keras/"))
