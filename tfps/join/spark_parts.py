"""The parts of a log as streaming DataFrames: a folder is one, and so is each partition of a topic.

The parts' watermarks are told apart, so that one that lags holds the join back. Rows that only have
a time move a watermark on: they come as files in folders of the state, at the end of the join in
one that all parts read, and for a part that is idle in one of its own.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tfps.errors import ConfigError
from tfps.join.files import FolderLog
from tfps.join.records import Decoder
from tfps.join.schema import SAMPLE_BYTES, Schema
from tfps.join.settings import Settings
from tfps.join.whole_file import write_whole

if TYPE_CHECKING:
  from pyspark.sql import DataFrame, SparkSession

_SAMPLE_MESSAGES = 10_000


def of(session: SparkSession, config: Any, log: str) -> dict[str, DataFrame]:
  """{name: records as they are} of a log's parts.

  These are lines or messages in `value`, with their `place`, or Parquet's columns. The name is in
  the descriptions of the sources that Spark reports.
  """
  fields = config[log]
  if fields.topic:
    return {
      f"[{fields.topic}-{partition}]": _messages(
        session.readStream, config, log, f'{{"{fields.topic}":[{partition}]}}'
      )
      for partition in _partitions(config, fields.topic)
    }
  reader = session.readStream.option("recursiveFileLookup", "true")
  if fields.format == "json":
    lines = reader.option("lineSep", "\n").text(fields.folder)
    columns = "cast(value as binary) as value", "_metadata.file_path as place"
    return {fields.folder: lines.selectExpr(*columns)}
  schema = session.read.option("recursiveFileLookup", "true").parquet(fields.folder).schema
  return {fields.folder: reader.schema(schema).parquet(fields.folder)}


def ends(config: Any, name: str) -> list[pathlib.Path]:
  """The folders of times that move a part's watermark on."""
  folders = [all_ends(config), *([_idle_folder(config, name)] if config.idle else [])]
  for folder in folders:
    folder.mkdir(parents=True, exist_ok=True)
  return folders


def all_ends(config: Any) -> pathlib.Path:
  """The folder of times that move all watermarks on."""
  return pathlib.Path(config.state, "ends")


class Idle:
  """Lets parts in which nothing came for config.idle seconds hold the watermark back no longer."""

  def __init__(self, session: SparkSession, config: Any):
    self._config = config
    names = [
      name
      for log in ("features", "actions")
      for name in (of(session, config, log) if config.idle else ())
    ]
    self._heard = dict.fromkeys(names, time.monotonic())
    self._told: dict[str, int] = {}
    self._batch = -1

  def look(self, progress: Iterable[Mapping], newest: int) -> None:
    """Takes note of what came in batches, and moves the watermarks of idle parts to `newest`."""
    now = time.monotonic()
    for batch in progress:
      if batch["batchId"] < self._batch:
        continue
      self._batch = batch["batchId"]
      for source in batch["sources"]:
        for name in self._heard:
          if name in source["description"] and source["numInputRows"]:
            self._heard[name] = now
    silent = [name for name, at in self._heard.items() if now - at > self._config.idle]
    for name in silent:
      if newest and newest != self._told.get(name):
        self._told[name] = newest
        write_whole(_idle_folder(self._config, name) / str(newest), str(newest))


def infer_schema(session: SparkSession, config: Any, settings: Settings, wait: bool) -> None:
  """Has the types of features in the state, where the config does not say them.

  Args:
    session, config, settings: of the join.
    wait: for the first record, where there is none.
  """
  schema = Schema(config)
  decoder = Decoder(config, settings, schema, quiet=True)
  while schema.kinds is None:
    if config.features.topic:
      first = _first_messages(session, config)
      if first:
        schema.infer(first, f"the topic {config.features.topic}")
    else:
      log = FolderLog(config, "features", {}, {}, {}, decoder, once=not wait)
      if log.poll(SAMPLE_BYTES) is not None:
        schema.infer(*log.first())
    schema.tell()
    if not wait:
      return
    if schema.kinds is None:
      time.sleep(max(config.poll, 0.1))


def _first_messages(session: SparkSession, config: Any) -> bytes:
  topic = config.features.topic
  partitions = ",".join(map(str, _partitions(config, topic)))
  messages = _messages(session.read, config, "features", f'{{"{topic}":[{partitions}]}}')
  values = [bytes(row.value or b"") for row in messages.limit(_SAMPLE_MESSAGES).collect()]
  return b"".join(value.replace(b"\n", b" ") + b"\n" for value in values)


def _messages(reader: Any, config: Any, log: str, assigned: str) -> DataFrame:
  reader = reader.format("kafka").option("kafka.bootstrap.servers", config.kafka.brokers)
  for name, value in config.kafka.settings:
    reader = reader.option(f"kafka.{name}", value)
  reader = reader.option("assign", assigned).option("startingOffsets", "earliest")
  place = (
    f"concat('the topic {config[log].topic}, partition ', partition, ', offset ', offset) as place"
  )
  return reader.load().selectExpr("value", place)


def _partitions(config: Any, topic: str) -> list[int]:
  try:
    from tfps.join import kafka
  except ConfigError as error:
    raise ConfigError(
      "Spark reads each partition of a topic by itself, and needs confluent-kafka to know them: "
      "pip install 'tfps[kafka,spark]'."
    ) from error
  return kafka.partitions(config, topic)


def _idle_folder(config: Any, name: str) -> pathlib.Path:
  safe = "".join(letter if letter.isalnum() else "_" for letter in name)
  return pathlib.Path(config.state, "idle", safe)
