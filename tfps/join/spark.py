"""The join as a Spark Structured Streaming program, for logs too large for one process.

Records are decoded by the same code, in Spark's Python workers (`spark_tasks`). Features, each
once, are outer-joined with actions within the longest window, by event time with watermarks; when a
record's window is closed, its actions are collected and labelled by the same code. With the policy
`early` features come out at once, and once more for each label that an inner join finds. A second
outer join, from the actions' side and with the ids of features only, tells late actions from
unknown ones. Each task writes its samples under a hidden name to the samples' folder, which all
tasks must reach; the driver names the files when the batch is complete, and recognises a batch that
Spark repeats after a restart by its number.
"""

from __future__ import annotations

import collections
import functools
import json
import os
import pathlib
import signal
import sys
import time
from typing import Any

from tfps.errors import ConfigError
from tfps.join import samples, spark_tasks
from tfps.join import settings as settings_lib
from tfps.join.settings import Settings
from tfps.join.whole_file import write_whole

try:
  import pyspark
  from pyspark.sql import DataFrame, SparkSession
  from pyspark.sql import functions as f

  from tfps.join import spark_parts as parts
except ImportError as error:
  raise ConfigError(
    "The engine 'spark' needs PySpark and Java 17: pip install 'tfps[spark]'."
  ) from error

_LOOK_SECONDS = 0.5  # between looks at what is idle


def run(config: Any, once: bool = False, close: bool = False) -> dict[str, int | float | None]:
  """Runs the join until SIGTERM, or with `once` until all that is there is read.

  Returns metrics.
  """
  settings = settings_lib.of_config(config)
  if not config.state or not config.samples.folder:
    raise ConfigError(
      "The engine 'spark' needs config.state and config.samples.folder, on a file system that "
      "all its tasks reach."
    )
  for log in ("features", "actions"):
    if not config[log].topic and not pathlib.Path(config[log].folder).is_dir():
      raise ConfigError(f"There is no folder {config[log].folder} to read a log from.")
  session = _session(config)
  try:
    parts.infer_schema(session, config, settings, wait=not once)
    writer = _BatchWriter(config, settings)
    trigger = {"processingTime": f"{max(config.poll, 0.1)} seconds"}
    stopped = _run(session, config, settings, writer, {"availableNow": True} if once else trigger)
    if once and close and writer.newest and not stopped:
      # A time after which all windows are closed, as the last one of both logs.
      end = writer.newest + settings.slice_ms + max(settings.wait_ms, settings.skew_ms)
      write_whole(parts.all_ends(config) / str(end), str(end + settings.disorder_ms))
      _run(session, config, settings, writer, {"availableNow": True})
  finally:
    session.stop()
  return writer.metrics()


def _run(
  session: SparkSession, config: Any, settings: Settings, writer: _BatchWriter, trigger: dict
) -> bool:
  """Runs the query to its end; whether that was SIGTERM."""
  query = (
    joined(session, config, settings)
    .writeStream.outputMode("append")
    .option("checkpointLocation", str(_checkpoint(config)))
    .foreachBatch(writer)
    .trigger(**trigger)
    .start()
  )
  stopped = []

  def stop(*_: object) -> None:
    stopped.append(True)
    query.stop()

  before = signal.signal(signal.SIGTERM, stop)
  idle = parts.Idle(session, config)
  try:
    while not query.awaitTermination(_LOOK_SECONDS):
      idle.look(query.recentProgress, writer.newest)
  except pyspark.errors.StreamingQueryException as error:
    raise ValueError(f"Spark's query failed: {_cause(error)}") from error
  finally:
    signal.signal(signal.SIGTERM, before)
  return bool(stopped)


def joined(session: SparkSession, config: Any, settings: Settings) -> DataFrame:
  """A streaming DataFrame of what `spark_tasks.write` makes samples of, and counts.

  A row is what its column `what` says. A sample is, with the policy `wait`, a feature record whose
  window is closed, with all of its `actions`; with `early` each feature record at once, with the
  `label` -1, and once more for each label that it gets, with the `action_time`. Records that came
  are identified by their keys; `shown` of an action that ended is the time of its feature record,
  null without one.
  """
  features, came, actions = (
    _records(session, config, settings, what) for what in ("features", "shows", "actions")
  )
  features, shows = (
    each.dropDuplicatesWithinWatermark(["hash", "check"]) for each in (features, came)
  )
  ended = actions.alias("a").join(
    shows.alias("f"), _belongs(settings, settings.wait_ms + settings.remember_ms), "leftOuter"
  )
  rows = [
    *(_early if settings.policy == "early" else _wait)(features, actions, settings),
    _what(came, spark_tasks.FEATURE_CAME),
    _what(actions, spark_tasks.ACTION_CAME),
    _what(ended.select("a.*", f.col("f.time").alias("shown")), spark_tasks.ACTION_ENDED),
  ]
  if settings.policy == "wait":
    rows.append(_what(shows, spark_tasks.FEATURE_NEW))
  union = rows[0]
  for more in rows[1:]:
    union = union.unionByName(more, allowMissingColumns=True)
  return union


def _what(rows: DataFrame, what: int) -> DataFrame:
  return rows.withColumn("what", f.lit(what))


def _belongs(settings: Settings, wait_ms: int) -> Any:
  return f.expr(
    f"f.hash = a.hash and f.check = a.check and a.time >= f.time - interval {settings.skew_ms} "
    f"milliseconds and a.time <= f.time + interval {wait_ms} milliseconds"
  )


def _wait(features: DataFrame, actions: DataFrame, settings: Settings) -> list[DataFrame]:
  """Each feature record with all of its actions, when its window is closed."""
  action = f.when(
    f.col("a.kind").isNotNull(),
    f.struct(
      f.expr("unix_millis(a.time)").alias("time"),
      f.col("a.kind").alias("kind"),
      f.col("a.value").alias("value"),
    ),
  )
  pairs = features.alias("f").join(
    actions.alias("a"), _belongs(settings, settings.wait_ms), "leftOuter"
  )
  pairs = pairs.select("f.hash", "f.check", "f.time", "f.entries", action.alias("action"))
  whole = pairs.groupBy("hash", "check", "time").agg(
    f.first("entries").alias("entries"), f.collect_list("action").alias("actions")
  )
  return [_what(whole, spark_tasks.SAMPLE)]


def _early(features: DataFrame, actions: DataFrame, settings: Settings) -> list[DataFrame]:
  """Each feature record at once, and for each of its labels the first action within the window."""
  gets = f.array(
    *(
      f.expr(
        f"if(a.kind = {settings.actions.index(label.action)} "
        f"and a.time <= f.time + interval {label.wait_ms} milliseconds, {number}, null)"
      )
      for number, label in enumerate(settings.labels)
    )
  )
  pairs = features.alias("f").join(actions.alias("a"), _belongs(settings, settings.wait_ms))
  positives = pairs.select(
    "f.hash", "f.check", "f.time", "f.entries", "a.value",
    f.expr("unix_millis(a.time)").alias("action_time"),
    f.explode(f.array_compact(gets)).alias("label"),
  )  # fmt: skip
  positives = positives.dropDuplicates(["hash", "check", "time", "label"])
  negatives = features.select(
    "hash", "check", "time", "entries",
    f.expr("unix_millis(time)").alias("action_time"), f.lit(-1).alias("label"),
  )  # fmt: skip
  return [_what(rows, spark_tasks.SAMPLE) for rows in (negatives, positives)]


class _BatchWriter:
  """Writes each batch once; `spark.json` in the state's folder names the last one that was written.

  The file also has how the batch's files are named, and counts.

  Attributes:
    newest: the largest time of a record of both logs, in milliseconds; 0 without one.
  """

  def __init__(self, config: Any, settings: Settings):
    self._config = config.to_dict()
    self._settings = settings
    self._checkpoint = _checkpoint(config)
    self._folder = samples.SampleFolder(config.samples.folder)
    self._record = pathlib.Path(config.state, "spark.json")
    self._last: dict[str, Any] = {"batch": -1, "next_file": self._folder.newest() + 1, "files": {}}
    self._last |= {"counts": {"samples": 0}, "newest": 0}
    if self._record.exists():
      self._last = json.loads(self._record.read_text())
    self._name()

  @property
  def newest(self) -> int:
    return self._last["newest"]

  def __call__(self, batch: DataFrame, number: int) -> None:
    if number <= self._last["batch"]:
      # It is written, but Spark's state and watermark are to move on.
      batch.write.format("noop").mode("append").save()
      return
    plain, expected_after = self._config, self._watermark(number - 1)
    written = batch.mapInArrow(
      lambda tables: spark_tasks.write(plain, number, expected_after, tables), spark_tasks.WRITTEN
    ).collect()
    names = sorted(row.name for row in written if row.name)
    first = self._last["next_file"]
    counts = collections.Counter(self._last["counts"])
    for row in written:
      counts.update(json.loads(row.counts), samples=row.samples)
    self._last = {
      "batch": number,
      "next_file": first + len(names),
      "files": {name: first + i for i, name in enumerate(names)},
      "counts": counts,
      "newest": max([self.newest, *(row.newest for row in written)]),
    }
    write_whole(self._record, json.dumps(self._last))
    self._name()
    metrics = json.dumps(self.metrics(), indent=2)
    write_whole(self._record.with_name("metrics.json"), metrics + "\n")

  def metrics(self) -> dict[str, int | float | None]:
    """Counts since the join began, under the names of the other engine."""
    counts = collections.Counter(self._last["counts"])
    new_or_late = counts["features"] + counts["expired_features"]
    counts["duplicate_features"] = counts["feature_records"] - new_or_late
    if self._settings.policy == "wait":
      counts["waiting_features"] = counts["features"] - counts["samples"]
    ended = sum(counts[f"{what}_actions"] for what in ("used", "duplicate", "late", "unmatched"))
    counts["waiting_actions"] = counts["actions"] - ended
    watermark = self._watermark(self._last["batch"])
    return {
      **dict(sorted(counts.items())),
      "watermark": watermark / 1000 if watermark else None,
      "watermark_lag": time.time() - watermark / 1000 if watermark else None,
    }

  def _watermark(self, number: int) -> int:
    """Returns a batch's watermark in milliseconds, from Spark's checkpoint; 0 without a batch."""
    path = self._checkpoint / "offsets" / str(number)
    return json.loads(path.read_text().splitlines()[1])["batchWatermarkMs"] if number >= 0 else 0

  def _name(self) -> None:
    for name, number in self._last["files"].items():
      if (self._folder.folder / name).exists():
        os.rename(self._folder.folder / name, self._folder.path(number))
    for path in self._folder.folder.glob(".spark-*"):  # of a task or a batch that was repeated
      path.unlink()


def _checkpoint(config: Any) -> pathlib.Path:
  return pathlib.Path(config.state, "spark")


def _session(config: Any) -> SparkSession:
  os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
  builder = SparkSession.builder.appName("tfps join").master(config.spark.master)
  defaults = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "2",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
  }
  for name, value in {**defaults, **dict(config.spark.settings)}.items():
    builder = builder.config(name, value)
  try:
    return builder.getOrCreate()
  except (pyspark.errors.PySparkRuntimeError, OSError) as error:
    raise ConfigError(
      "Spark could not be started; it needs Java 17 (JAVA_HOME, or java on the path)."
    ) from error


def _records(session: SparkSession, config: Any, settings: Settings, what: str) -> DataFrame:
  """Records of a log as `spark_tasks.COLUMNS` says, by key: all that read them share the shuffle.

  So that it is one they must ask for the same columns, and for nothing that Spark would rather do
  before it. Each part of the log has a watermark, and Spark takes the smallest.
  """
  plain, columns = config.to_dict(), spark_tasks.COLUMNS[what]
  log = "actions" if what == "actions" else "features"
  records = []
  for name, part in parts.of(session, config, log).items():
    came = part.mapInArrow(lambda batches: spark_tasks.decode(plain, what, batches), columns)
    for folder in parts.ends(config, name):
      times = session.readStream.text(str(folder))
      came = came.union(times.mapInArrow(lambda batches: spark_tasks.ends(what, batches), columns))
    records.append(came.withWatermark("time", f"{settings.disorder_ms} milliseconds"))
  return functools.reduce(lambda one, other: one.union(other), records).repartition("hash", "check")


def _cause(error: Exception) -> str:
  """The line of an error of a Python worker that says what was wrong."""
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  told = [line for line in lines if "BadRecord" in line or "ConfigError" in line]
  return (told or lines)[-1 if told else 0]
