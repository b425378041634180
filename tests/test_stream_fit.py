"""fit on a stream: in days, with moments while nothing comes, each sample exactly once."""

import contextlib
import json
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from models.deepfm import DeepFM
from tests import streams
from tests.patience import PATIENCE, wait_until
from tests.test_stream_reading import make, write_files

NUMBERS = 400


class Calls(keras.callbacks.Callback):
  def __init__(self):
    super().__init__()
    self.made, self.positions = [], []

  def on_day_begin(self, day):
    self.made.append(f"{day.name[11:]} begins")

  def on_day_resume(self, day, records):
    self.made.append(f"{day.name[11:]} resumes after {records}")

  def on_day_end(self, day, logs=None):
    self.made.append(f"{day.name[11:]} ends with {day.records}")

  def on_moment(self, position):
    self.positions.append(position)


class Crash(Exception):
  pass


class CrashAfter(keras.callbacks.Callback):
  def __init__(self, tickets):
    super().__init__()
    self._left = tickets

  def on_ticket_end(self, ticket):
    self._left -= 1
    if not self._left:
      raise Crash


def make_model():
  keras.utils.set_random_seed(1)
  accessor = tfps.CtrAccessor(decay_rate=1.0, delete_threshold=0)
  table = tfps.FeasignTable("stream", mf_dim=2, num_shards=8, accessor=accessor)
  model = DeepFM(table, ["user", "item"], hidden=[4])
  model.compile("adam", "binary_crossentropy")
  return table, model


def shows(table, numbers=NUMBERS):
  """How often each user was trained."""
  keys = tfps.feasign("user", np.arange(numbers)).numpy()
  found = table.lookup(keys)
  return np.where(found["found"], found["statistics"][:, 0], 0).astype(int).tolist()


def test_days_by_event_time_and_each_sample_once(tmp_path, capsys):
  total = write_files(tmp_path, [40, 0, 25, 35])  # 200 s, 50 samples a day
  table, model = make_model()
  calls, source, began = Calls(), make(tmp_path), time.time()
  freshness = tfps.callbacks.Freshness(source, every_seconds=1e9)
  model.fit(source, callbacks=[tfps.callbacks.EndOfDay(table), calls, freshness], verbose=0)
  assert shows(table, total) == [1] * total
  # Two samples past the end end a day: the first of them is trained in it.
  assert calls.made == [
    "01:46:40 begins", "01:46:40 ends with 51", "01:48:20 begins"]  # fmt: skip
  assert [position.ended for position in calls.positions].count(True) == 1
  last = calls.positions[-1]
  assert not last.ended and last.records == 49 and last.cursor["arrivals"]["file"] is None
  summary = freshness.summary()
  assert (summary["early"], summary["late"]) == (1, 0)
  trained_at = summary["seconds_to_trained"] + (1e9 + total - 1)
  assert began - total < trained_at < time.time() + total
  out = capsys.readouterr().out
  assert "51 samples" in out and "so far 100, 0 of them late" in out


def test_freshness_tells_of_the_last_samples_while_nothing_comes(tmp_path, capsys):
  class DueOnceAllIsTrained(keras.callbacks.Callback):
    def on_moment(self, position):
      freshness._every_seconds = 0.0

    def on_idle(self):
      told.append(capsys.readouterr().out)
      if f"so far {total}, " in "".join(told):
        source.stop()

  told, total = [], write_files(tmp_path, [40])
  source = make(tmp_path, stop_after_idle=PATIENCE)
  freshness = tfps.callbacks.Freshness(source, every_seconds=1e9)
  make_model()[1].fit(source, callbacks=[freshness, DueOnceAllIsTrained()], verbose=0)
  assert f"so far {total}, " in "".join(told)


@pytest.mark.parametrize("crashes", [[3], [1, 1, 20], [9, 2]])
def test_a_run_that_crashes_trains_each_sample_once_from_its_checkpoint(tmp_path, crashes):
  sizes = [30, 70, 8, 92]
  total = write_files(tmp_path / "samples", sizes)
  for tickets in [*crashes, None]:
    table, model = make_model()  # As a new process does.
    saver = tfps.callbacks.Checkpoint(str(tmp_path / "checkpoints"), every_tickets=2)
    crash = [CrashAfter(tickets)] if tickets else []
    callbacks = [tfps.callbacks.EndOfDay(table), *crash, saver]
    arguments = dict(callbacks=callbacks, verbose=0)
    if tickets:
      with pytest.raises(Crash):
        model.fit(make(tmp_path / "samples"), **arguments)
    else:
      model.fit(make(tmp_path / "samples"), **arguments)
  assert shows(table, total) == [1] * total


def damage(folder):
  """Damages six files of ten samples each, but for the first and last.

  Returns ({user: shows}, {reason: records}).
  """
  paths = [folder / f"{i:03d}.tfrecord" for i in range(6)]
  records = [list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) for path in paths]
  ends = [np.cumsum([len(record) + 16 for record in of_file]) for of_file in records]
  flipped = bytearray(paths[1].read_bytes())
  flipped[ends[1][4] - 6] ^= 1  # within the sixth's fifth sample
  paths[1].write_bytes(flipped)
  paths[2].write_bytes(paths[2].read_bytes()[: ends[2][7] + 3])
  paths[3].write_bytes(b"no TFRecord file at all")
  timeless = tf.train.Example.FromString(records[4][3])
  del timeless.features.feature["time"]
  changed = {0: b"no tf.Example", 3: timeless.SerializeToString()}
  changed[5] = streams.example(45, 2**62)
  with tf.io.TFRecordWriter(str(paths[4])) as writer:
    for i, record in enumerate(records[4]):
      writer.write(changed.get(i, record))
  lost = {14, 28, 29, *range(30, 40), 40, 43, 45}
  reasons = {
    "the checksum of its bytes does not hold": 1,
    "the rest of the file cannot be read": 2,
    "it is no tf.Example": 1,
    "the feature 'time' is missing": 1,
    "the event time 'time' is not between 1970 and 9999": 1,
  }
  return [int(user not in lost) for user in range(60)], reasons


@pytest.mark.parametrize("crashes", [[], [9]])
def test_damaged_files_are_skipped_and_counted_once(tmp_path, capfd, crashes):
  write_files(tmp_path / "samples", [10] * 6)
  expected, reasons = damage(tmp_path / "samples")
  for tickets in [*crashes, None]:
    table, model = make_model()
    skipped = tfps.callbacks.SkippedRecords()
    saver = tfps.callbacks.Checkpoint(str(tmp_path / "checkpoints"), every_tickets=1)
    crash = [CrashAfter(tickets)] if tickets else []
    source = make(tmp_path / "samples", on_bad_record="skip", batches_per_ticket=1)
    with pytest.raises(Crash) if tickets else contextlib.nullcontext():
      model.fit(source, callbacks=[*crash, saver, skipped], verbose=0)
  assert shows(table, 60) == expected
  assert skipped.counts == reasons
  told = capfd.readouterr().err
  assert "002.tfrecord is cut short: its record at byte" in told
  assert "003.tfrecord is not a TFRecord file at byte 0" in told


def test_a_damaged_file_is_refused(tmp_path):
  write_files(tmp_path, [10] * 6)
  damage(tmp_path)
  with pytest.raises(ValueError, match="001.tfrecord is not a whole TFRecord file"):
    make_model()[1].fit(make(tmp_path), verbose=0)


def test_while_nothing_comes_what_is_due_is_done_and_new_files_are_trained(tmp_path):
  write_files(tmp_path / "samples", [40])
  table, model = make_model()
  source = make(tmp_path / "samples", stop_after_idle=0)
  saver = tfps.callbacks.Checkpoint(str(tmp_path / "checkpoints"), every_minutes=0.5 / 60)
  calls = Calls()

  def saved():
    paths = sorted((tmp_path / "checkpoints").glob("checkpoint-*/manifest.json"))
    return [json.loads(path.read_text())["calendar"]["records"] for path in paths]

  def arrive():
    try:
      wait_until(lambda: saved()[-1:] == [40])
      time.sleep(1)  # More is not saved while nothing is trained.
      streams.write(tmp_path / "samples", "1.tfrecord", range(40, 45), [1e9 + 90] * 5)
      wait_until(lambda: saved()[-1:] == [45])
    finally:
      source.stop()

  others = threading.Thread(target=arrive)
  others.start()
  model.fit(source, callbacks=[saver, calls], verbose=0)
  others.join()
  assert saved()[-2:] == [40, 45] and saved() == sorted(set(saved()))
  assert shows(table, 45) == [1] * 45
  # It looks a hundred times a second here, and does something only when there is something.
  assert len(calls.positions) < 20


def test_a_stream_has_one_epoch(tmp_path):
  write_files(tmp_path, [4])
  _, model = make_model()
  with pytest.raises(ValueError, match="epochs is 2, but a stream is read once"):
    model.fit(make(tmp_path), epochs=2, verbose=0)
