"""The join's topics, on librdkafka's own broker, which speaks the real protocol on loopback."""

import json

import confluent_kafka
import pyarrow as pa
import pytest

from tests import join_logs
from tests.patience import PATIENCE
from tfps.errors import ConfigError
from tfps.join import kafka
from tfps.join import run as join_run
from tfps.join.store import Store

TOPICS = ("features", "actions", "samples")


@pytest.fixture
def brokers():
  """The addresses of a broker that lives as long as its client."""
  client = confluent_kafka.Producer({"test.mock.num.brokers": 1, "bootstrap.servers": ""})
  broker = next(iter(client.list_topics(timeout=PATIENCE).brokers.values()))
  for topic in TOPICS:
    client.list_topics(topic, timeout=PATIENCE)  # makes it, with 4 partitions
  yield f"{broker.host}:{broker.port}"
  del client


def produce(brokers, topic, rows):
  producer = confluent_kafka.Producer({"bootstrap.servers": brokers})
  for i, row in enumerate(rows):
    producer.produce(topic, json.dumps(row).encode(), partition=i % 4)
    if i % 1000 == 0:
      producer.poll(0)
  assert producer.flush(PATIENCE) == 0


def consume(brokers, topic):
  """All messages of a topic."""
  consumer = confluent_kafka.Consumer(
    {"bootstrap.servers": brokers, "group.id": "test", "enable.auto.commit": False}
  )
  partitions = [confluent_kafka.TopicPartition(topic, partition, 0) for partition in range(4)]
  wanted = sum(
    consumer.get_watermark_offsets(partition, timeout=PATIENCE)[1] for partition in partitions
  )
  consumer.assign(partitions)
  messages = []
  while len(messages) < wanted:
    messages += consumer.consume(wanted - len(messages), timeout=PATIENCE)
  consumer.close()
  assert not any(message.error() for message in messages)
  return messages


def config(folder, brokers, **fields):
  topics = {f"{name}__topic": name for name in TOPICS} | {f"{name}__folder": "" for name in TOPICS}
  return join_logs.config(
    folder, kafka__brokers=brokers, samples__records_per_file=100, **topics, **fields
  )


@pytest.fixture
def whole_reads(monkeypatch):
  """Each read has all partitions up to their ends, however slowly their messages come."""

  class Consumer(confluent_kafka.Consumer):
    def consume(self, num_messages, timeout):
      return super().consume(1, PATIENCE)

  monkeypatch.setattr(kafka.confluent_kafka, "Consumer", Consumer)


def test_topics_in_and_out_over_restarts(tmp_path, brokers, whole_reads):
  """What several partitions hold is joined over restarts, where none is read ahead of another."""
  features, actions = join_logs.make(1200)
  for part in range(3):
    for topic, rows in (("features", features), ("actions", actions)):
      size = len(rows) // 3 + 1
      produce(brokers, topic, rows[part * size : (part + 1) * size])
    metrics = join_run.Run(config(tmp_path, brokers), once=True, close=part == 2).run()
  assert metrics["samples"] == 1200
  samples = [join_logs.parse(message.value()) for message in consume(brokers, "samples")]
  assert len(samples) == 1200 and dict(samples) == join_logs.expected(features, actions)
  assert not list((tmp_path / "state" / "outbox").iterdir())
  # A new state joins all logs anew, and its samples come after those that are there.
  settings = config(tmp_path, brokers, state=str(tmp_path / "other"))
  join_run.Run(settings, once=True, close=True).run()
  assert len(consume(brokers, "samples")) == 2400


def test_what_was_written_before_a_death_is_not_written_again(tmp_path, brokers):
  settings = config(tmp_path, brokers)
  records = pa.array([f"sample {i}".encode() for i in range(10)])
  store = Store(tmp_path / "state")
  outbox = tmp_path / "state" / "outbox"

  def stage(number, records):
    topic = kafka.SampleTopic(settings, outbox, store)
    topic.stage(number, [records])
    return topic

  topic = stage(0, records)
  kept = (outbox / f"{0:012d}").read_bytes()
  topic.publish(below=1)
  (outbox / f"{0:012d}").write_bytes(kept)  # The process died before it was removed,
  longer = kept + b"".join(len(r).to_bytes(4, "little") + r for r in [b"sample 10", b"sample 11"])
  (outbox / f"{1:012d}").write_bytes(b"not committed")
  (outbox / f"{0:012d}").write_bytes(longer)  # and before all was produced.
  kafka.SampleTopic(settings, outbox, store).publish(below=1)
  assert sorted(message.value() for message in consume(brokers, "samples")) == sorted(
    f"sample {i}".encode() for i in range(12)
  )
  assert not list(outbox.iterdir())
  store.close()


def test_messages_that_are_gone_and_foreign_topics_are_named(tmp_path, brokers):
  produce(brokers, "samples", [{"no": "sample"}])
  with pytest.raises(ConfigError, match="is no sample of a join"):
    join_run.Run(config(tmp_path, brokers), once=True)
  (tmp_path / "2").mkdir()
  store = Store(tmp_path / "2" / "state")
  store.set_positions("features", {"0": 7})
  store.close()
  settings = config(tmp_path / "2", brokers)
  settings.samples.topic, settings.samples.folder = "", str(tmp_path / "files")
  with pytest.raises(ConfigError, match="wants to go on at 7"):
    join_run.Run(settings, once=True)
