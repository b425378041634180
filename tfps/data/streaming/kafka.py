"""Samples that keep arriving in a Kafka topic."""

import os
import time
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

_FETCH_SECONDS = 0.1
_ANSWER_SECONDS = 10.0  # within which Kafka must list its topics
_METADATA_SECONDS = 30.0  # between two looks for new partitions
_STARTS = ("earliest", "latest")


class Fetched(NamedTuple):
  """A file with some messages of the topic."""

  number: int
  path: str
  places: list[tuple[int, int]]  # (partition, offset) of each
  # {partition: offset of the first message that is neither in this file nor in one before it}
  before: dict[int, int]
  skip: int = 0


class Topic:
  """Reads a Kafka topic's messages, each a sample: first those there, then new ones as they come.

      samples = tfps.data.stream(tfps.data.Topic("kafka-0:9092", "samples", spool="/spool"), parse)

  TensorFlow has no op that reads Kafka. The chief fetches messages, writes them as files of a
  folder that all workers reach, and removes these once they are trained. Where a run goes on from
  is offsets alone, and they are the chief's: nothing is committed to Kafka, and what the folder
  holds when a run begins is fetched again.

  Args:
    brokers: "host:port,host:port".
    topic: its name.
    spool: the folder for the files, of this run alone, on any of TensorFlow's file systems.
    start: where a run begins that has no checkpoint: "earliest" or "latest".
    most_samples: the most samples in a file.
    settings: more of librdkafka's settings, such as security.protocol.

  Raises:
    ImportError: confluent-kafka is not installed.
    ValueError: an argument does not fit.
  """

  def __init__(
    self,
    brokers: str,
    topic: str,
    spool: str | os.PathLike,
    *,
    start: str = "earliest",
    most_samples: int = 8192,
    settings: Mapping[str, Any] | None = None,
  ) -> None:
    _kafka()
    if start not in _STARTS:
      raise ValueError(f"start is {start!r}; it must be one of {', '.join(_STARTS)}.")
    if not spool:
      raise ValueError("spool must be a folder that every worker reaches.")
    self._topic = topic
    self._spool = str(spool).rstrip("/")
    self._start = start
    self._most_samples = most_samples
    self._settings = {
      "bootstrap.servers": brokers,
      "group.id": "tfps",  # Required, but no consumer joins the group.
      "enable.auto.commit": False,
      "auto.offset.reset": "error",
      **(settings or {}),
    }
    self._consumer: Any = None

  def __str__(self) -> str:
    return f"topic {self._topic}"

  def resume(self, cursor: Mapping[str, Any] | None) -> None:
    """Begins at the beginning, or after the messages that `cursor` says are trained."""
    self.close()
    self._is_first = cursor is None
    # Of the first message of each partition that is in no file.
    self._offsets = {int(p): offset for p, offset in (cursor or {"offsets": {}})["offsets"].items()}
    self._assigned: set[int] = set()
    self._looked_at = -_METADATA_SECONDS
    self._number = 0
    self._run = uuid.uuid4().hex[:8]
    tf.io.gfile.makedirs(self._spool)
    for name in tf.io.gfile.listdir(self._spool):
      if name.startswith(f"{self._topic}-") and name.endswith(".tfrecord"):
        tf.io.gfile.remove(f"{self._spool}/{name}")

  def next(self) -> Fetched | None:
    """The next messages as a file, None if there are none now.

    Raises:
      RuntimeError: Kafka says that they cannot be had.
    """
    self._assign()
    if not self._assigned:
      return None
    messages = self._consumer.consume(self._most_samples, _FETCH_SECONDS)
    before, places, values = dict(self._offsets), [], []
    for message in messages:
      if message.error() is not None:
        self._check(message)
        continue
      self._offsets[message.partition()] = message.offset() + 1
      if message.value() is not None:
        places.append((message.partition(), message.offset()))
        values.append(message.value())
    if not values:
      return None
    path = f"{self._spool}/{self._topic}-{self._run}-{self._number:09d}.tfrecord"
    with tf.io.TFRecordWriter(path) as writer:
      for value in values:
        writer.write(value)
    fetched = Fetched(self._number, path, places, before)
    self._number += 1
    return fetched

  def cursor(self, fetched: Fetched, samples: int, is_whole: bool) -> dict[str, Any]:
    """Returns what `resume` needs once all before `fetched` and `samples` of it are trained."""
    del is_whole
    offsets = dict(fetched.before)
    for partition, offset in fetched.places[:samples]:
      offsets[partition] = offset + 1
    return {"offsets": {str(partition): offset for partition, offset in sorted(offsets.items())}}

  def trained(self, fetched: Fetched) -> None:
    """Called when all samples of a file are trained."""
    if tf.io.gfile.exists(fetched.path):
      tf.io.gfile.remove(fetched.path)

  def close(self) -> None:
    """Leaves Kafka."""
    if self._consumer is not None:
      self._consumer.close()
    self._consumer = None

  def _assign(self) -> None:
    """Reads every partition that there is, from where it is to be read on."""
    if time.monotonic() - self._looked_at < _METADATA_SECONDS and self._assigned:
      return
    kafka = _kafka()
    if self._consumer is None:
      self._consumer = kafka.Consumer(self._settings)
    try:
      found = self._consumer.list_topics(self._topic, timeout=_ANSWER_SECONDS).topics[self._topic]
    except kafka.KafkaException as error:
      if self._assigned and error.args[0].retriable():
        return
      raise RuntimeError(
        f"Kafka does not answer at {self._settings['bootstrap.servers']}: {error.args[0].str()}."
      ) from None
    self._looked_at = time.monotonic()
    new = [] if found.error else sorted(found.partitions.keys() - self._assigned)
    if not new:
      return
    # Partitions that come later are read from their beginning.
    starts_late = self._start == "latest" and self._is_first and not self._assigned
    for partition in new:
      if partition not in self._offsets:
        place = kafka.TopicPartition(self._topic, partition)
        first, end = self._consumer.get_watermark_offsets(place, timeout=_ANSWER_SECONDS)
        self._offsets[partition] = end if starts_late else first
    self._consumer.incremental_assign(
      [kafka.TopicPartition(self._topic, partition, self._offsets[partition]) for partition in new]
    )
    self._assigned.update(new)

  def _check(self, message: Any) -> None:
    """Raises RuntimeError for an error after which librdkafka does not go on by itself."""
    error, kafka = message.error(), _kafka()
    if error.code() == kafka.KafkaError._AUTO_OFFSET_RESET:
      partition = message.partition()
      raise RuntimeError(
        f"{self} has no message {self._offsets[partition]} in partition {partition} any more, "
        "with which this run was to go on: begin with another checkpoint, or without one."
      )
    if error.fatal() or error.code() == kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED:
      raise RuntimeError(f"{self}: {error.str()}.")


def _kafka() -> Any:
  try:
    import confluent_kafka
  except ImportError:
    raise ImportError("Kafka topics need confluent-kafka: pip install tfps[kafka].") from None
  return confluent_kafka
