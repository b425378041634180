"""Kafka topics as streams, with the broker that librdkafka carries for tests."""

import json

import confluent_kafka
import pytest
import tf_keras as keras

import tfps
from tests import streams
from tests.patience import PATIENCE, wait_until
from tests.test_stream_fit import Crash, CrashAfter, make_model, shows
from tests.test_stream_reading import make
from tfps.data.streaming import kafka


class Broker:
  """A broker on a free loopback port, as long as this object lives, and a producer to it."""

  def __init__(self):
    settings = {"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 1, "log_level": 3}
    self._producer = confluent_kafka.Producer(settings)
    (broker,) = self._producer.list_topics(timeout=PATIENCE).brokers.values()
    self.address = f"{broker.host}:{broker.port}"

  def send(self, topic, numbers, partitions=3):
    for number in numbers:
      self._producer.produce(
        topic, streams.example(number, 1_000_000_000 + 2000 * number), partition=number % partitions
      )
    assert self._producer.flush(PATIENCE) == 0


@pytest.fixture(scope="module", name="broker")
def _broker():
  return Broker()


def stream(broker, topic, folder, **arguments):
  where = tfps.data.Topic(broker.address, topic, folder / "spool")
  return make(None, arrivals=where, stop_after_idle=PATIENCE, **arguments)


class StopAfter(keras.callbacks.Callback):
  """Ends a stream once a table has so many shows of users."""

  def __init__(self, source, table, total):
    super().__init__()
    self._source, self._table, self._total = source, table, total

  def on_train_batch_end(self, batch, logs=None):
    if sum(shows(self._table, self._total)) >= self._total:
      self._source.stop()


def spooled(folder):
  return sorted(path.name for path in (folder / "spool").iterdir())


@pytest.mark.parametrize("crashes", [[3], [1, 7]])
def test_each_message_is_trained_once_whatever_crashes(broker, tmp_path, crashes):
  topic = f"samples-{len(crashes)}"
  broker.send(topic, range(60))
  broker.send(topic, range(60, 90), partitions=1)
  for tickets in [*crashes, None]:
    table, model = make_model()
    saver = tfps.callbacks.Checkpoint(str(tmp_path / "checkpoints"), every_tickets=2)
    callbacks = [tfps.callbacks.EndOfDay(table), saver, *([CrashAfter(tickets)] if tickets else [])]
    source = stream(broker, topic, tmp_path)
    if tickets:
      with pytest.raises(Crash):
        model.fit(source, callbacks=callbacks, verbose=0)
      assert spooled(tmp_path)  # What was fetched and not trained.
      broker.send(topic, range(90, 100) if tickets == crashes[-1] else [])
    else:
      callbacks.append(StopAfter(source, table, 100))
      model.fit(source, callbacks=callbacks, verbose=0)
  assert shows(table, 100) == [1] * 100
  assert spooled(tmp_path) == []
  manifest = sorted((tmp_path / "checkpoints").glob("checkpoint-*/manifest.json"), key=str)[-1]
  offsets = json.loads(manifest.read_text())["calendar"]["cursor"]["arrivals"]["offsets"]
  assert sum(offsets.values()) == 100


def test_messages_without_a_value_are_skipped_and_latest_is_what_comes_next(broker, tmp_path):
  topic = "from-now-on"
  broker.send(topic, range(10))
  where = tfps.data.Topic(broker.address, topic, tmp_path, start="latest")
  where.resume(None)
  assert where.next() is None
  broker._producer.produce(topic, None, partition=0)
  broker.send(topic, range(10, 13), partitions=1)
  fetched = []
  wait_until(lambda: fetched.append(where.next()) or fetched[-1] is not None)
  one = fetched[-1]
  assert len(one.places) == 3
  begin = one.places[0][1]
  assert where.cursor(one, 2, False)["offsets"]["0"] == begin + 2
  where.trained(one)
  assert list(tmp_path.iterdir()) == []
  # From a cursor on, the same again.
  where.resume(where.cursor(one, 1, False))
  found = []
  wait_until(lambda: found.extend(getattr(where.next(), "places", [])) or len(found) == 2)
  assert found == one.places[1:]
  where.close()


def test_what_a_topic_refuses(tmp_path, monkeypatch):
  monkeypatch.setattr(kafka, "_ANSWER_SECONDS", 0.5)
  with pytest.raises(ValueError, match="start is 'now'; it must be one of earliest, latest"):
    tfps.data.Topic("127.0.0.1:1", "t", tmp_path, start="now")
  with pytest.raises(ValueError, match="spool must be a folder"):
    tfps.data.Topic("127.0.0.1:1", "t", "")
  where = tfps.data.Topic("127.0.0.1:1", "t", tmp_path, settings={"log_level": 0})
  where.resume(None)
  with pytest.raises(RuntimeError, match="Kafka does not answer at 127.0.0.1:1"):
    where.next()
