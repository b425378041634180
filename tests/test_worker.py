"""What workers train on a real cluster, against one process and against counts in NumPy.

One cluster trains all cases one after the other; each test looks at what is left of one.
"""

import inspect
import os
import pathlib
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tests import cluster_cases, dense_optimizers, keras_loops, worker_cases
from tests.patience import PATIENCE
from tests.worker_cases import ASYNC, CASES

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Sums of float32 in another order: of the examples of a batch, and of what a copy of a weight has
# changed by. Adam divides by roots of such sums, and the steps add the differences up. Seen are
# 3e-7 without Adam and 1e-5 with it.
ROUNDING = dict(rtol=1e-4, atol=1e-6)


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("worker")
  env = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
  env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
  command = [sys.executable, "-m", "tfps", "launch", "--workers=2", "--ps=2"]
  command += [f"--log-dir={folder / 'logs'}", "--", str(ROOT / "tests" / "worker_cases.py")]
  done = subprocess.run(
    [*command, str(folder)], env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
  )
  assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
  return folder


def trained(folder, name):
  found = pickle.loads((folder / f"{name}.pickle").read_bytes())
  assert not isinstance(found, str), found
  return found


def refused(folder, name):
  found = pickle.loads((folder / f"{name}.pickle").read_bytes())
  assert isinstance(found, str), "it was not refused"
  return found


def alone(folder, name, initial):
  """The same in this process, by batches that are the joined ones."""
  case = CASES[name]
  source = case.make_source(folder)
  if case.joined > 1:
    source = worker_cases.clicks(batch_size=case.joined * worker_cases.BATCH)(folder)
  return worker_cases.train(case.make_model, source, tfps.Communication(), initial)


def check_counts(source, result, times=1, slots=None, table="ctr"):
  """All shows and clicks, of each feasign, to the last one."""
  counts = worker_cases.counts_of(source, slots)
  rows = result.rows[table]
  there = np.isin(result.keys, list(counts))
  assert there.sum() == len(counts) and rows["found"][there].all()
  assert not rows["found"][~there].any()
  expected = times * np.array([counts[key] for key in result.keys[there]])
  np.testing.assert_array_equal(rows["statistics"][there, :2], expected)
  statistics = result.statistics[table]
  assert [statistics["show"], statistics["click"]] == expected.sum(axis=0).tolist()
  assert statistics["repeated_pushes"] == statistics["nonfinite_gradients"] == 0


def compare(result, expected, exactly=False, rounding=ROUNDING):
  """Counts are the same, and weights, optimizers and metrics up to rounding."""
  for table, rows in expected.rows.items():
    for name, column in rows.items():
      is_exact = exactly or column.dtype.kind not in "f" or name == "statistics"
      np.testing.assert_allclose(
        result.rows[table][name],
        column,
        err_msg=name,
        **({"rtol": 1e-12} if is_exact else rounding),
      )
    assert (result.rows[table]["statistics"][:, :2] == rows["statistics"][:, :2]).all()
  for one, other in zip(result.weights + result.optimizer, expected.weights + expected.optimizer):
    np.testing.assert_allclose(one, other, **rounding)
  assert result.iterations == expected.iterations


@pytest.mark.parametrize("name", ["sync adam", "sync adagrad", "sync sum"])
def test_sync_is_the_joined_batch(folder, name):
  result = trained(folder, name)
  expected = alone(folder, name, result.initial)
  compare(result, expected)
  assert result.iterations == 24 // CASES[name].joined and result.tickets == 24
  check_counts(CASES[name].make_source(folder), result)
  assert result.logs["auc"] == pytest.approx(expected.logs["auc"], abs=1e-5)
  # Keras averages a loss over the batch even where it is a sum.
  parts = CASES[name].joined if name == "sync sum" else 1
  assert result.logs["loss"] * parts == pytest.approx(expected.logs["loss"], rel=1e-5)
  assert np.abs(result.weights[-1] - result.initial[-1]).max() > 1e-3


def test_sync_of_a_loss_that_is_partly_a_sum(folder):
  result = trained(folder, "sync both")
  compare(result, alone(folder, "sync both", result.initial))
  assert result.iterations == 8


def test_sync_without_dense_weights(folder):
  result = trained(folder, "sync bare")
  compare(result, alone(folder, "sync bare", result.initial))
  assert result.iterations == 12


def test_mixed_precision(folder):
  """Of bfloat16 a number has 8 bits: the same sums in another order are that far apart."""
  result = trained(folder, "bfloat16")
  expected = alone(folder, "bfloat16", result.initial)
  compare(result, expected, rounding=dict(rtol=0.05, atol=2e-3))
  assert np.abs(result.weights[-1] - result.initial[-1]).max() > 1e-2
  assert "Mixed precision is not supported with the tf.distribute.Strategy" in refused(
    folder, "float16"
  )


def test_all_optimizers_of_keras_are_tried():
  there = {
    name
    for name, one in vars(keras.optimizers).items()
    if inspect.isclass(one) and name != "Optimizer"
  }
  named = {type(make()).__name__ for make in dense_optimizers.OPTIMIZERS.values()}
  assert there == named


def test_every_optimizer_of_keras(folder):
  found = trained(folder, "optimizers")
  for (name, consistency), weights in found.items():
    if isinstance(weights, str):
      continue
    initial, weights = weights
    expected = dense_optimizers.by_keras(dense_optimizers.OPTIMIZERS[name], initial)
    for one, other, before in zip(weights, expected, initial):
      np.testing.assert_allclose(one, other, **ROUNDING, err_msg=f"{name}, {consistency}")
      assert np.abs(one - before).max() > 1e-4
  refused = {name: found[name] for name in found if isinstance(found[name], str)}
  assert set(refused) == {("legacy.Adam", "sync"), ("EMA that overwrites", "bounded")}
  assert "take keras.optimizers.Adam." in refused["legacy.Adam", "sync"]
  assert "ema_overwrite_frequency of optimizer SGD" in refused["EMA that overwrites", "bounded"]


@pytest.mark.parametrize("name", ["sync schedules", "bounded schedules"])
def test_schedules_of_tables_go_by_tickets(folder, name):
  """Here a ticket is a batch."""
  result = trained(folder, name)
  compare(result, alone(folder, name, result.initial))


def test_a_frozen_layer_in_sync(folder):
  result = trained(folder, "sync frozen")
  compare(result, alone(folder, "sync frozen", result.initial))
  source = CASES["sync frozen"].make_source(folder)
  counts = {
    slot: sum(worker_cases.counts_of(source, [slot]).values()) for slot in ("user_id", "item_id")
  }
  expected = counts["user_id"] + 2 * counts["item_id"]
  statistics = result.statistics["ctr"]
  assert [statistics["show"], statistics["click"]] == expected.tolist()


def test_slots_that_share_rows_in_sync(folder):
  """The means of each slot are over the joined batch, and only what counts is counted."""
  result = trained(folder, "sync histories")
  compare(result, alone(folder, "sync histories", result.initial))
  source = CASES["sync histories"].make_source(folder)
  counts = {
    slot: sum(worker_cases.counts_of(source, [slot]).values()) for slot in ("user_id", "item_id")
  }
  # Each example has one user, one item and one of "seen".
  expected = counts["user_id"] + 2 * counts["item_id"]
  statistics = result.statistics["ctr"]
  assert [statistics["show"], statistics["click"]] == expected.tolist()
  assert statistics["slot_conflicts"] == 0


@pytest.mark.parametrize("name", ["bounded", "bounded each", "bounded bare", "bounded parquet"])
def test_bounded_without_delay_is_one_process(folder, name):
  result = trained(folder, name)
  # What workers read of Parquet files is what the simulator makes.
  expected = alone(folder, name.replace("parquet", "bare"), result.initial)
  # Without dense weights, whose copies' changes are rounded, bit for bit.
  compare(result, expected, exactly=name in ("bounded bare", "bounded parquet"))
  assert result.tickets == 6
  for metric, value in expected.logs.items():
    assert result.logs[metric] == pytest.approx(value, rel=1e-5)
  (statistics,) = result.statistics.values()
  assert statistics["staleness_max"] == statistics["tickets_ahead_max"] == 0


def test_async_counts_every_occurrence_once_however_it_talks(folder):
  results = trained(folder, "async")
  source = worker_cases.clicks(batches_per_ticket=5)(folder)
  iterations = 0
  for times, (settings, result) in enumerate(zip(ASYNC, results, strict=True), 1):
    check_counts(source, result, times)
    # Each day's tickets have 5, 5 and 2 batches.
    every = settings.get("dense_sync_every", 0) or 5
    merges = 2 * sum(-(-batches // every) for batches in (5, 5, 2))
    iterations += 24 if settings.get("dense_local_steps", True) else merges
    assert (result.iterations, result.tickets) == (iterations, 6), settings
    assert result.counted == 12 * worker_cases.BATCH, settings
  assert results[0].logs["loss"] > results[-1].logs["loss"]
  assert results[-1].logs["auc"] > 0.8


@pytest.mark.parametrize(
  "name, iterations",
  [("features", 9), ("features sync", 2), ("two tables", 9), ("steps itself", 9), ("no table", 9)],
)
def test_all_kinds_of_models_and_features_train(folder, name, iterations):
  result = trained(folder, name)
  # 3 tickets of the first file, and one with the only batch of the second.
  assert (result.tickets, result.iterations) == (4, iterations)
  source = CASES[name].make_source(folder)
  slots = {"users": ["user"], "lasts": ["last"]}
  slots["ctr"] = None if name.startswith("features") else ["user"]
  for table in result.rows:
    check_counts(source, result, slots=slots[table], table=table)
  for weight, initial in zip(result.weights, result.initial):
    assert np.isfinite(weight).all() and (weight != initial).any()
  assert 0 < result.logs["loss"] < 3


def test_spoilt_steps_change_nothing_on_workers(folder):
  """240 records in 30 batches, of which five do not count, in ten tickets, once for each mode."""
  found = trained(folder, "spoilt")
  before = 0
  for mode, expected in zip(cluster_cases.MODES, [25, 10, 25, 5], strict=True):
    states, statistics, steps, iterations, told = found[mode]
    assert all(np.isfinite(one).all() for one in states)
    assert (steps, iterations - before) == (5, expected), mode
    before = iterations
    assert statistics["nonfinite_gradients"] == 0 and statistics["nonfinite_counts"] > 0
    assert np.isfinite(statistics["show"]) and statistics["show"] > 240
    for way, line in cluster_cases.NAMED.items():
      assert f"{way}.txt, line {line + 1} (byte" in told
    assert told.count("a step was not finite and changed no weight") == 5
  error = found["limit"]
  assert error.startswith("NonfiniteError: the loss or a gradient of 3 steps was not finite")
  assert re.search(r"the first was that with .*\.txt, line (9|12) \(byte \d+\)", error)


def test_labels_that_are_no_clicks_are_told_once_by_the_chief(folder):
  (sentence,) = trained(folder, "labels")
  assert "counts labels as clicks that are not between 0 and 1" in sentence
  others = [path for path in (folder / "logs").iterdir() if path.name != "chief.log"]
  logs = [path.read_text(errors="replace") for path in others]
  assert len(logs) == 4 and not any("counts labels as clicks" in log for log in logs)


def test_the_best_epoch_comes_back_with_rows_and_dense_weights(folder):
  states, after, epoch = trained(folder, "best")
  assert epoch == 1 and len(states) == 3
  for one, other in zip(after, states[1], strict=True):
    np.testing.assert_array_equal(one, other)
  assert (states[1][0] != states[2][0]).any() and (states[1][-3] != states[2][-3]).any()


def test_a_slot_is_added_to_a_checkpoint_on_a_cluster(folder):
  refusal, rows, weights, loss, count = trained(folder, "slot added")
  assert "does not fit" in refusal and "city" in refusal
  for name, column in rows[0].items():
    np.testing.assert_array_equal(rows[1][name], column, err_msg=name)
  assert rows[0]["found"].all()
  first, before, after = weights
  for was, new, now in zip(first, before, after, strict=True):
    np.testing.assert_array_equal(now, was if was.shape == now.shape else new)
  assert any(was.shape != now.shape for was, now in zip(first, after))
  assert np.isfinite(loss) and count > 12


def test_callbacks_change_the_rates_of_tables_on_a_cluster(folder):
  found = np.array(trained(folder, "rates"))
  steps = np.diff(found, axis=0, prepend=0)
  np.testing.assert_allclose(steps[:, 0], [-0.6, -0.3, -0.15], rtol=1e-4)
  np.testing.assert_allclose(steps[:, 1], [-0.06, -0.03, -0.015], rtol=1e-4)


@pytest.mark.parametrize("name", ["merged", "sync"])
def test_a_train_step_that_steps_the_optimizer_itself_needs_local_steps(folder, name):
  message = refused(folder, f"steps itself, {name}")
  assert message.startswith("ValueError: model 'steps_itself")
  assert "let it call self.apply_gradients" in message and "\n" not in message


def test_ids_that_depend_on_what_was_pulled_are_refused(folder):
  message = refused(folder, "pulled ids")
  assert message.startswith("ValueError: model 'chained' computes the ids of one embedding layer")


EXPECTED = {**keras_loops.LOGS, **keras_loops.EVALUATED}


@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "eager"])
def test_kerass_loops_are_those_of_keras_on_arrays(folder, name):
  """evaluate and validation with 2 batches a ticket; fit, in sync, with one."""
  arrays, batch = keras_loops.data(), dict(batch_size=keras_loops.BATCH, verbose=0)
  keras.backend.reset_uids()
  model = EXPECTED[name]()
  validation = dict(validation_data=arrays, validation_freq=2, epochs=2, shuffle=False)
  history = model.fit(*arrays, **validation, **batch).history
  evaluation = model.evaluate(*arrays, return_dict=True, **batch)
  expected = [history, evaluation, model.predict(arrays[0], **batch)]
  found = trained(folder, "loops")[name]
  tf.nest.assert_same_structure(found, expected)
  for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected)):
    np.testing.assert_allclose(one, other, **ROUNDING)


def test_predict_joins_every_structure(folder):
  found = trained(folder, "loops")["structures"]
  model = keras_loops.compiled(keras_loops.Structures)()
  x, _ = keras_loops.data()
  expected = keras_loops.numpy_of(model.predict(x, batch_size=keras_loops.BATCH, verbose=0))
  tf.nest.assert_same_structure(found, expected)
  for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected)):
    np.testing.assert_array_equal(one, other)


def test_workers_do_not_run_eagerly(folder):
  message = trained(folder, "loops")["eager"]
  assert message.startswith("workers run graphs only: compile without run_eagerly=True")


def test_a_run_that_goes_on_uses_no_ticket_number_again(folder):
  first, second = trained(folder, "going on")
  before, after, result = first
  # 3 tickets a day; the clock of a server is the number after the largest it has seen.
  assert (before, after) == ([0, 0], [3, 3]) and result.iterations == 12
  before, after, result = second
  assert (before, after) == ([3, 3], [6, 6]) and result.iterations == 24
  check_counts(worker_cases.clicks(batches_per_ticket=4)(folder), result)


def test_numpy_counts_what_is_there(folder):
  source = worker_cases.features(folder)
  counts = worker_cases.counts_of(source, ["user"])
  lines = [
    line.rstrip("\n").split(" ") for path in folder.glob("features-*.txt") for line in path.open()
  ]
  weight = sum(float(line[3]) for line in lines if line[0] == "u7")
  assert counts[int(tfps.feasign("user", "u7"))][0] == weight
  assert sum(show for show, _ in counts.values()) == sum(float(line[3]) for line in lines)
