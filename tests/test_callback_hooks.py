"""tfps.callbacks.Callback: the hooks that `fit` calls, their order, and misspelt ones."""

import inspect

import numpy as np
import pytest
import tf_keras as keras

import tfps
from tests.test_callbacks import make_model, small_stream
from tfps.training.callback import HOOKS


class Recorder(tfps.callbacks.Callback):
  def __init__(self, calls, name):
    super().__init__()
    self._calls, self._name = calls, name

  def on_day_begin(self, day):
    self._calls.append((self._name, "begin", day.ordinal))

  def on_day_trained(self, day, logs=None):
    self._calls.append((self._name, "trained", day.ordinal, "loss" in logs))

  def on_day_end(self, day, logs=None):
    self._calls.append((self._name, "end", day.ordinal, "loss" in logs))


def test_a_day_is_trained_for_all_callbacks_before_it_ends_for_any():
  calls = []
  _, model = make_model()
  model.fit(small_stream(days=2), callbacks=[Recorder(calls, "a"), Recorder(calls, "b")], verbose=0)
  expected = []
  for day in range(2):
    expected += [(name, "begin", day) for name in "ab"]
    expected += [(name, "trained", day, True) for name in "ab"]
    expected += [(name, "end", day, True) for name in "ab"]
  assert calls == expected


def test_every_hook_of_the_base_class_is_documented():
  for name in HOOKS | {"resume", "wants_moment"}:
    assert inspect.getdoc(getattr(tfps.callbacks.Callback, name)), name


@pytest.mark.parametrize("hook, remedy", [
  ("on_day_ended", "did you mean on_day_end?"),
  ("on_epoch_ends", "did you mean on_epoch_end?"),
  ("on_record_skipped", "did you mean on_records_skipped?"),
  ("on_world", "rename it; a source has on_day_begin, "),
])  # fmt: skip
def test_a_misspelt_hook_is_an_error_where_the_class_is_defined(hook, remedy):
  with pytest.raises(TypeError) as raised:
    type("Mine", (tfps.callbacks.Callback,), {hook: lambda self, *args: None})
  assert str(raised.value).startswith(f"Mine.{hook} is no hook of a callback: {remedy}")


@pytest.mark.parametrize("hook", ["on_day_ended", "on_day_start", "on_moments", "on_tickets_end"])
def test_a_misspelt_hook_of_a_plain_keras_callback_is_an_error_when_fit_begins(hook):
  mine = type("Mine", (keras.callbacks.Callback,), {hook: lambda self, *args: None})()
  table, model = make_model()
  with pytest.raises(
    ValueError, match=rf"^Mine\.{hook} is no hook of a callback: did you mean on_"
  ):
    model.fit(small_stream(), callbacks=[mine], verbose=0)
  assert table.statistics()["rows"] == 0


def test_a_plain_keras_callback_may_have_the_hooks_and_methods_of_its_own():
  calls = []
  methods = {
    "on_day_end": lambda self, day, logs: calls.append(day.ordinal),
    "on_plot": lambda self: None,
  }
  mine = type("Mine", (keras.callbacks.Callback,), methods)()
  _, model = make_model()
  model.fit(small_stream(days=2), callbacks=[mine], verbose=0)
  assert calls == [0, 1]


class Rows(tfps.callbacks.Callback):
  """The served rows of the table before and after its day ends."""

  def __init__(self, table):
    super().__init__()
    self._table = table
    self.shows = []

  def on_day_trained(self, day, logs=None):
    self.shows.append(self._table.statistics()["show"])


@pytest.mark.parametrize("export_first", [True, False])
def test_a_base_export_among_the_callbacks_comes_before_the_days_end(tmp_path, export_first):
  table, model = make_model()
  source = small_stream(days=2)
  exported = []

  class Capturing(tfps.callbacks.BaseExport):
    def __call__(self, day):
      exported.append((day.ordinal, table.statistics()["show"], float(table.statistics()["rows"])))
      super().__call__(day)

  export = Capturing(model, str(tmp_path), source.raw_inputs)
  rows = Rows(table)
  callbacks = [export, tfps.callbacks.EndOfDay(table)]
  model.fit(source, callbacks=[rows, *callbacks[:: 1 if export_first else -1]], verbose=0)
  days = [day.ordinal for day in source.days()]
  assert [day for day, *_ in exported] == days
  # What is exported has not decayed yet.
  assert [show for _, show, _ in exported] == rows.shows
  assert export.paths == [f"{tmp_path}/base/{number + 1}" for number in days]


def test_a_base_export_that_is_listed_twice_exports_once_a_day(tmp_path):
  table, model = make_model()
  source = small_stream(days=2)
  export = tfps.callbacks.BaseExport(model, str(tmp_path), source.raw_inputs)
  end = tfps.callbacks.EndOfDay(table, base_export=[export])
  model.fit(source, callbacks=[export, end], verbose=0)
  assert len(export.paths) == len(source.days())
  np.testing.assert_array_less(0, table.statistics()["show"])
