"""In which order a day's tickets come: pieces of all its files, windows of days, mixed sources."""

import itertools
import re

import hypothesis
import pytest
import tensorflow as tf
from hypothesis import strategies as st

import tfps
from models.deepfm import DeepFM
from tests.feeds import kept, load, parse, read, write
from tfps.cli import config as cli_config
from tfps.data import DownSampling
from tfps.errors import ConfigError
from tfps.job import train as job
from tfps.training import position as position_lib
from tfps.training.position import Position

FIXTURE = hypothesis.HealthCheck.function_scoped_fixture


def records_of(name, count, users=40):
  """Records that no other file has: the third field is their number."""
  return [(i % users, int(i % 3 == 0), 1000 * name + i) for i in range(count)]


def make(files, **settings):
  return tfps.data.source(files, parse, **{"batch_size": 4, "batches_per_ticket": 3, **settings})


def in_graph(source):
  """A function of a ticket: the numbers of its records, as a worker reads them."""

  @tf.function(input_signature=list(tfps.data.ticket.TICKET_SPEC))
  def read_ticket(*fields):
    found = tf.TensorArray(tf.float32, 0, True, infer_shape=False, element_shape=[None])
    for x, *_ in iter(source.open(tfps.data.Ticket(*fields))):
      found = found.write(found.size(), x["w"])
    return found.concat()

  return lambda ticket: (
    read_ticket(*tfps.data.ticket.as_tensors(ticket)).numpy().astype(int).tolist()
  )


@hypothesis.settings(max_examples=3, suppress_health_check=[FIXTURE])
@hypothesis.given(
  st.lists(st.integers(0, 40), min_size=1, max_size=4), st.sampled_from([2, 4, 12]),
  st.integers(0, 3), st.sampled_from(["text", "tfrecord"]),
)  # fmt: skip
def test_pieces_hold_each_record_once_and_mix_the_files(tmp_path, counts, pieces, seed, format):
  files = {i: records_of(i, count) for i, count in enumerate(counts)}
  for i, records in files.items():
    write(tmp_path / f"{i}", records)
    if format == "tfrecord":
      with tf.io.TFRecordWriter(str(tmp_path / f"{i}.tfrecord")) as file:
        for record in records:
          file.write(",".join(map(str, record)))
  paths = [f"{tmp_path}/{i}{'' if format == 'text' else '.tfrecord'}" for i in files]
  source = make(paths, format=format).shuffled(seed, pieces=pieces)
  tickets = list(source.tickets())
  assert [ticket.sequence for ticket in tickets] == list(range(len(tickets)))
  assert all(0 < ticket.records <= 12 for ticket in tickets)
  found = [read(source, [ticket]) for ticket in tickets]
  assert [len(part) for part in found] == [ticket.records for ticket in tickets]
  everything = list(itertools.chain(*files.values()))
  assert sorted(itertools.chain(*found)) == sorted(everything)
  # A ticket that runs again, in a graph, after a resume and from a source made anew is the same.
  again = make(paths, format=format).shuffled(seed, pieces=pieces)
  assert list(again.tickets()) == tickets
  read_in_graph = in_graph(again)
  assert [read_in_graph(t) for t in tickets] == [[w for _, _, w in part] for part in found]
  other = source.with_epoch(1)
  assert sorted(itertools.chain(*(read(other, [t]) for t in other.tickets()))) == sorted(everything)
  assert source.records == other.records == len(everything)
  assert len(list(other.tickets())) == len(tickets)
  # What chooses examples does not see how they are cut.
  sampled = source.down_sample(DownSampling(0.5, seed=1))
  assert sorted(read(sampled)) == sorted(kept(everything, 0.5, seed=1))


def test_a_ticket_of_pieces_has_records_from_all_over_the_day(tmp_path):
  paths = [write(tmp_path / f"{i}", records_of(i, 120)) for i in range(10)]
  source = make(paths, batch_size=20, batches_per_ticket=6)
  names = lambda source: [
    {w // 1000 for _, _, w in read(source, [ticket])} for ticket in source.tickets()
  ]
  assert [len(of_ticket) for of_ticket in names(source.shuffled(1))] == [1] * 10
  mixed = [len(of_ticket) for of_ticket in names(source.shuffled(1, pieces=24))]
  assert min(mixed) >= 7, mixed
  short = [write(tmp_path / f"short-{i}", records_of(i, 3)) for i in range(40)]
  tickets = list(make(short, batch_size=20, batches_per_ticket=3).shuffled(1, pieces=4).tickets())
  assert [ticket.records for ticket in tickets] == [60, 60]  # Else forty tickets of three.


def test_a_bad_record_of_a_ticket_of_pieces_is_found(tmp_path):
  paths = [write(tmp_path / f"{i}", records_of(i, 30)) for i in range(3)]
  lines = (tmp_path / "1").read_text().splitlines()
  lines[17] = "x,1,1017"
  (tmp_path / "1").write_text("\n".join(lines))
  plain = lambda lines: ({"w": parse(lines)[0]["w"]}, parse(lines)[1])
  for on_bad_record in ("fail", "skip"):
    source = tfps.data.source(
      paths, plain, batch_size=10, batches_per_ticket=3, on_bad_record=on_bad_record
    ).shuffled(2, pieces=6)
    failed, places = [], {}
    for ticket in source.tickets():
      try:
        reading = source.reading(ticket)
        numbers = [int(w) for x, _ in reading.batches for w in x["w"]]
      except tf.errors.InvalidArgumentError as error:
        failed.append(str(source.explain(ticket, error)))
        continue
      for i, number in enumerate(numbers):
        places[number] = source.place_of_example(ticket, i)
      skipped = reading.skipped(tf.constant(len(numbers), tf.int64))
      failed += [source.place_of(ticket, int(first)) for first in skipped.firsts]
    assert len(failed) == 1 and f"{tmp_path}/1, line 18 (byte" in failed[0]
    for number, place in places.items():
      assert place.startswith(f"{tmp_path}/{number // 1000}, line {number % 1000 + 1} (")
    assert len(places) == 89 or on_bad_record == "fail"


def test_simulated_pieces():
  plain = tfps.data.ClickStream(days=2, examples_per_day=300, batch_size=10, batches_per_ticket=5)
  mixed = plain.shuffled(4, pieces=5)
  ids = lambda source: [
    int(user) for ticket in source.tickets("day-1") for x, _ in source.open(ticket)
    for user in x["user_id"]
  ]  # fmt: skip
  assert sorted(ids(mixed)) == sorted(ids(plain)) and ids(mixed) != ids(plain)
  assert [ticket.records for ticket in mixed.tickets("day-1")] == [50] * 6


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_window_trains_each_day_with_those_before_it(tmp_path, shuffle):
  days = {f"day-{i}": records_of(i, 30) for i in range(4)}
  files = {name: write(tmp_path / name, records) for name, records in days.items()}
  source = make(files)
  if shuffle:
    source = source.shuffled(3, pieces=2)
  window = source.window(days=2, epochs=3)
  for i in range(4):
    tickets = list(window.tickets(i))
    found = [read(window, [ticket]) for ticket in tickets]
    of_days = [*days.values()][max(0, i - 1) : i + 1]
    expected = list(itertools.chain(*of_days))
    per_pass = len(tickets) // 3
    for begin in range(0, len(tickets), per_pass):
      of_pass = list(itertools.chain(*found[begin : begin + per_pass]))
      assert of_pass == expected if not shuffle else sorted(of_pass) == sorted(expected)
    if shuffle and i:
      # The days are mixed, and each pass has an order of its own.
      assert len({tuple(t.pieces for t in tickets[b::per_pass]) for b in range(per_pass)}) > 1
      assert [t.day for t in tickets[:per_pass]] != sorted(t.day for t in tickets[:per_pass])
    assert list(window.day(i).tickets()) == tickets
  sequences = [ticket.sequence for ticket in window.tickets()]
  assert sequences == list(range(len(sequences)))
  assert window.days() == source.days() == window.to_test().days()
  assert sorted(read(window.to_test().day(2))) == sorted(days["day-2"])
  # Each time that a record is read, other negatives are kept.
  sampled = window.down_sample(DownSampling(0.5))
  for epoch in (0, 1):
    view = sampled.with_epoch(epoch)
    found = sorted(itertools.chain(*(read(view, [t]) for t in view.tickets(2))))
    expected = [
      kept(days[f"day-{day}"], 0.5, day=day, epoch=(epoch * 2 + 2 - day) * 3 + time)
      for time in range(3)
      for day in (1, 2)
    ]
    assert found == sorted(itertools.chain(*expected))


def test_a_resume_goes_on_in_the_same_order(tmp_path):
  files = {f"day-{i}": write(tmp_path / f"{i}", records_of(i, 50)) for i in range(3)}
  make_source = lambda: make(files).shuffled(3, pieces=3).window(days=2, epochs=2).with_epoch(1)
  tickets = list(make_source().tickets(2))
  day = make_source().days()[2]
  for done in (0, 3, len(tickets) - 1):
    position = Position(1, 2, day.name)
    for ticket in tickets[:done]:
      position = position.after(ticket)
    assert list(position_lib.remaining(make_source().tickets(day), position)) == tickets[done:]


def turns(sizes, ratios):
  """What `mix` says of the order, as simply as can be: [index of the source]."""
  order, records, left = [], [0] * len(sizes), [list(of) for of in sizes]
  while any(left):
    there = [i for i, of in enumerate(left) if of]
    i = min(there, key=lambda i: records[i] / ratios[i])
    records[i] += left[i].pop(0)
    order.append(i)
  return order


@hypothesis.settings(max_examples=3, suppress_health_check=[FIXTURE])
@hypothesis.given(
  st.lists(st.integers(0, 60), min_size=2, max_size=3), st.lists(st.integers(1, 5), min_size=3),
  st.booleans(),
)  # fmt: skip
def test_mixed_in_the_ratio_of_their_records(tmp_path, counts, ratios, shuffle):
  parts = {f"part-{i}": records_of(i, count) for i, count in enumerate(counts)}
  made = {name: make(write(tmp_path / name, records)) for name, records in parts.items()}
  if shuffle:
    made = {name: source.shuffled(2) for name, source in made.items()}
  mixed = tfps.data.mix(made, dict(zip(made, ratios)))
  tickets = list(mixed.tickets())
  sizes = [[ticket.records for ticket in source.tickets()] for source in made.values()]
  assert [ticket.source for ticket in tickets] == turns(sizes, ratios)
  assert mixed.records == sum(counts) == sum(ticket.records for ticket in tickets)
  for i, records in enumerate(parts.values()):
    found = read(mixed, [ticket for ticket in tickets if ticket.source == i])
    assert found == records if not shuffle else sorted(found) == sorted(records)
  read_in_graph = in_graph(mixed)
  for ticket in tickets:
    assert read_in_graph(ticket) == [w for _, _, w in read(mixed, [ticket])]


def test_days_by_name_and_what_happens_when_one_ends(tmp_path):
  def files(name, days):
    return make({day: write(tmp_path / f"{name}-{day}", records_of(number, count))
                 for day, (number, count) in days.items()})  # fmt: skip

  made = {
    "a": files("a", {"01-01": (0, 60), "01-02": (1, 12)}),
    "b": files("b", {"01-02": (2, 36), "01-03": (3, 12)}),
  }
  order = lambda mixed, day: [ticket.source for ticket in mixed.tickets(day)]
  mixed = tfps.data.mix(made, {"b": 2})
  assert mixed.days() == [
    tfps.data.Day(0, "01-01", 60), tfps.data.Day(1, "01-02", 48), tfps.data.Day(2, "01-03", 12),
  ]  # fmt: skip
  assert [order(mixed, day) for day in range(3)] == [[0] * 5, [0, 1, 1, 1], [1]]
  assert sorted(read(mixed.day("01-02"))) == sorted(records_of(1, 12) + records_of(2, 36))
  stopped = tfps.data.mix(made, {"b": 2}, when_one_ends="stop")
  assert order(stopped, "01-02") == [0] and order(stopped, "01-03") == [1]
  repeated = tfps.data.mix(made, when_one_ends="repeat")
  assert order(repeated, "01-02") == [0, 1, 0, 1, 0, 1] and order(repeated, "01-01") == [0] * 5
  epochs = [ticket.epoch for ticket in repeated.tickets("01-02") if ticket.source == 0]
  assert len(set(epochs)) == 3  # So that each time other negatives are kept.
  assert order(repeated.to_test(), "01-02") == [0, 1, 1, 1]
  window = mixed.window(days=2)
  assert [ticket.day for ticket in window.tickets("01-03")] == [1, 1, 1, 1, 2]
  assert read(window, window.tickets("01-03")) == read(mixed.day(1)) + read(mixed.day(2))
  ticket = list(mixed.tickets("01-02"))[2]
  where = mixed.place_of(ticket, 3)
  assert where == f"{tmp_path}/b-01-02, line 16 (byte {ticket.begin + where_bytes(2, 12, 15)})"
  train, held_out = mixed.split(0.4, by="user")
  assert sorted(read(train) + read(held_out)) == sorted(read(mixed))


def where_bytes(name, begin, end):
  return sum(len(f"{u},{c},{w}\n") for u, c, w in records_of(name, end)[begin:])


def test_what_cannot_be_mixed_is_refused(tmp_path):
  a = write(tmp_path / "a", records_of(0, 9))
  packed = write(tmp_path / "a.gz", records_of(0, 9))
  source = make(a)
  other = lambda lines: ({"user": parse(lines)[0]["user"]}, parse(lines)[1])
  for sources, settings, message in (
    ({}, {}, "sources is empty"),
    ({"a": source}, {"when_one_ends": "end"}, "must be one of go_on, stop, repeat"),
    ({"a": source}, {"ratios": {"b": 1}}, "ratios names 'b', and the sources are a"),
    ({"a": source}, {"ratios": {"a": 0}}, "the ratio of 'a' is 0; it must be a positive number"),
    ({"a": source, "b": make(packed)}, {}, "source 'b' is a stream, has compressed files"),
    ({"a": tfps.data.mix({"a": source})}, {}, "source 'a' is a stream"),
    ({"a": source.window(2)}, {}, "or has a window or negatives, and cannot be mixed"),
    ({"a": source, "b": make(a, batch_size=5)}, {}, "batch_size of source 'a' is 4, and of 'b' 5"),
    ({"a": source, "b": tfps.data.source(a, other, batch_size=4)}, {}, "let both have the same"),
    ({"a": source, "b": 5}, {}, "source 'b' is a int, and no tfps.data source"),
  ):
    with pytest.raises(ValueError, match=re.escape(message)):
      tfps.data.mix(sources, **settings)
  for make_view, message in (
    (lambda: make(packed).shuffled(pieces=2), "unpack the files, or leave it at 1"),
    (lambda: source.shuffled(pieces=0), "pieces is 0; it must be a whole number, at least 1"),
    (lambda: source.shuffled(pieces=13), "pieces is 13; a ticket has 12 records at most"),
    (lambda: source.shuffled(-1), "seed is -1"),
    (lambda: source.window(0), "days is 0; it must be a whole number"),
    (lambda: source.window(1, epochs=1.5), "epochs is 1.5"),
    (lambda: tfps.data.mix({"a": source}).shuffled(), "shuffle its sources before you mix them"),
  ):
    with pytest.raises(ValueError, match=re.escape(message)):
      make_view()


def test_a_day_is_tested_before_its_window_is_trained():
  """Rows, tests and the day's end see a day as one, however often its window repeats it."""
  source = tfps.data.ClickStream(days=3, examples_per_day=1_000, batch_size=100)
  accessor = tfps.CtrAccessor(decay_rate=1.0, delete_threshold=0.0)
  table = tfps.FeasignTable("ctr", mf_dim=2, accessor=accessor)
  model = DeepFM(table, slots=["user_id"], hidden=[4])
  model.compile("adam", "binary_crossentropy")
  window = source.shuffled(1, pieces=5).window(days=2, epochs=2)
  test, ends = tfps.callbacks.ProgressiveTest(window), tfps.callbacks.EndOfDay(table)
  model.fit(window, callbacks=[test, ends], verbose=0)
  assert [day.records for day, _ in test.days] == [1_000] * 3
  assert table.statistics()["show"] == (1 + 2 + 2) * 2 * 1_000


def test_a_config_shuffles_mixes_and_repeats():
  module, config = load("--config.shuffle.on=True", "--config.shuffle.pieces=4",
                        "--config.window.days=2")  # fmt: skip
  with config.unlocked():
    config.mix = {"ratios": {"web": 2.0}, "when_one_ends": "stop"}
  sources = {"web": module.source(config), "app": module.source(config)}
  result = job.run(config, sources, _model(module, config))
  assert [day.records for day, _ in result.days] == [12_000] * 2
  # Two tickets of each source: once web's 6,000 are taken, app's other ticket is left.
  assert result.examples == 3 * sum(
    ticket.records
    for ticket in tfps.data.mix(
      {name: source.shuffled(config.seed, pieces=4) for name, source in sources.items()},
      {"web": 2},
      when_one_ends="stop",
    ).tickets("day-0")
  )
  for overrides, message in (
    (["--config.shuffle.pieces=4"], "config.shuffle.pieces is set, but config.shuffle.on is not"),
    (["--config.window.days=0"], "config.window: days is 0"),
    (["--config.shuffle.on=True", "--config.shuffle.pieces=0"], "config.shuffle: pieces is 0"),
  ):
    module, config = load(*overrides)
    with pytest.raises(ConfigError, match=re.escape(message)):
      job.run(config, module.source(config), _model(module, config))
  module, config = load()
  with config.unlocked():
    config.mix.ratios = {"web": 2.0}
  with pytest.raises(ConfigError, match="but the config has one source"):
    job.run(config, module.source(config), _model(module, config))


def _model(module, config):
  return cli_config.model_class(module, config)
