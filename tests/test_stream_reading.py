"""Streams as the chief reads them: days by event time, files as they arrive, cursors."""

import json

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

import tfps
from tests import streams
from tfps.data.streaming import samples
from tfps.data.streaming.days import DayRule, EventDays
from tfps.data.streaming.folder import Folder


def days_by_hand(rule, times):
  """[(day, its event times)], and how many were late or early, as DayRule says sample by sample."""
  day, past, result, late, early = None, [], [], 0, 0
  for time in times:
    if day is None:
      day = int(min(times) // rule.day_seconds)
      result.append((day, []))
    if time >= (day + 1) * rule.day_seconds + rule.grace_seconds:
      past.append(time)
      if len(past) == rule.past_samples:
        day = int(min(past) // rule.day_seconds)
        past = []
        result.append((day, []))
        if time >= (day + 1) * rule.day_seconds + rule.grace_seconds:
          past.append(time)
          assert rule.past_samples > 1
    result[-1][1].append(time)
    late += time < day * rule.day_seconds
    early += time >= (day + 1) * rule.day_seconds
  return result, late, early


@hypothesis.given(
  st.lists(st.integers(0, 60), min_size=1, max_size=60),
  st.integers(2, 4), st.integers(0, 5), st.integers(1, 9),
)  # fmt: skip
def test_days_are_those_of_one_sample_after_the_other(times, past_samples, grace, step):
  rule = DayRule(day_seconds=10, grace_seconds=grace, past_samples=past_samples)
  times = np.sort(times) + np.tile([0, 3, -2, 7], 15)[: len(times)]  # in disorder
  times = times.astype(np.float64)
  expected, late, early = days_by_hand(rule, times.tolist())
  days, found, at = EventDays(rule), [], 0
  while at < len(times):
    days = EventDays(rule, json.loads(json.dumps(days.state())))  # as a checkpoint has it
    if days.index is None or days.is_over:
      days.begin_next(times)
      found.append((days.index, []))
    taken = days.take(times[at : at + step])
    found[-1][1].extend(times[at : at + taken].tolist())
    at += taken
  assert found == expected
  assert (days.late, days.early) == (late, early)


def test_one_wrong_clock_ends_no_day_and_a_gap_is_skipped():
  rule = DayRule(past_samples=3)
  days = EventDays(rule)
  now = 20_000 * 86400.0
  days.begin_next(np.array([now]))
  assert days.take(np.array([now, 4e9, now + 1])) == 3 and not days.is_over
  later = now + 5 * 86400
  assert days.take(np.array([now, later + 7, later, later, later])) == 2 and days.is_over
  days.begin_next(None)
  assert rule.name(days.index) == "2024-10-09"
  assert days.early == 2


@pytest.mark.parametrize(
  "rule, time, name",
  [
    (DayRule(), 1.7e9, "2023-11-14"),
    (DayRule(offset_seconds=-8 * 3600), 1.7e9, "2023-11-15"),  # 06:13 in Beijing
    (DayRule(day_seconds=60), 1.7e9, "2023-11-14T22:13:00"),
  ],
)
def test_names_of_days(rule, time, name):
  assert rule.name(rule.index(time)) == name


def test_a_folder_gives_each_whole_file_once(tmp_path):
  folder = Folder(tmp_path / "made later")
  assert folder.next() is None
  (tmp_path / "made later").mkdir()
  for name in ("b.tfrecord", "a.tfrecord", ".c.tfrecord", "_d.tfrecord", "e.txt"):
    (tmp_path / "made later" / name).touch()
  first, second = folder.next(), folder.next()
  assert [first.name, second.name, folder.next()] == ["a.tfrecord", "b.tfrecord", None]
  (tmp_path / "made later" / "0.tfrecord").touch()  # Whatever its name: it is new.
  assert folder.next().name == "0.tfrecord"
  cursor = json.loads(json.dumps(folder.cursor(second, 5, False)))
  assert cursor == {"done": ["a.tfrecord"], "file": "b.tfrecord", "samples": 5}

  other = Folder(tmp_path / "made later")
  other.resume(cursor)
  assert [(one.name, one.skip) for one in (other.next(), other.next())] == [
    ("b.tfrecord", 5), ("0.tfrecord", 0)]  # fmt: skip
  assert other.next() is None

  (tmp_path / "made later" / "a.tfrecord").unlink()
  assert other.next() is None
  third = other.cursor(second, 7, True)
  assert third == {"done": ["b.tfrecord"], "file": None, "samples": 0}

  (tmp_path / "made later" / "b.tfrecord").unlink()
  other.resume(cursor)
  with pytest.raises(FileNotFoundError, match="b.tfrecord is gone, of which 5 samples"):
    other.next()


def test_samples_of_a_file(tmp_path):
  streams.write(tmp_path, "a.tfrecord", range(5), [1.5, 2, 3, 4, 5])
  path = str(tmp_path / "a.tfrecord")
  found = samples.read(path, "time", "ms")
  assert found.times.tolist() == [1.5, 2, 3, 4, 5]
  assert found.bounds[0] == 0 and found.bounds[-1] == tf.io.gfile.stat(path).length
  with pytest.raises(
    ValueError, match="a.tfrecord holds what is no tf.Example with one int64 'when'"
  ):
    samples.read(path, "when", "ms")
  content = (tmp_path / "a.tfrecord").read_bytes()
  for size in (len(content) - 3, int(found.bounds[4]) + 3):
    (tmp_path / "a.tfrecord").write_bytes(content[:size])
    with pytest.raises(ValueError, match="a.tfrecord is not a whole TFRecord file"):
      samples.read(path, "time", "ms")


@pytest.mark.parametrize("record", [b"\xff\xee", b"\xff" * 10_000])
def test_a_sample_that_is_no_example_is_refused_in_a_short_sentence(tmp_path, record):
  streams.write(tmp_path, "a.tfrecord", range(2), [1.5, 2], lambda *_: record)
  with pytest.raises(ValueError, match="a.tfrecord holds what is no tf.Example") as raised:
    samples.read(str(tmp_path / "a.tfrecord"), "time", "ms")
  assert type(raised.value) is ValueError and len(str(raised.value)) < 700


@pytest.mark.parametrize("seconds", [-1.0, 3e11, 4e15])
def test_an_event_time_that_is_in_no_day_is_refused(tmp_path, seconds):
  streams.write(tmp_path, "a.tfrecord", range(2), [1.5, seconds])
  with pytest.raises(ValueError, match="a.tfrecord has a sample whose event time 'time' is not be"):
    samples.read(str(tmp_path / "a.tfrecord"), "time", "ms")


def make(folder, arrivals=None, **arguments):
  settings = dict(day_seconds=100, past_samples=2, poll_seconds=0.01, stop_after_idle=0.02)
  settings |= dict(batch_size=4, batches_per_ticket=2)
  return tfps.data.stream(arrivals or str(folder), streams.parse, **{**settings, **arguments})


class Shown:
  """What a run sees: each day's tickets, and where it could go on."""

  def __init__(self, source, cursor=None, ordinal=0, day=None):
    self.days, self.reader = [], source.read(cursor)
    if day is not None:
      self.reader.resume_day(ordinal, day)
      self.days.append((day, []))

  def run(self, tickets=10**9, ordinal=0):
    """Takes so many tickets; returns whether the stream has ended."""
    while True:
      while (ticket := self.reader.next_ticket()) is not None if self.days else False:
        self.days[-1][1].append(ticket)
        tickets -= 1
        if not tickets:
          return False
      if not self.days or self.reader.day_is_over:
        day = self.reader.next_day(ordinal)
        if day is None:
          return True
        ordinal += 1
        self.days.append((day.name, []))
      elif not self.reader.wait():
        return True


def write_files(folder, sizes):
  """Files of samples two seconds apart; returns how many samples they hold."""
  begin = 0
  for i, size in enumerate(sizes):
    numbers = range(begin, begin + size)
    streams.write(folder, f"{i:03d}.tfrecord", numbers, [1e9 + 2 * n for n in numbers])
    begin += size
  return begin


@hypothesis.given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(1, 12))
@hypothesis.settings(max_examples=8)
def test_from_any_cursor_on_each_sample_comes_once(tmp_path_factory, sizes, stop):
  folder = tmp_path_factory.mktemp("samples")
  total = write_files(folder, sizes)
  source = make(folder)
  whole = Shown(source)
  assert whole.run()
  tickets = [ticket for _, of_day in whole.days for ticket in of_day]
  assert streams.numbers_of(source, tickets) == list(range(total))
  assert all(1 <= ticket.records <= 8 for ticket in tickets)
  if stop > len(tickets):
    return
  first = Shown(source)
  first.run(tickets=stop)
  last = first.days[-1][1][-1]
  cursor = json.loads(json.dumps(first.reader.cursor_after(last)))
  rest = Shown(make(folder), cursor, day=first.days[-1][0])
  assert rest.run(ordinal=1)
  seen = [ticket for shown in (first, rest) for _, of_day in shown.days for ticket in of_day]
  assert streams.numbers_of(source, seen) == list(range(total))
  assert [ticket.sequence for ticket in seen] == list(range(len(seen)))
  assert [name for name, _ in first.days] + [name for name, _ in rest.days[1:]] == [
    name for name, _ in whole.days]  # fmt: skip


def test_what_a_stream_refuses(tmp_path):
  source = make(tmp_path)
  for call in (source.days, source.tickets):
    with pytest.raises(ValueError, match="no list of days"):
      call()
  for arguments, sentence in (
    (dict(time_unit="minutes"), "time_unit is 'minutes'; it must be one of s, ms, us, ns."),
    (dict(poll_seconds=0), "poll_seconds is 0; it must be positive."),
    (dict(past_samples=0), "past_samples is 0; it must be at least 1."),
  ):
    with pytest.raises(ValueError, match=sentence):
      make(tmp_path, **arguments)
