"""Runs that are stopped and go on: they end as if they had not been stopped."""

import copy
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from models.deepfm import DeepFM
from tests import held
from tests.checkpoints import keys_of, saved_rows
from tests.patience import PATIENCE, wait_until
from tfps.checkpoint import CheckpointManager
from tfps.checkpoint.folder import CHECKPOINTS
from tfps.training.position import Position

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "quickstart.py"
SMALL = [
  "--config.data.days=3", "--config.data.examples_per_day=6000", "--config.batch_size=128",
  "--config.deterministic", "--config.progressive_test=False", "--config.checkpoint.keep=9",
  "--config.model.args.dropout=0.3",
]  # fmt: skip


def source(**arguments):
  # 4 tickets a day.
  settings = dict(days=3, examples_per_day=1200, batch_size=128, batches_per_ticket=3, shuffle=True)
  return tfps.data.ClickStream(**{**settings, **arguments})


SOURCE = source()


def first_days(days):
  """The beginning of the same calendar, which the model need not be traced for again."""
  beginning = copy.copy(SOURCE)
  beginning._selected = range(days)
  return beginning


def make_model(slots=tfps.data.ClickStream.slots):
  keras.utils.set_random_seed(1)
  accessor = tfps.CtrAccessor(create_threshold=1, delete_threshold=0.15)
  table = tfps.FeasignTable("test", mf_dim=4, accessor=accessor)
  model = DeepFM(table, list(slots), hidden=[16])
  model.compile("adam", "binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")])
  return table, model


class Crash(Exception):
  pass


class CrashAfter(keras.callbacks.Callback):
  """Ends the run, as a failure would, when so many tickets are finished."""

  def __init__(self, tickets):
    super().__init__()
    self._left = tickets

  def on_train_batch_end(self, batch, logs=None):
    self._left -= 1
    if self._left == 0:
      raise Crash


class Calls(keras.callbacks.Callback):
  def __init__(self):
    super().__init__()
    self.made = []

  def on_day_begin(self, day):
    self.made.append(f"{day.name} begins")

  def on_day_resume(self, day, records):
    self.made.append(f"{day.name} resumes after {records}")

  def on_train_batch_end(self, batch, logs=None):
    self.made.append(batch)
    self.logs = {name: float(value) for name, value in logs.items()}

  def on_day_end(self, day, logs=None):
    self.made.append(f"{day.name} ends")


class Run:
  """One model that is traced once; each `fit` begins with its first weights and an empty table."""

  def __init__(self, folder):
    self.table, self.model = make_model()
    self.model.build_for(SOURCE)
    self._start = CheckpointManager(folder, self.model, [self.table])
    self._start.save({})

  def fit(self, folder, *callbacks, epochs=1, days=3, verbose=0, **checkpoint):
    """Trains as a new process would; returns everything in model and table, as bytes."""
    self._start.restore()
    assert not keys_of(self.table).size
    saver = tfps.callbacks.Checkpoint(str(folder), **checkpoint)
    # Checkpoints come after the day's end, wherever the callback is listed.
    all_callbacks = [saver, tfps.callbacks.EndOfDay(self.table), *callbacks]
    self.model.fit(first_days(days), epochs=epochs, callbacks=all_callbacks, verbose=verbose)
    return self.state()

  def state(self):
    keys = keys_of(self.table)
    assert keys.size > 500
    variables = self.model.variables + self.model.optimizer.variables
    return {
      "keys": keys.tobytes(),
      **{name: value.tobytes() for name, value in self.table.lookup(keys).items()},
      **{
        f"{i} {variable.name}": variable.numpy().tobytes() for i, variable in enumerate(variables)
      },
    }


def differing(one, other):
  """Names of what is not the same in two states.

  Pytest would compare the bytes themselves for minutes.
  """
  return [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]


@pytest.fixture(name="run", scope="module")
def _run(tmp_path_factory):
  return Run(str(tmp_path_factory.mktemp("start")))


def test_a_run_that_was_stopped_equals_one_that_was_not(run, tmp_path, capsys):
  whole_calls = Calls()
  whole = run.fit(tmp_path / "whole", whole_calls, epochs=2)
  folder = tmp_path / "stopped"
  with pytest.raises(Crash):
    run.fit(folder, CrashAfter(7), epochs=2, every_tickets=2)
  with pytest.raises(Crash):  # in the second epoch
    run.fit(folder, CrashAfter(10), epochs=2, every_tickets=3)
  calls = Calls()
  resumed = run.fit(folder, calls, epochs=2, every_tickets=3)
  out = capsys.readouterr().out
  assert re.findall(r"Going on from .*/checkpoint-\d+: (.*)\.\n", out) == [
    "day-1 with 2 tickets finished", "epoch 1, day-0 with 3 tickets finished"]  # fmt: skip
  assert not differing(resumed, whole)
  assert calls.made == ["day-0 resumes after 816", 3, "day-0 ends", *whole_calls.made[-12:]]
  assert calls.logs == whole_calls.logs


def test_a_finished_run_goes_on_with_days_that_are_new(run, tmp_path):
  whole = run.fit(tmp_path / "whole")
  run.fit(tmp_path / "run", days=2)
  calls = Calls()
  assert not differing(run.fit(tmp_path / "run", calls), whole)
  assert calls.made == ["day-2 begins", 8, 9, 10, 11, "day-2 ends"]
  again = Calls()
  assert not differing(run.fit(tmp_path / "run", again, verbose=1), whole)
  assert again.made == []


def test_a_days_end_that_was_interrupted_is_ended_once(run, tmp_path):
  whole = run.fit(tmp_path / "whole", days=2)
  run.fit(tmp_path / "run", days=1)
  table = run.table

  class HalfEnded(keras.callbacks.Callback):
    """When day 1 ends: ends it for half of the shards, saves that, and fails."""

    def on_day_end(self, day, logs=None):
      CheckpointManager(str(tmp_path / "before"), None, [table]).save({})
      table.end_of_day(day.ordinal)
      tfps.native.ops.tfps_restore(
        table=table.servers[0].handle,
        prefix=f"{tmp_path}/before/checkpoint-1/test/server-0",
        table_name="test",
        shards=np.arange(512, dtype=np.int32),
        saved_slots=np.zeros([0], np.int32),
        slots=np.zeros([0], np.int32),
      )
      position = Position(0, 1, day.name, tickets=4, records=1200)
      CheckpointManager(str(tmp_path / "run"), self.model, [table]).save(position.as_dict())
      raise Crash

  saver = tfps.callbacks.Checkpoint(str(tmp_path / "run"))
  with pytest.raises(Crash):
    run.model.fit(first_days(2), callbacks=[saver, HalfEnded()], verbose=0)
  assert differing(run.state(), whole)
  calls = Calls()
  assert not differing(run.fit(tmp_path / "run", calls, days=2), whole)
  assert calls.made == ["day-1 resumes after 1200", "day-1 ends"]


def test_saves_at_days_tickets_and_the_end(run, tmp_path):
  def positions(folder):
    saved = []
    for path in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])):
      calendar = CHECKPOINTS.read(str(path)).calendar
      saved.append((calendar["day"], calendar["tickets"], calendar["ended"]))
    return saved

  run.fit(tmp_path / "days", every_days=2, keep=9)
  assert positions(tmp_path / "days") == [(1, 4, True), (2, 4, True)]
  run.fit(tmp_path / "tickets", every_tickets=2, keep=9, days=2)
  assert positions(tmp_path / "tickets") == [
    (0, 2, False),
    (0, 4, True),
    (1, 2, False),
    (1, 4, True),
  ]

  class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
      self.model.stop_training = batch == 4

  calls = Calls()
  run.fit(tmp_path / "stopped", Stop(), calls, keep=9)
  assert positions(tmp_path / "stopped") == [(0, 4, True), (1, 1, False)]
  assert calls.made[-2:] == ["day-1 begins", 4]  # a day that was stopped has not ended


def test_other_input_than_before_is_refused(run, tmp_path):
  with pytest.raises(Crash):
    run.fit(tmp_path, CrashAfter(3), every_tickets=2)
  with pytest.raises(ValueError, match="2 tickets of 'day-0' with 768 examples.*batch_size"):
    run.model.fit(
      source(batch_size=64), callbacks=[tfps.callbacks.Checkpoint(str(tmp_path))], verbose=0
    )


def test_slots_in_another_order_find_their_rows(run, tmp_path):
  run.fit(tmp_path, days=1)
  keys = keys_of(run.table)
  before = run.table.lookup(keys)
  other, model = make_model(tfps.data.ClickStream.slots[::-1])
  CheckpointManager(str(tmp_path), None, [other]).restore()
  assert other.slots != run.table.slots and other.slots.keys() == run.table.slots.keys()
  model.fit(first_days(1), verbose=0)
  names = {number: slot for slot, number in run.table.slots.items()}
  expected = [other.slots[names[number]] for number in before["slot"]]
  np.testing.assert_array_equal(other.lookup(keys)["slot"], expected)
  assert other.statistics()["slot_conflicts"] == 0


@pytest.mark.parametrize("setting", ["every_days", "every_tickets", "keep"])
def test_wrong_numbers(setting):
  with pytest.raises(ValueError, match=f"{setting} is -1"):
    tfps.callbacks.Checkpoint("folder", **{setting: -1})


def train(folder, *overrides, launch=(), config=CONFIG):
  env = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
  env["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
  command = [sys.executable, "-m", "tfps", *launch, "train", f"--config={config}", *SMALL,
             f"--config.checkpoint.folder={folder}", *overrides]  # fmt: skip
  return subprocess.Popen(
    command,
    env=env,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    start_new_session=True,
  )


def finish(process):
  try:
    out, _ = process.communicate(timeout=PATIENCE)
  finally:
    if process.poll() is None:
      os.killpg(process.pid, signal.SIGKILL)
      process.wait()
  assert process.returncode == 0, out[-3000:]
  return out


def newest(folder):
  return max((int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*")), default=0)


def kill_after(process, folder, checkpoint, delay):
  """kill -9 some time after a checkpoint is there."""
  try:
    wait_until(lambda: newest(folder) >= checkpoint, lambda: process.poll() is None)
    time.sleep(delay)
    assert process.poll() is None, process.communicate()[0][-3000:]
  finally:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def final_state(folder):
  """Rows and dense tensors of the newest checkpoint, by TensorFlow's own reader."""
  path = f"{folder}/checkpoint-{newest(folder)}"
  reader = tf.train.load_checkpoint(f"{path}/dense/model")
  dense = {name: np.array(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}
  return saved_rows(path, "ctr", 2, 11), dense


def test_a_process_that_was_killed_goes_on_bit_for_bit(tmp_path):
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  every = "--config.checkpoint.every_tickets=2"
  hold = tmp_path / "hold"
  config = held.config_file(tmp_path, hold, first=10)
  hold.touch()
  kill_after(train(killed, every, config=config), killed, checkpoint=3, delay=0.07)
  assert 3 <= newest(killed) <= 6  # in the middle: of 15 tickets and 9 checkpoints
  resumed, uninterrupted = train(killed, every), train(whole)
  try:
    out = finish(resumed)
  finally:
    finish(uninterrupted)
  assert re.search(r"Going on from .*killed/checkpoint-\d: day-\d", out), out
  rows, dense = final_state(killed)
  whole_rows, whole_dense = final_state(whole)
  assert len(rows) > 1000 and not differing(rows, whole_rows)
  assert dense.keys() == whole_dense.keys() and len(dense) > 10
  for name, value in dense.items():
    assert value.tobytes() == whole_dense[name].tobytes(), name


def test_a_cluster_saves_and_another_goes_on(tmp_path):
  folder = tmp_path / "run"

  def launch(workers, ps):
    return ["launch", f"--workers={workers}", f"--ps={ps}", f"--log-dir={tmp_path / 'logs'}", "--"]

  two_days = ["--config.data.days=2", "--config.checkpoint.every_tickets=3"]
  finish(train(folder, *two_days, launch=launch(workers=1, ps=2)))
  assert newest(folder) == 4  # in each day after 3 of 5 tickets, and at its end
  two_days, _ = final_state(folder)
  out = finish(train(folder, "--config.end_of_day=False", launch=launch(workers=1, ps=1)))
  assert "day-1 has ended" in out
  three_days, _ = final_state(folder)
  assert len(list(folder.glob("checkpoint-4/ctr/*.index"))) == 2
  assert len(list(folder.glob("checkpoint-5/ctr/*.index"))) == 1
  shows = [
    sum(np.frombuffer(row[1])[0] for row in rows.values()) for rows in (two_days, three_days)
  ]
  assert len(three_days) > len(two_days) and two_days.keys() <= three_days.keys()
  examples = source(examples_per_day=6000, shuffle=False, seed=1)
  third = sum(
    np.count_nonzero(ids)
    for ticket in examples.tickets("day-2") for x, _ in examples.open(ticket).as_numpy_iterator()
    for ids in x.values())  # fmt: skip
  assert shows[1] == pytest.approx(shows[0] + third, rel=1e-9)
