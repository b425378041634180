"""The join as a Spark Structured Streaming program, from the same config: for logs that one process cannot follow.

Records are decoded by the same code, in Spark's Python workers. Features, each once, are outer-joined with actions within the
longest window, by event time with watermarks; when a record's window is closed, its actions are collected and labelled by the
same code. With the policy `early` features come out at once, and once more for each label that an inner join finds. Each task writes its samples to the samples' folder, which all of them must reach, under a hidden name; the driver
names the files when the batch is complete. What Spark repeats after a restart, it knows by the number of the batch.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from ml_collections import config_dict

from tfps.cluster.tf_config import ConfigError
from tfps.join import labelling, samples
from tfps.join import settings as settings_lib
from tfps.join.batches import Features, Samples, actions_of
from tfps.join.keys import Keys
from tfps.join.records import Decoder

try:
  import pyspark
  from pyspark.sql import DataFrame, SparkSession
  from pyspark.sql import functions as f
except ImportError as error:
  raise ConfigError(
    "The engine 'spark' needs PySpark and Java 17: pip install 'tfps[spark]'."
  ) from error

_FEATURES = "hash bigint, check bigint, time timestamp, entries binary"
_ACTIONS = "hash bigint, check bigint, time timestamp, kind int, value float"
_WRITTEN = "name string, samples bigint, late bigint"
_ARROW_TIME = pa.timestamp("us", "UTC")


def run(config: Any, once: bool = False, close: bool = False) -> dict[str, int]:
  """Runs the join until SIGTERM, or with `once` until all files that are there are read; returns metrics."""
  settings = settings_lib.of_config(config)
  if close:
    raise ConfigError("Spark closes windows by its watermark only; leave --close out.")
  if not config.state or not config.samples.folder:
    raise ConfigError(
      "The engine 'spark' needs config.state and config.samples.folder, on a file system that all its tasks reach."
    )
  for log in ("features", "actions"):
    if not config[log].topic and not pathlib.Path(config[log].folder).is_dir():
      raise ConfigError(f"There is no folder {config[log].folder} to read a log from.")
  session = _session(config)
  writer = _BatchWriter(config)
  query = (
    joined(session, config, settings)
    .writeStream.outputMode("append")
    .option("checkpointLocation", f"{config.state}/spark")
    .foreachBatch(writer)
    .trigger(
      **({"availableNow": True} if once else {"processingTime": f"{max(config.poll, 0.1)} seconds"})
    )
    .start()
  )
  before = signal.signal(signal.SIGTERM, lambda *_: query.stop())
  try:
    query.awaitTermination()
  except pyspark.errors.StreamingQueryException as error:
    raise ValueError(f"Spark's query failed: {_cause(error)}") from error
  finally:
    signal.signal(signal.SIGTERM, before)
    dropped = sum(
      operator.get("numRowsDroppedByWatermark", 0)
      for progress in query.recentProgress
      for operator in progress["stateOperators"]
    )
    session.stop()
  return {**writer.counts, "dropped_by_watermark": dropped}


def joined(session: SparkSession, config: Any, settings: settings_lib.Settings) -> DataFrame:
  """A streaming DataFrame of what `_write` makes samples of.

  With the policy `wait` a row for each feature record whose window is closed, with all of its `actions`; with `early` one for
  each feature record at once, with the `label` -1, and one for each label that it gets, with the `action_time`.
  """
  plain = config.to_dict()
  disorder = f"{settings.disorder_ms} milliseconds"
  features = _log(session, config, "features").mapInArrow(
    lambda batches: _decode(plain, "features", batches), _FEATURES
  )
  features = features.withWatermark("time", disorder).dropDuplicatesWithinWatermark(
    ["hash", "check"]
  )
  actions = _log(session, config, "actions").mapInArrow(
    lambda batches: _decode(plain, "actions", batches), _ACTIONS
  )
  actions = actions.withWatermark("time", disorder)
  left, right = features.alias("f"), actions.alias("a")
  belongs = f.expr(
    f"f.hash = a.hash and f.check = a.check and a.time >= f.time - interval {settings.skew_ms} milliseconds "
    f"and a.time <= f.time + interval {settings.wait_ms} milliseconds"
  )
  if settings.policy == "early":
    return _early(features, left.join(right, belongs), settings)
  action = f.when(
    f.col("a.kind").isNotNull(),
    f.struct(
      f.expr("unix_millis(a.time)").alias("time"),
      f.col("a.kind").alias("kind"),
      f.col("a.value").alias("value"),
    ),
  )
  pairs = left.join(right, belongs, "leftOuter").select(
    "f.hash", "f.check", "f.time", "f.entries", action.alias("action")
  )
  return pairs.groupBy("hash", "check", "time").agg(
    f.first("entries").alias("entries"), f.collect_list("action").alias("actions")
  )


def _early(features: DataFrame, pairs: DataFrame, settings: settings_lib.Settings) -> DataFrame:
  """Each feature record at once, and for each of its labels the first pair of it and an action within the label's window."""
  gets = f.array(
    *(
      f.expr(
        f"if(a.kind = {settings.actions.index(label.action)} "
        f"and a.time <= f.time + interval {label.wait_ms} milliseconds, {number}, null)"
      )
      for number, label in enumerate(settings.labels)
    )
  )
  positives = pairs.select(
    "f.hash", "f.check", "f.time", "f.entries",
    f.expr("unix_millis(a.time)").alias("action_time"), f.explode(f.array_compact(gets)).alias("label"),
  )  # fmt: skip
  positives = positives.dropDuplicates(["hash", "check", "time", "label"])
  negatives = features.select(
    "hash", "check", "time", "entries",
    f.expr("unix_millis(time)").alias("action_time"), f.lit(-1).alias("label"),
  )  # fmt: skip
  return negatives.unionByName(positives)


class _BatchWriter:
  """Writes each batch once: what `samples/.spark.json` holds is the last batch that was, and how its files are to be named."""

  def __init__(self, config: Any):
    self._config = config.to_dict()
    self._folder = samples.SampleFolder(config.samples.folder)
    self._record = self._folder.folder / ".spark.json"
    self.counts = {"samples": 0, "late_actions": 0}
    self._last = (
      json.loads(self._record.read_text())
      if self._record.exists()
      else {"batch": -1, "next_file": 0, "files": {}}
    )
    self._name()

  def __call__(self, batch: DataFrame, number: int) -> None:
    if number <= self._last["batch"]:
      return
    plain = self._config
    written = batch.mapInArrow(lambda tables: _write(plain, number, tables), _WRITTEN).collect()
    files = {row.name: self._last["next_file"] + i for i, row in enumerate(sorted(written))}
    self._last = {
      "batch": number,
      "next_file": self._last["next_file"] + len(files),
      "files": files,
    }
    temporary = self._record.with_suffix(".tmp")
    temporary.write_text(json.dumps(self._last))
    os.replace(temporary, self._record)
    self._name()
    self.counts["samples"] += sum(row.samples for row in written)
    self.counts["late_actions"] += sum(row.late for row in written)

  def _name(self) -> None:
    for name, number in self._last["files"].items():
      if (self._folder.folder / name).exists():
        os.rename(self._folder.folder / name, self._folder.path(number))
    for path in self._folder.folder.glob(".spark-*"):  # of a task or a batch that was repeated
      path.unlink()


def _session(config: Any) -> SparkSession:
  os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
  builder = SparkSession.builder.appName("tfps join").master(config.spark.master)
  defaults = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "2",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    "spark.sql.streaming.numRecentProgressUpdates": "10000",
  }
  for name, value in {**defaults, **dict(config.spark.settings)}.items():
    builder = builder.config(name, value)
  try:
    return builder.getOrCreate()
  except (pyspark.errors.PySparkRuntimeError, OSError) as error:
    raise ConfigError(
      "Spark could not be started; it needs Java 17 (JAVA_HOME, or java on the path)."
    ) from error


def _log(session: SparkSession, config: Any, log: str) -> DataFrame:
  """The records of a log as they are: lines or messages in one column `value`, or Parquet's columns."""
  fields = config[log]
  if fields.topic:
    reader = session.readStream.format("kafka").option(
      "kafka.bootstrap.servers", config.kafka.brokers
    )
    for name, value in config.kafka.settings:
      reader = reader.option(f"kafka.{name}", value)
    reader = reader.option("subscribe", fields.topic).option("startingOffsets", "earliest")
    return reader.load().selectExpr("cast(value as string) as value")
  reader = session.readStream.option("recursiveFileLookup", "true")
  if fields.format == "json":
    return reader.text(fields.folder)
  schema = session.read.option("recursiveFileLookup", "true").parquet(fields.folder).schema
  return reader.schema(schema).parquet(fields.folder)


def _decode(plain: dict, log: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
  config = config_dict.ConfigDict(plain)
  decoder = Decoder(config, settings_lib.of_config(config))
  where = config[log].folder or config[log].topic
  for batch in batches:
    table = pa.Table.from_batches([batch])
    if config[log].topic or config[log].format == "json":
      lines = "\n".join(line for line in table["value"].to_pylist() if line)
      table = decoder.json_lines(lines.encode(), where)
    if not table.num_rows:
      continue
    records = getattr(decoder, log)(table, where)
    if records is None or not len(records):
      continue
    time = records.time if log == "features" else records["time"].copy()
    keys = (
      records.keys if log == "features" else Keys(records["hash"].copy(), records["check"].copy())
    )
    columns = {"hash": keys.hash.view(np.int64), "check": keys.check.astype(np.int64)}
    columns["time"] = pa.array(time * 1000).cast(_ARROW_TIME)
    if log == "features":
      columns["entries"] = records.entries
    else:
      columns["kind"] = records["kind"].astype(np.int32)
      columns["value"] = records["value"].copy()
    yield pa.RecordBatch.from_pydict(columns)


def _write(plain: dict, number: int, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
  """Labels the rows of a task and writes them to a hidden file."""
  config = config_dict.ConfigDict(plain)
  settings = settings_lib.of_config(config)
  folder = samples.SampleFolder(config.samples.folder)
  parts, late = [], 0
  for batch in batches:
    if batch.num_rows:
      if settings.policy == "early":
        made = _early_samples(batch, settings)
      else:
        features, actions = _features(batch), _actions(batch)
        whole, outside = labelling.labelled(features, labelling.match(features, actions), settings)
        made = [whole]
        late += int(np.count_nonzero(outside))
      parts += [samples.records(**vars(one)) for one in made if len(one)]
  if parts:
    name = f".spark-{number}-{uuid.uuid4().hex}"
    folder.write(name, parts)
    yield pa.RecordBatch.from_pydict(
      {"name": [name], "samples": [sum(map(len, parts))], "late": [late]}
    )


def _features(batch: pa.RecordBatch) -> Features:
  column = {name: batch.column(name) for name in batch.schema.names}
  keys = Keys(
    column["hash"].to_numpy().view(np.uint64), column["check"].to_numpy().astype(np.uint32)
  )
  time = column["time"].cast(pa.timestamp("ms", "UTC")).cast(pa.int64()).to_numpy()
  return Features(keys, time, pa.concat_arrays([column["entries"]]).cast(pa.binary()))


def _actions(batch: pa.RecordBatch) -> np.ndarray:
  lists = batch.column("actions")
  owner = np.repeat(np.arange(len(lists)), lists.value_lengths().to_numpy())
  flat = lists.flatten()
  fields = [flat.field(name).to_numpy(zero_copy_only=False) for name in ("time", "kind", "value")]
  return actions_of(_features(batch).keys.take(owner), *fields)


def _early_samples(batch: pa.RecordBatch, settings: settings_lib.Settings) -> list[Samples]:
  features = _features(batch)
  label = batch.column("label").to_numpy()
  time = batch.column("action_time").to_numpy()
  rows, nothing = np.arange(len(features)), np.zeros(len(features))
  pairs = labelling.Matched(rows, nothing, time, nothing, nothing[:0], 0)
  made = [labelling.negatives(features.take(np.flatnonzero(label == -1)), settings)]
  for number, each in enumerate(settings.labels):
    made.append(labelling.positives(features, pairs, label == number, each, settings))
  return made


def _cause(error: Exception) -> str:
  """The line of an error of a Python worker that says what was wrong."""
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  told = [line for line in lines if "BadRecord" in line or "ConfigError" in line]
  return (told or lines)[-1 if told else 0]
