"""Logs and samples as Kafka topics (confluent-kafka: librdkafka)."""

from __future__ import annotations

import os
import pathlib
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tfps.errors import ConfigError
from tfps.join.lines import Records
from tfps.join.records import Decoded
from tfps.join.store import Store

try:
  import confluent_kafka
except ImportError as error:
  raise ConfigError(
    "Kafka topics need confluent-kafka, which is not installed: pip install 'tfps[kafka]'."
  ) from error

_SECONDS = 60.0  # after which a broker that does not answer is an error
_MESSAGES = 10_000  # read at most at once
# The header of a sample's message: how many samples were written to the topic before it.
_NUMBER = "tfps-sample"


class TopicLog:
  """Reads a topic of JSON messages from the partitions' offsets that the join keeps itself.

  No consumer group is used.

  Args:
    config: of the join.
    log: "features" or "actions".
    positions: {partition: offset of the next message}.
    times: {partition: the newest time that was read in it}.
    once: end at what the partitions hold now.
  """

  def __init__(
    self,
    config: Any,
    log: str,
    positions: Mapping[str, int],
    times: Mapping[str, int],
    once: bool = False,
  ):
    self._topic = config[log].topic
    self._idle = config.idle
    self.times = dict(times)
    self._last: tuple[np.ndarray, bytes] = (np.zeros(0, np.int64), b"")
    self._changed: dict[str, int | None] = {}
    self._consumer = confluent_kafka.Consumer({
      "group.id": "tfps-join",  # It must have a name, though nothing is stored there.
      "enable.auto.commit": False,
      "auto.offset.reset": "error",
      "enable.partition.eof": False,
      "isolation.level": "read_committed",
      **_settings(config),
    })  # fmt: skip
    partitions = _partitions(self._consumer, self._topic)
    self._next, self._ends = {}, {}
    for partition in partitions:
      place = confluent_kafka.TopicPartition(self._topic, partition)
      low, high = self._consumer.get_watermark_offsets(place, timeout=_SECONDS)
      self._next[partition] = positions.get(str(partition), low)
      self._ends[partition] = high if once else None
      if not low <= self._next[partition] <= high:
        raise ConfigError(
          f"The topic {self._topic} has the messages {low} to {high} in partition {partition}, "
          f"but the join wants to go on at {self._next[partition]}: they were removed before it "
          "read them. Give another config.state to begin anew."
        )
    self._heard = dict.fromkeys(self._next, time.monotonic())
    self._told_of = False
    self._consumer.assign([
      confluent_kafka.TopicPartition(self._topic, partition, offset) for partition,
      offset in self._next.items()
    ])  # fmt: skip

  def poll(self, max_bytes: int) -> Records | None:
    """The next records, of all partitions; None where there are none now."""
    lines, places, size = [], [], 0
    until = time.monotonic() + _SECONDS
    while size < max_bytes and self._has_more():
      messages = self._consumer.consume(_MESSAGES, timeout=0.2)
      for message in messages:
        if message.error():
          raise OSError(f"Kafka, topic {self._topic}: {message.error().str()}")
        partition = message.partition()
        end = self._ends[partition]
        if end is not None and message.offset() >= end:
          continue  # It came after the beginning of a run with --once.
        self._next[partition] = self._changed[str(partition)] = message.offset() + 1
        self._heard[partition] = time.monotonic()
        value = message.value() or b""
        lines.append(value.replace(b"\n", b" "))
        places.append((partition, message.offset()))
        size += len(value)
      if messages:
        until = time.monotonic() + _SECONDS
        continue
      if lines or not self._bounded():
        break
      if time.monotonic() > until:
        raise OSError(
          f"Kafka, topic {self._topic}: no message came for {_SECONDS:.0f} s, though there are "
          "more."
        )
    if not lines:
      return None
    data = b"\n".join(lines) + b"\n"
    self._last = np.array([partition for partition, _ in places]), data

    def place(number: int) -> str:
      partition, offset = places[number]
      return f"the topic {self._topic}, partition {partition}, offset {offset}"

    return Records(data, place)

  def came(self, decoded: Decoded) -> None:
    """Takes note of the times of the records that the last `poll` gave."""
    partitions = self._last[0][decoded.numbers]
    for partition in np.unique(partitions).tolist():
      newest = int(decoded.times[partitions == partition].max())
      name = str(partition)
      self.times[name] = max(self.times.get(name, newest), newest)

  def first(self) -> tuple[bytes, str]:
    """What the last `poll` read, and where."""
    return self._last[1], f"the topic {self._topic}"

  def reached(self) -> int | None:
    """The event time to which all partitions are read, None where one has not begun.

    A partition without unread messages in which none came for config.idle seconds does not count,
    as long as there is another.
    """
    counted = [p for p in self._next if not self._is_idle(p)]
    counted = counted or [p for p in self._next if str(p) in self.times]
    reached = [self.times.get(str(partition)) for partition in counted]
    silent = [p for p, at in zip(counted, reached) if at is None]
    if silent and self.times and not self._idle and not self._told_of:
      self._told_of = True
      print(
        f"tfps: nothing came yet in partition {silent[0]} of the topic {self._topic}; it holds the "
        "watermark back. If it may stay empty, set config.idle.",
        file=sys.stderr,
      )
    return None if silent else min((at for at in reached if at is not None), default=None)

  def forget_complete(self) -> None:
    pass

  def is_idle(self) -> bool:
    """Whether all partitions are idle."""
    return all(self._is_idle(partition) for partition in self._next)

  def changed_positions(self) -> dict[str, int | None]:
    changed, self._changed = self._changed, {}
    return changed

  def changed_tails(self) -> dict[str, int | None]:
    return {}

  def close(self) -> None:
    self._consumer.close()

  def _is_idle(self, partition: int) -> bool:
    silent = bool(self._idle) and time.monotonic() - self._heard[partition] > self._idle
    if not silent:
      return False
    place = confluent_kafka.TopicPartition(self._topic, partition)
    _, end = self._consumer.get_watermark_offsets(place, timeout=_SECONDS)
    return self._next[partition] >= end

  def _bounded(self) -> bool:
    return any(end is not None for end in self._ends.values())

  def _has_more(self) -> bool:
    return any(end is None or self._next[partition] < end for partition, end in self._ends.items())


class SampleTopic:
  """Writes samples to a topic, each once, also when the process dies in between.

  Samples of a step are staged in the outbox, a folder beside the state; after the step's commit
  they are produced in order, to partition number modulo partitions. Each message says in a header
  which number it is, so that after a restart the last message of each partition tells what is
  missing. Nobody else may write to the topic.
  """

  def __init__(self, config: Any, outbox: pathlib.Path, store: Store):
    self._topic = config.samples.topic
    self._outbox = outbox
    outbox.mkdir(parents=True, exist_ok=True)
    self._store = store
    settings = _settings(config)
    self._producer = confluent_kafka.Producer(
      {"enable.idempotence": True, "linger.ms": 20, **settings}
    )
    self._partitions = _partitions(self._producer, self._topic)
    self._written = dict.fromkeys(self._partitions, -1)
    consumer = confluent_kafka.Consumer(
      {"group.id": "tfps-join", "enable.auto.commit": False, **settings}
    )
    for partition in self._partitions:
      self._written[partition] = self._last_number(consumer, partition)
    consumer.close()
    self._staged = store.get("samples_staged", max(self._written.values(), default=-1) + 1)

  def newest(self) -> int:
    """Returns -1, the number before an outbox's first file: files are gone with their state."""
    return -1

  def stage(self, number: int, samples: Sequence[pa.Array]) -> None:
    """Writes the samples to the outbox, durably."""
    with open(self._path(number), "wb") as file:
      file.write(struct.pack("<q", self._staged))
      for part in samples:
        for sample in part.to_pylist():
          file.write(struct.pack("<I", len(sample)))
          file.write(sample)
        self._staged += len(part)
      file.flush()
      os.fsync(file.fileno())
    self._store.set("samples_staged", self._staged)

  def publish(self, below: int) -> None:
    """Produces all staged samples with a number below this, and removes the others."""
    for path in sorted(self._outbox.iterdir()):
      if int(path.name) < below:
        self._produce(path)
      path.unlink()

  def _produce(self, path: pathlib.Path) -> None:
    data = path.read_bytes()
    (number,), place = struct.unpack_from("<q", data), 8
    failed = []

    def delivered(error: Any, message: Any) -> None:
      if error is not None:
        failed.append(error)

    while place < len(data):
      (size,) = struct.unpack_from("<I", data, place)
      partition = self._partitions[number % len(self._partitions)]
      if number > self._written[partition]:
        self._send(data[place + 4 : place + 4 + size], partition, number, delivered)
        self._written[partition] = number
      place += 4 + size
      number += 1
    if self._producer.flush(_SECONDS) or failed:
      problem = failed[0].str() if failed else f"no answer for {_SECONDS:.0f} s"
      raise OSError(
        f"Kafka, topic {self._topic}: samples could not be written: {problem}. Start the join "
        "again; it goes on there."
      )

  def _send(
    self, sample: bytes, partition: int, number: int, delivered: Callable[[Any, Any], None]
  ) -> None:
    while True:
      try:
        self._producer.produce(
          self._topic,
          sample,
          partition=partition,
          headers=[(_NUMBER, str(number).encode())],
          on_delivery=delivered,
        )
        return
      except BufferError:  # The queue is full.
        self._producer.poll(0.1)

  def _last_number(self, consumer: Any, partition: int) -> int:
    """The number of the newest sample in a partition, -1 where there is none."""
    place = confluent_kafka.TopicPartition(self._topic, partition)
    low, high = consumer.get_watermark_offsets(place, timeout=_SECONDS)
    if high <= low:
      return -1
    consumer.assign([confluent_kafka.TopicPartition(self._topic, partition, high - 1)])
    message = consumer.poll(_SECONDS)
    headers = dict((message.headers() or []) if message is not None and not message.error() else [])
    if _NUMBER not in headers:
      raise ConfigError(
        f"The last message of the topic {self._topic}, partition {partition}, is no sample of a "
        "join; give samples a topic of their own."
      )
    return int(headers[_NUMBER])

  def _path(self, number: int) -> pathlib.Path:
    return self._outbox / f"{number:012d}"


def partitions(config: Any, topic: str) -> list[int]:
  """The partitions of a topic."""
  consumer = confluent_kafka.Consumer({"group.id": "tfps-join", **_settings(config)})
  try:
    return _partitions(consumer, topic)
  finally:
    consumer.close()


def _settings(config: Any) -> dict[str, Any]:
  if not config.kafka.brokers:
    raise ConfigError(
      'config.kafka.brokers is empty; topics need brokers, like "kafka-1:9092,kafka-2:9092".'
    )
  return {"bootstrap.servers": config.kafka.brokers, **dict(config.kafka.settings)}


def _partitions(client: Any, topic: str) -> list[int]:
  try:
    metadata = client.list_topics(topic, timeout=_SECONDS).topics[topic]
  except confluent_kafka.KafkaException as error:
    raise OSError(
      f"Kafka does not answer: {error.args[0].str()}; see config.kafka.brokers."
    ) from error
  if metadata.error is not None:
    raise ConfigError(f"Kafka has no topic {topic}: {metadata.error.str()}.")
  return sorted(metadata.partitions)
