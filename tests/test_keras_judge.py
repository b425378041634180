"""Stock Keras is the judge of what a source does: see tests/keras_judge."""

import inspect
import re

import numpy as np
import pytest
import tf_keras as keras
from hypothesis import given, settings

from tests.keras_judge import cluster, combinations, compare, data, report, ways
from tests.keras_judge.features import callbacks, layers, losses, metrics, optimizers
from tests.keras_judge.table import FEATURES


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.id)
def test_in_one_process(feature):
  found = ways.seen(feature.program, ways.OneProcess)
  wrong = compare.in_one_process(feature, found, lambda: ways.seen(feature.program, ways.Way))
  assert not wrong, "\n".join(wrong)


ON_CLUSTER = [feature for feature in FEATURES if feature.cluster]


@pytest.fixture(name="on_cluster", scope="module")
def _on_cluster(tmp_path_factory):
  """{name of a program: what a cluster did}."""
  names = dict.fromkeys(feature.program.__name__ for feature in ON_CLUSTER)
  return cluster.run(names, tmp_path_factory.mktemp("judge"))


@pytest.mark.parametrize("feature", ON_CLUSTER, ids=lambda feature: feature.id)
def test_on_a_cluster(feature, on_cluster):
  found = on_cluster[feature.program.__name__]
  wrong = compare.on_a_cluster(feature, found, lambda: ways.seen(feature.program, ways.Way))
  assert not wrong, "\n".join(wrong)


@settings(max_examples=max(settings.default.max_examples // 3, 1))
@given(combinations.combinations())
def test_any_combination(combination):
  expected = ways.run(combination.program, ways.Way)
  found = ways.run(combination.program, combination.way)
  wrong = compare.differences(expected, found)
  assert not wrong, "\n".join(wrong)


# The table is whole.


def names_of(kind):
  return {feature.name for feature in FEATURES if feature.kind == kind}


@pytest.mark.parametrize("method", ["compile", "fit", "evaluate", "predict"])
def test_the_table_has_every_argument(method):
  parameters = set(inspect.signature(getattr(keras.Model, method)).parameters)
  assert parameters - {"self", "kwargs"} - names_of(f"arguments of {method}") == set()


@pytest.mark.parametrize(
  "kind, shipped",
  [
    ("callbacks", callbacks.shipped()),
    ("metrics", metrics.shipped()),
    ("losses", losses.shipped()),
    ("optimizers", optimizers.shipped(keras.optimizers, keras.optimizers.Optimizer)),
    (
      "legacy optimizers",
      optimizers.shipped(keras.optimizers.legacy, keras.optimizers.legacy.Optimizer),
    ),
    (
      "learning-rate schedules",
      optimizers.shipped(
        keras.optimizers.schedules, keras.optimizers.schedules.LearningRateSchedule
      ),
    ),
    ("layers", set(layers.shipped().values())),
  ],
)
def test_the_table_has_every_class_that_keras_ships(kind, shipped):
  assert len(shipped) > 5
  assert set(shipped) - names_of(kind) == set()


def test_no_feature_is_there_twice_and_each_program_has_its_name():
  ids = [feature.id for feature in FEATURES]
  assert sorted(set(ids)) == sorted(ids)
  programs = {feature.program.__name__: feature.program for feature in FEATURES}
  assert {feature.program for feature in FEATURES} == set(programs.values())


# The page: run `python -m tests.keras_judge --report --only=REGEX` for the rows that are wrong.


def test_the_page_has_exactly_the_features():
  found = report.rows(report.PAGE.read_text())
  assert list(found) == [report.key_of(feature) for feature in FEATURES]


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.id)
def test_a_row_of_the_page_says_what_is_right(feature):
  process, on_cluster, note = report.rows(report.PAGE.read_text())[report.key_of(feature)]
  assert note == feature.note
  _check_cell(process, feature.refused)
  if on_cluster == "as in one process":
    on_cluster = process
  _check_cell(on_cluster, feature.refused_on_cluster or feature.refused)


def _check_cell(cell, refused):
  """A cell must say "same", or what is refused with a sentence that matches `refused`."""
  if not refused:
    assert cell == "same"
    return
  sentence = cell.removeprefix("refused: ").replace("\\|", "|")
  assert sentence != cell
  kinds = ("ValueError", "RuntimeError", "TypeError")
  assert any(re.search(refused, f"{kind}: {sentence}") for kind in kinds), (sentence, refused)


def test_a_row_that_is_made_again_leaves_the_others(tmp_path):
  page = tmp_path / "page.md"
  some = [FEATURES[0], FEATURES[-1], next(f for f in FEATURES if "|" in f.name or f.refused)]
  report.write([(feature, "same", "refused: a | b".replace("|", "\\|")) for feature in some], page)
  report.write([(some[0], "refused: no.", "refused: no.")], page)
  found = report.rows(page.read_text())
  assert {key: cells[:2] for key, cells in found.items()} == {
    report.key_of(some[0]): ["refused: no.", "as in one process"],
    **{report.key_of(one): ["same", "refused: a \\| b"] for one in some[1:]},
  }


# The judge can tell.


def test_a_difference_of_any_kind_is_seen():
  value = {"a": [np.float32(1), "text"], "b": np.ones(3)}
  seen = ways.Seen({"fit": value}, "")
  assert compare.differences(seen, ways.Seen({"fit": value}, "")) == []
  for other in (
    {"a": [np.float32(1.001), "text"], "b": np.ones(3)},
    {"a": [np.float32(1), "test"], "b": np.ones(3)},
    {"a": [np.float32(1), "text"], "b": np.ones(2)},
    {"a": [np.float32(np.nan), "text"], "b": np.ones(3)},
    {"a": [np.float32(1), "text"]},
  ):
    assert compare.differences(seen, ways.Seen({"fit": other}, "")), other
  assert compare.differences(seen, ways.Seen({}, ""))
  assert compare.differences(seen, ways.Seen({"fit": value, "more": 1}, ""))
  assert compare.differences(seen, ways.Seen({"fit": value}, "ValueError: x"))
  assert compare.differences(seen, ways.Seen({"fit": value}, ""), only="evaluate")


def test_a_source_of_other_examples_differs():
  class Other(ways.OneProcess):
    def source(self, examples):
      return super().source(examples if len(examples) < 50 else SHORTER)

  program = next(f.program for f in FEATURES if f.id == "arguments of fit: epochs")
  wrong = compare.differences(ways.seen(program, ways.Way), ways.run(program, Other))
  assert any(line.startswith("fit loss") for line in wrong)
  assert any(line.startswith("weight") for line in wrong)


SHORTER = data.dense().part(0, 50)
