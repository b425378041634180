"""While a ticket trains, the next one is read: the same examples in the same order, and no more."""

import gzip
import os
import threading

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.data import ahead
from tfps.training.local import LocalProgram


def make_calendar(tmp_path, compressed=False, bad=()):
  """Two days of two files of 20 lines each; line i of all is "USER,CLICK" with user i."""
  calendar = {}
  for day in range(2):
    for part in range(2):
      first = 40 * day + 20 * part
      lines = [f"{i},{'x' if i in bad else i % 2}\n" for i in range(first, first + 20)]
      path = str(tmp_path / f"{day}-{part}.csv") + (".gz" if compressed else "")
      with gzip.open(path, "wt") if compressed else open(path, "w") as file:
        file.writelines(lines)
      calendar.setdefault(f"day-{day}", []).append(path)
  return calendar


def parse(columns):
  user = tf.strings.to_number(columns["user"], tf.int64)
  return {"user": user}, tf.strings.to_number(columns["click"])[:, tf.newaxis]


def make_source(tmp_path, parse=parse, compressed=False, bad=(), **kwargs):
  kwargs = {"batch_size": 4, "batches_per_ticket": 2, "shuffle": True} | kwargs
  calendar = make_calendar(tmp_path, compressed, bad)
  return tfps.data.source(calendar, parse, format="csv", columns=["user", "click"], **kwargs)


class Users(tfps.Model):
  """Keeps the order in which it sees users."""

  def __init__(self, table):
    super().__init__()
    self.embedding = tfps.Embedding(table, ["user"])
    self.seen = tf.Variable(tf.zeros([160], tf.int64), trainable=False)
    self.count = tf.Variable(0, trainable=False)

  def call(self, x, training=None):
    if training:
      places = self.count + tf.range(tf.size(x["user"]))
      self.seen.assign(tf.tensor_scatter_nd_update(self.seen, places[:, tf.newaxis], x["user"]))
      self.count.assign_add(tf.size(places))
    return tf.sigmoid(self.embedding(x, training=training).lr_logit)


class Log(keras.callbacks.Callback):
  """Notes what ends when; stops the run after `stop_after` tickets."""

  def __init__(self, stop_after=None):
    super().__init__()
    self.ended, self.skipped = [], 0
    self._stop_after = stop_after

  def on_ticket_end(self, ticket):
    self.ended.append(ticket)
    if len(self.ended) == self._stop_after:
      self.model.stop_training = True

  def on_records_skipped(self, counts):
    self.skipped += sum(counts.values())

  def on_day_end(self, day, logs=None):
    self.ended.append(day.name)


def fit(source, stop_after=None):
  """Returns its `Log`, and the users in the order in which they were trained, or the error."""
  model = Users(tfps.FeasignTable("ctr", mf_dim=2))
  model.compile("sgd", "binary_crossentropy")
  log = Log(stop_after)
  try:
    model.fit(source, epochs=2, verbose=0, callbacks=[log])
  except tfps.data.BadRecordError as error:
    return log, str(error)
  return log, model.seen.numpy()[: model.count.numpy()].tolist()


@pytest.fixture
def begun(monkeypatch):
  """The tickets that are begun ahead, as they are."""
  tickets, begin = [], ahead.ReadAhead.begin
  monkeypatch.setattr(
    ahead.ReadAhead, "begin", lambda self, ticket: (tickets.append(ticket), begin(self, ticket))
  )
  return tickets


def open_files(tmp_path):
  found = []
  for fd in os.listdir("/proc/self/fd"):
    try:
      found.append(os.readlink(f"/proc/self/fd/{fd}"))
    except OSError:
      continue
  return [path for path in found if path.startswith(str(tmp_path))]


def is_all_closed(tmp_path):
  names = [thread.name for thread in threading.enumerate()]
  return not open_files(tmp_path) and not any(name.startswith("tfps-read-ahead") for name in names)


@pytest.mark.parametrize("compressed", [False, True])
def test_examples_come_as_their_tickets_are_opened_one_by_one(tmp_path, begun, compressed):
  source = make_source(tmp_path, compressed=compressed, bad={13, 61}, on_bad_record="skip")
  log, seen = fit(source)
  assert len(set(begun)) == len([one for one in log.ended if not isinstance(one, str)])
  assert is_all_closed(tmp_path)
  expected, tickets = [], []
  for epoch in range(2):
    view = source.with_epoch(epoch)
    for day in view.days():
      tickets += [*view.tickets(day), day.name]
      opened = [x["user"].numpy() for t in view.tickets(day) for x, _ in view.open(t)]
      expected += np.concatenate(opened).tolist()
  assert log.ended == tickets
  assert seen == expected
  assert log.skipped == 2 * 2
  assert sorted(seen[:78]) == sorted(set(range(80)) - {13, 61}) != seen[:78]


def test_it_begins_with_the_next_ticket_of_the_same_day(tmp_path, monkeypatch):
  events = []
  begin, run = ahead.ReadAhead.begin, LocalProgram.run_ticket

  def begun(self, ticket):
    if ticket not in [one for _, one in events]:
      events.append(("read", ticket))
    begin(self, ticket)

  def ran(self, *arguments):
    events.append(("train", int(arguments[2])))
    return run(self, *arguments)

  monkeypatch.setattr(ahead.ReadAhead, "begin", begun)
  monkeypatch.setattr(LocalProgram, "run_ticket", ran)
  source = make_source(tmp_path, batches_per_ticket=5, shuffle=False)
  model = Users(tfps.FeasignTable("ctr", mf_dim=2))
  model.compile("sgd", "binary_crossentropy")
  model.fit(source, verbose=0)
  words = [what + str(getattr(one, "sequence", one)) for what, one in events]
  assert words == ["read0", "read1", "train0", "train1", "read2", "read3", "train2", "train3"]


def test_an_error_is_raised_at_its_turn(tmp_path):
  log, said = fit(make_source(tmp_path, bad={17}, shuffle=False))
  assert [ticket.sequence for ticket in log.ended] == [0, 1]
  assert said.startswith(f"{tmp_path}/0-0.csv, line 18 ") and "the field" not in said
  assert is_all_closed(tmp_path)


def test_nothing_is_left_of_a_ticket_that_is_not_trained(tmp_path, begun):
  """Of a compressed file more is to be read when its first batch is there."""
  log, _ = fit(make_source(tmp_path, compressed=True, batch_size=1), stop_after=1)
  assert len(log.ended) == 1 and len(set(begun)) == 2
  assert is_all_closed(tmp_path)


def test_what_reads_a_variable_is_read_at_its_turn(tmp_path):
  added = tf.Variable(0, dtype=tf.int64)

  def parse_and_add(columns):
    x, y = parse(columns)
    return {"user": x["user"] + added}, y

  source = make_source(tmp_path, parse_and_add, shuffle=False)
  reading = ahead.ReadAhead(source)
  ticket = next(source.tickets())
  reading.begin(ticket)
  for opening in reading._opening.values():  # What has begun ends before the variable changes.
    opening.result()
  added.assign(100)
  x, _ = reading.take(ahead.as_tensors(ticket)).first.get_value()
  assert x["user"].numpy().tolist() == [100, 101, 102, 103]
