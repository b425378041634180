"""Which ticket may begin when, and how tickets are run and handed on in one process."""

import dataclasses
import random
import threading

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf
import tfps
from tfps.data.ticket import Ticket
from tfps.training import config as config_lib
from tfps.training import run
from tfps.training import tickets as tickets_lib
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
    self.ahead = []  # for each ticket, how far it began ahead of the oldest one that was not finished
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
