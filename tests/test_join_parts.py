"""Parts of a log, files or partitions, that are read unevenly: the samples are always the same."""

import json
import os
import random

import confluent_kafka
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import join_logs
from tests.patience import PATIENCE
from tests.soak import join as soak
from tests.test_join_kafka import brokers as brokers  # noqa: PLC0414  (a fixture)
from tests.test_join_kafka import config as topics_config
from tests.test_join_kafka import consume
from tfps.join import files, kafka
from tfps.join import run as run_lib

LOGS = ("features", "actions")


def parts_of(rng, rows, count=3):
  """A log in parts, some of which get few of its rows; each is in the order of the log."""
  parts = [[] for _ in range(count)]
  for row in rows:
    parts[min(rng.randrange(count), rng.randrange(count))].append(row)
  return parts


def exact(samples, features, actions):
  return len(samples) == len(dict(samples)) and dict(samples) == join_logs.expected(
    features, actions
  )


@settings(max_examples=3)
@given(seed=st.integers(0, 2**32))
def test_files_written_side_by_side_at_any_speed(seed, tmp_path_factory, monkeypatch_module):
  """Each file grows by itself, one may not grow for long while others go on, over restarts."""
  rng = random.Random(seed)
  folder = tmp_path_factory.mktemp("files")
  logs = join_logs.make(300, seed)
  waiting = {}
  for log, rows in zip(LOGS, logs):
    (folder / log).mkdir()
    for number, part in enumerate(parts_of(rng, rows)):
      waiting[folder / log / f"host{number}"] = part
  config = join_logs.config(folder, batch_bytes=5000)
  # Every file is there when the join begins: of a file that is not there yet it cannot know.
  for path, rows in waiting.items():
    write(path, rows, 1)
  join = run_lib.Run(config)
  while any(waiting.values()):
    path = rng.choice([path for path, rows in waiting.items() if rows])
    write(path, waiting[path], rng.choice([1, 10, len(waiting[path])]))
    for _ in range(rng.randrange(3)):
      join._step()
    if rng.random() < 0.1:
      join._store.close()
      join = run_lib.Run(config)
  join._store.close()
  metrics = run_lib.Run(config, once=True, close=True).run()
  assert exact(join_logs.read(folder / "samples"), *logs)
  assert metrics.get("late_features", 0) == metrics.get("expired_features", 0) == 0


@pytest.fixture(scope="module")
def monkeypatch_module():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(files, "_SETTLED_SECONDS", 1e9)  # All files grow on, however slow the test is.
    yield patch


def write(path, rows, count):
  with open(path, "a") as file:
    file.write("".join(json.dumps(row) + "\n" for row in rows[:count]))
  del rows[:count]


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_complete_files_of_the_same_hours_are_read_together(form, tmp_path):
  """Whatever their names are."""
  rng = random.Random(3)
  logs = join_logs.make(1000)
  for log, rows in zip(LOGS, logs):
    for number, part in enumerate(parts_of(rng, rows)):
      getattr(join_logs, f"write_{form}")(tmp_path / log, f"host{number}", part)
  formats = {f"{log}__format": form for log in LOGS}
  join = run_lib.Run(join_logs.config(tmp_path, batch_bytes=9000, **formats), once=True, close=True)
  most = 0
  step = join._step

  def watched(**fields):
    nonlocal most
    read = step(**fields)
    most = max(most, join._joiner.waiting)
    return read

  join._step = watched
  join.run()
  assert exact(join_logs.read(tmp_path / "samples"), *logs)
  assert most < 700  # They are: a file is not read to its end before the next is begun.


def test_a_file_that_is_complete_holds_nothing_back(tmp_path):
  features, actions = join_logs.make(600)
  half = join_logs.BEGIN + 150
  for log, rows in (("features", features), ("actions", actions)):
    for name, part in (
      ("1", [row for row in rows if row["time"] < half]),
      ("2", [row for row in rows if row["time"] >= half]),
    ):
      join_logs.write_json(tmp_path / log, name, part)
  metrics = run_lib.Run(join_logs.config(tmp_path), once=True).run()
  newest = max(row["time"] for row in features)
  assert metrics["watermark"] == pytest.approx(newest - 30, abs=1e-3)


def test_partitions_at_any_speed(tmp_path, brokers, monkeypatch):
  """Messages come as the broker gives them in each partition, and as chance has it among these."""
  rng = random.Random(0)

  class Uneven(confluent_kafka.Consumer):
    """Hands on what one partition has, and then another, little of some and much of others."""

    def consume(self, num_messages, timeout):
      if not hasattr(self, "kept"):
        self.kept, self.rates = {}, {}
      for message in super().consume(num_messages, 0.001 if any(self.kept.values()) else timeout):
        assert not message.error()
        self.kept.setdefault(message.partition(), []).append(message)
      for partition in self.kept:
        self.rates.setdefault(partition, rng.choice([1, 5, 40]))
      ready = [partition for partition, messages in self.kept.items() if messages]
      if not ready:
        return []
      partition = rng.choice(ready)
      count = self.rates[partition]
      given, self.kept[partition] = self.kept[partition][:count], self.kept[partition][count:]
      return given

  monkeypatch.setattr(kafka.confluent_kafka, "Consumer", Uneven)
  logs = join_logs.make(400)
  producer = confluent_kafka.Producer({"bootstrap.servers": brokers})
  for log, rows in zip(LOGS, logs):
    for partition, part in enumerate(parts_of(rng, rows, 4)):
      for row in part:
        producer.produce(log, json.dumps(row).encode(), partition=partition)
  assert producer.flush(PATIENCE) == 0
  found = []
  for run in range(3):
    config = topics_config(tmp_path, brokers, state=f"{tmp_path}/{run}", batch_bytes=1500)
    config.samples.topic, config.samples.folder = "", f"{tmp_path}/samples{run}"
    metrics = run_lib.Run(config, once=True, close=True).run()
    assert metrics.get("late_features", 0) == 0
    samples = join_logs.read(tmp_path / f"samples{run}")
    assert exact(samples, *logs)
    found.append(sorted(samples, key=str))
  assert found[0] == found[1] == found[2]


def test_killed_while_partitions_are_delayed(tmp_path):
  soak.soak_partitions(tmp_path, kills=2, records=1500, seed=2)


def test_an_empty_partition_holds_the_watermark_back_until_it_is_idle(tmp_path, brokers, capsys):
  features, actions = join_logs.make(400)
  producer = confluent_kafka.Producer({"bootstrap.servers": brokers})
  for log, rows in (("features", features), ("actions", actions)):
    for i, row in enumerate(rows):
      producer.produce(log, json.dumps(row).encode(), partition=i % 3)
  assert producer.flush(PATIENCE) == 0
  config = topics_config(tmp_path, brokers)
  metrics = run_lib.Run(config, once=True).run()
  assert metrics["watermark"] is None and "samples" in metrics and metrics["samples"] == 0
  told = capsys.readouterr().err
  assert "nothing came yet in partition 3 of the topic features; it holds the watermark" in told
  config.idle = 0.01
  join = run_lib.Run(config)
  while not join._joiner.counts["samples"]:
    join._step()
  assert all(log.reached() is not None for log in join._logs.values())
  join._store.close()
  assert len(consume(brokers, "samples")) > 50


def test_idleness_is_of_each_partition(tmp_path, brokers):
  """Of one in which nothing came for long; not of one that has unread messages."""
  features, _ = join_logs.make(10)
  producer = confluent_kafka.Producer({"bootstrap.servers": brokers})
  producer.produce("features", json.dumps(features[0]).encode(), partition=0)
  assert producer.flush(PATIENCE) == 0
  join = run_lib.Run(topics_config(tmp_path, brokers, idle=1e6))
  log = join._logs["features"]
  while not join._step():
    pass
  assert log.reached() is None  # Of three partitions nothing came yet.
  for partition in (1, 2, 3):
    log._heard[partition] -= 2e6
  assert log.reached() == features[0]["time"] * 1000 and not log.is_idle()
  producer.produce("features", json.dumps(features[1]).encode(), partition=2)
  assert producer.flush(PATIENCE) == 0
  assert log.reached() is None
  log.close()
  join._store.close()


def test_idleness_and_beginnings_of_files(tmp_path, monkeypatch):
  monkeypatch.setattr(files, "_LISTING_SHARE", 1e9)  # It looks each time.
  features, actions = join_logs.make(100)
  (tmp_path / "actions").mkdir()
  join_logs.write_json(tmp_path / "features", "host0", features)
  join = run_lib.Run(join_logs.config(tmp_path, idle=1e6))
  assert join._step() and join._joiner.watermark is None  # No action came yet.
  join._logs["actions"]._heard -= 2e6
  join._step()
  assert join._joiner.watermark == max(row["time"] for row in features) * 1000 - 30_000
  join_logs.write_json(tmp_path / "actions", "host0", actions)
  log = join._logs["actions"]
  assert log.reached() == actions[0]["time"] * 1000 and not log.is_idle()
  begun = tmp_path / "features" / "host1"
  begun.write_text('{"request_id": "r')
  os.utime(begun, (2**33, 2**33))  # It will be written to.
  assert join._logs["features"].reached() is None
  join._store.close()
