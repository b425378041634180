"""Which ticket may begin when, and how tickets are run and handed on in one process."""

import random

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import strategies as st

import tfps
from tfps.data.ticket import Ticket
from tfps.job import train as run
from tfps.training import config as config_lib
from tfps.training import tickets as tickets_lib
from tfps.training.local import LocalProgram
from tfps.training.position import Position
from tfps.training.schedule import Schedule

communications = st.builds(
  tfps.Communication,
  consistency=st.sampled_from(["async", "bounded", "sync"]),
  max_delay=st.integers(0, 9),
  tickets_per_step=st.integers(0, 9),
)


class Played:
  """A schedule played to its end, tickets finishing in a random order."""

  def __init__(self, communication, workers, first, tickets, seed):
    rng, schedule = random.Random(seed), Schedule(communication, workers, first)
    self.begun, self.finished, self.rounds, self.most_running = [], [], [], 0
    self.ahead = []  # for each ticket, how far it began ahead of the oldest unfinished one
    running, begun_before_step = [], 0
    while len(self.finished) < tickets:
      while schedule.may_begin() and len(self.begun) < tickets:
        below = schedule.finished_below
        assert set(range(first, below)) <= set(self.finished) and below not in self.finished
        running.append(schedule.begin())
        self.begun.append(running[-1])
        self.ahead.append(running[-1] - below)
      assert running, "nothing runs and nothing may begin"
      self.most_running = max(self.most_running, len(running))
      number = running.pop(rng.randrange(len(running)))
      schedule.finish(number)
      self.finished.append(number)
      if schedule.step_is_due:
        self.rounds.append(len(self.begun) - begun_before_step)
        begun_before_step = len(self.begun)
        schedule.step()
    self.schedule = schedule


@hypothesis.given(
  communications, st.integers(0, 4), st.integers(0, 50), st.integers(0, 40), st.integers()
)
def test_every_ticket_begins_once_and_never_too_early(communication, workers, first, tickets, seed):
  played = Played(communication, workers, first, tickets, seed)
  numbers = list(range(first, first + tickets))
  assert played.begun == numbers and sorted(played.finished) == numbers
  assert played.schedule.next_ticket == played.schedule.finished_below == first + tickets
  assert played.schedule.running == 0
  if communication.consistency == "sync":
    size = communication.tickets_per_step or max(workers, 1)
    assert played.rounds == [size] * (tickets // size) + [tickets % size] * (tickets % size > 0)
    return
  assert played.rounds == []
  assert played.most_running <= max(2 * workers, 1)
  if communication.consistency == "bounded":
    assert max(played.ahead, default=0) <= communication.max_delay


def test_async_goes_on_while_one_ticket_does_not_end():
  schedule = Schedule(tfps.Communication(), workers=2)
  schedule.begin()
  for number in range(1, 100):
    assert schedule.begin() == number
    schedule.finish(number)
  assert schedule.finished_below == 0
  schedule.finish(0)
  assert schedule.finished_below == 100


def test_bounded_waits_for_a_straggler():
  schedule = Schedule(tfps.Communication(consistency="bounded", max_delay=3), workers=4)
  schedule.begin()
  for _ in range(3):
    schedule.finish(schedule.begin())
  assert not schedule.may_begin()
  with pytest.raises(RuntimeError, match="ticket 4 may not begin yet"):
    schedule.begin()
  schedule.finish(0)
  assert schedule.may_begin()


def make_tickets(n):
  return [Ticket(0, 0, i, "path", i, i + 1, 1) for i in range(n)]


@pytest.mark.parametrize(
  "communication, log",
  [
    ({}, "0 h0 1 h1 2 h2 3 h3 4 h4"),
    ({"consistency": "bounded", "max_delay": 3}, "0 h0 1 h1 2 h2 3 h3 4 h4"),
    ({"consistency": "sync"}, "0 apply h0 1 apply h1 2 apply h2 3 apply h3 4 apply h4"),
    (
      {"consistency": "sync", "tickets_per_step": 2},
      "0 1 apply h0 h1 2 3 apply h2 h3 4 apply h4",
    ),
  ],
)
def test_tickets_in_one_process(communication, log):
  seen, numbers = [], []
  run_ticket = tickets_lib.training_function(
    lambda ticket, number, below: tf.stack([ticket.sequence, number, below])
  )

  def traced(*arguments):
    seen.append(str(arguments[2].numpy()))
    return run_ticket(*arguments)

  schedule = Schedule(tfps.Communication(**communication), first=7)
  results = tickets_lib.trained(
    traced, make_tickets(5), tf.distribute.get_strategy(), schedule, lambda: seen.append("apply")
  )
  for ticket, result in results:
    seen.append(f"h{ticket.sequence}")
    numbers.append(result.tolist())
  assert " ".join(seen) == log
  size = communication.get("tickets_per_step", 1)
  assert numbers == [[i, i + 7, i // size * size + 7] for i in range(5)]


def test_no_ticket_is_taken_before_the_last_was_handed_on():
  """Whether training is to stop is asked between tickets."""
  taken = []
  tickets = (taken.append(i) or ticket for i, ticket in enumerate(make_tickets(5)))
  run_ticket = tickets_lib.training_function(lambda ticket, number, below: number)
  schedule = Schedule(tfps.Communication())
  results = tickets_lib.trained(run_ticket, tickets, tf.distribute.get_strategy(), schedule, None)
  for i, _ in enumerate(results):
    assert len(taken) == i + 1


@pytest.mark.parametrize(
  "field, value",
  [
    ("consistency", "eventual"),
    ("wire_dtype", "int8"),
    ("max_delay", -1),
    ("max_delay", 1.5),
    ("tickets_per_step", -2),
    ("dense_sync_every", True),
    ("push_window", None),
    ("row_references", 1),
    ("dense_local_steps", "yes"),
    ("prefetch", 0),
  ],
)
def test_what_communication_refuses(field, value):
  with pytest.raises(ValueError) as raised:
    tfps.Communication(**{field: value})
  message = str(raised.value)
  assert message.startswith(f"{field} is {value!r}; it must be ") and message.endswith(".")


def test_a_config_has_every_field_of_communication():
  config = config_lib.default_config()
  assert run.make_communication(config) == tfps.Communication()
  config.consistency, config.max_delay = "bounded", 3
  expected = tfps.Communication(consistency="bounded", max_delay=3)
  assert run.make_communication(config) == expected
  config.max_delay = -1
  with pytest.raises(ValueError, match=r"^config\.max_delay is -1; "):
    run.make_communication(config)


def make_model():
  table = tfps.FeasignTable("ctr", mf_dim=2)
  inputs = {"user_id": keras.Input([], dtype=tf.int64, name="user_id")}
  embedded = tfps.Embedding(table, ["user_id"])(inputs)
  model = tfps.Model(inputs, tf.sigmoid(embedded.lr_logit))
  model.compile("sgd", "binary_crossentropy")
  return table, model


class Applied(keras.callbacks.Callback):
  """Counts the steps of sync, and the tickets that are handed on after each."""

  def __init__(self, monkeypatch):
    super().__init__()
    self.tickets = []
    monkeypatch.setattr(LocalProgram, "apply_accumulated", lambda _: self.tickets.append(0))

  def on_train_batch_end(self, batch, logs=None):
    self.tickets[-1] += 1


class Positions(keras.callbacks.Callback):
  """Where the moments are; ends the run, as a failure would, after so many tickets."""

  def __init__(self, every_tickets, crash_after=None):
    super().__init__()
    self.moment_every_tickets = every_tickets
    self.numbers = []
    self._left = crash_after

  def on_train_batch_end(self, batch, logs=None):
    if self._left is not None:
      self._left -= 1
      if self._left == 0:
        raise KeyboardInterrupt

  def on_moment(self, position):
    self.numbers.append((position.day, position.tickets, position.next_ticket))


def stream(**arguments):
  # 3 tickets a day.
  settings = dict(days=2, examples_per_day=90, batch_size=10, batches_per_ticket=3)
  return tfps.data.ClickStream(**{**settings, **arguments})


def test_a_round_of_sync_ends_where_a_moment_is_wanted_and_with_the_day(monkeypatch):
  _, model = make_model()
  applied = Applied(monkeypatch)
  sync = tfps.Communication(consistency="sync", tickets_per_step=2)
  model.fit(stream(examples_per_day=150), communication=sync, callbacks=[applied], verbose=0)
  assert applied.tickets == [2, 2, 1, 2, 2, 1]
  applied.tickets.clear()
  callbacks = [applied, Positions(every_tickets=3)]
  model.fit(stream(examples_per_day=150), communication=sync, callbacks=callbacks, verbose=0)
  assert applied.tickets == [2, 1, 2, 2, 1, 2]


def test_ticket_numbers_are_never_used_again(tmp_path):
  def fit(model, *positions, epochs=1):
    saver = tfps.callbacks.Checkpoint(str(tmp_path / "run"), every_tickets=2)
    model.fit(stream(), epochs=epochs, callbacks=[saver, *positions], verbose=0)

  _, model = make_model()
  first = Positions(every_tickets=1, crash_after=6)
  with pytest.raises(KeyboardInterrupt):
    fit(model, first)
  assert first.numbers == [(0, 1, 1), (0, 2, 2), (0, 3, 3), (1, 1, 4), (1, 2, 5)]
  # Another process goes on from the last checkpoint, which has not seen a number 5.
  _, model = make_model()
  again = Positions(every_tickets=1)
  fit(model, again, epochs=2)
  assert again.numbers[0] == (1, 3, 6)
  assert again.numbers[1:] == [(0, 1, 7), (0, 2, 8), (0, 3, 9), (1, 1, 10), (1, 2, 11), (1, 3, 12)]
  # The same process goes on with another source, and with no checkpoint.
  more = Positions(every_tickets=1)
  model.fit(stream(days=1), callbacks=[more], verbose=0)
  assert more.numbers[0] == (0, 1, 13)


def test_a_position_of_an_earlier_version_begins_with_ticket_0():
  calendar = {"epoch": 0, "day": 1, "day_name": "day-1", "tickets": 2, "records": 9, "ended": False}
  assert Position(**calendar).next_ticket == 0


def test_communication_goes_with_a_source():
  _, model = make_model()
  with pytest.raises(ValueError, match="^communication "):
    model.fit(np.zeros([3, 1]), communication=tfps.Communication())
