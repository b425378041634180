"""A run of the join in this process: reads both logs, writes samples, commits, and repeats."""

from __future__ import annotations

import collections
import json
import pathlib
import signal
import sys
import time
from typing import Any

import tqdm

from tfps.errors import ConfigError
from tfps.join import samples as samples_lib
from tfps.join import settings as settings_lib
from tfps.join.batches import Samples
from tfps.join.files import FolderLog
from tfps.join.joiner import LOGS, Joiner
from tfps.join.records import Decoder
from tfps.join.schema import Schema
from tfps.join.store import Store
from tfps.join.whole_file import write_whole

_MOST_UNMATCHED = 1_000_000  # actions, 26 bytes each, whose feature records have not come


class Run:
  """A join from a config.

  Args:
    config: fields as in `settings.default_config`.
    once: end when all that is there is read.
    close: then close all windows.
  """

  def __init__(self, config: Any, once: bool = False, close: bool = False):
    settings = settings_lib.of_config(config)
    if not config.state:
      raise ConfigError("config.state is empty; give a folder for the records that wait.")
    self._config, self._once, self._close = config, once, close
    self._stopping = False
    self._decoder = Decoder(config, settings, Schema(config, grows=True))
    self._reached: dict[str, int | None] = {}
    self._store = Store(config.state)
    self._joiner = Joiner(settings, self._store)
    self._output = _output(config, self._store)
    self._logs = {log: _open_log(config, log, self._store, self._decoder, once) for log in LOGS}
    self._next_file = self._store.get("next_file", self._output.newest() + 1)
    self._output.publish(self._next_file)

  def run(self) -> dict[str, int | float | None]:
    """Joins until it is stopped, or once what is there is read; returns the metrics."""
    before = {
      number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)
    }
    bar = tqdm.tqdm(unit=" records", desc="join", disable=None, smoothing=0.1)
    try:
      while not self._stopping:
        records = self._step()
        bar.update(records)
        bar.set_postfix_str(self._summary(), refresh=False)
        if not records:
          if self._once:
            break
          self._sleep()
      if self._once and self._close and not self._stopping:
        self._step(close=True)
      return self.metrics()
    finally:
      bar.close()
      for number, handler in before.items():
        signal.signal(number, handler)
      for log in self._logs.values():
        log.close()
      self._store.close()

  def metrics(self) -> dict[str, int | float | None]:
    """Returns counts since the join began, what waits, and the watermark's lag in seconds."""
    watermark, bad = self._joiner.watermark, self._bad()
    return {
      **dict(sorted(self._joiner.counts.items())),
      "waiting_features": self._joiner.waiting,
      "bad_records": sum(bad.values()),
      **{f"bad_records/{reason}": count for reason, count in bad.items()},
      "unknown_actions": self._store.get("unknown_actions", 0),
      "watermark": None if watermark is None else watermark / 1000,
      "watermark_lag": None if watermark is None else time.time() - watermark / 1000,
    }

  def _step(self, close: bool = False) -> int:
    """Reads once, joins, writes and commits; returns how many records were read."""
    batches, read = {}, 0
    order = [] if close else self._order()
    for log in order:
      if self._is_held_back(log, order, read):
        break
      records = self._logs[log].poll(self._config.batch_bytes)
      if records is not None:
        if log == "features" and self._decoder.schema.kinds is None:
          self._decoder.schema.infer(*self._logs[log].first())
        decoded = getattr(self._decoder, log)(records)
        self._logs[log].came(decoded)
        batches[log] = decoded.batch
        read += len(records)
        if not self._in_step(log):
          break  # The other one is behind; it is read alone until it is not.
    changed = {log: self._logs[log].changed_positions() for log in LOGS}
    reached = {log: self._logs[log].reached() for log in self._holding()}
    if not read and not close and not any(changed.values()) and reached == self._reached:
      return 0
    self._reached = reached
    self._store.begin()
    writer = _Writer(self._output, self._next_file, self._config.samples.records_per_file)
    for batch in self._joiner.step(batches.get("features"), batches.get("actions"), reached, close):
      writer.add(batch)
    writer.flush()
    self._joiner.counts["samples"] += writer.samples
    self._joiner.save()
    for log, positions in changed.items():
      self._store.set_positions(log, positions)
      self._store.set_tails(log, self._logs[log].changed_tails())
      self._logs[log].forget_complete()
      self._store.set(f"times/{log}", self._logs[log].times)
    self._store.set("bad_records", self._bad())
    self._store.set(
      "unknown_actions", self._store.get("unknown_actions", 0) + self._decoder.unknown
    )
    self._decoder.bad.clear()
    self._decoder.unknown = 0
    self._store.set("next_file", writer.next_file)
    self._store.commit()
    self._decoder.schema.tell()
    self._next_file = writer.next_file
    if writer.samples:
      self._output.publish(self._next_file)
    self._joiner.committed()
    self._write_metrics()
    return read

  def _bad(self) -> dict[str, int]:
    """{reason: how many records were left out since the join began}."""
    before = self._store.get("bad_records", {})
    if isinstance(before, int):  # of a state that had no reasons
      before = {"other": before} if before else {}
    return dict(sorted((collections.Counter(before) + self._decoder.bad).items()))

  def _order(self) -> list[str]:
    """The logs, that which is behind in event time first."""
    return sorted(LOGS, key=lambda log: self._logs[log].reached() or 0)

  def _in_step(self, log: str) -> bool:
    """Whether the other log may be read too after this one: whether it is not far ahead."""
    other = LOGS[1 - LOGS.index(log)]
    ahead = (self._logs[other].reached() or 0) - (self._logs[log].reached() or 0)
    return ahead <= self._config.disorder * 1000

  def _holding(self) -> list[str]:
    """The logs that hold the watermark back: those that are not idle, or both."""
    return [log for log in LOGS if not self._logs[log].is_idle()] or list(LOGS)

  def _is_held_back(self, log: str, order: list[str], read: int) -> bool:
    """Whether actions stay in their log: too many wait, and no feature records come for them."""
    is_behind = order[0] == "features" and not read and "features" in self._holding()
    is_full = self._joiner.unmatched >= _MOST_UNMATCHED
    return log == "actions" and is_behind and is_full and not self._once

  def _summary(self) -> str:
    counts = self._joiner.counts
    lag = self.metrics()["watermark_lag"]
    parts = [
      f"samples {counts['samples']:,}",
      f"waiting {self._joiner.waiting:,}",
      f"late {counts['late_actions']:,}",
    ]
    return ", ".join(parts + ([] if lag is None else [f"watermark {lag:,.0f} s behind"]))

  def _write_metrics(self) -> None:
    text = json.dumps(self.metrics(), indent=2) + "\n"
    write_whole(pathlib.Path(self._config.state, "metrics.json"), text)

  def _sleep(self) -> None:
    until = time.monotonic() + self._config.poll
    while not self._stopping and time.monotonic() < until:
      time.sleep(min(0.1, max(0.0, until - time.monotonic())))

  def _stop(self, number: int, frame: Any) -> None:
    if self._stopping:
      raise KeyboardInterrupt
    self._stopping = True
    print("tfps: ending after this step", file=sys.stderr)


class _Writer:
  """Cuts samples into files and stages them."""

  def __init__(self, output: Any, next_file: int, records_per_file: int):
    self._output = output
    self._records_per_file = records_per_file
    self._records: list[Any] = []
    self._count = 0
    self.next_file = next_file
    self.samples = 0

  def add(self, batch: Samples) -> None:
    for begin in range(0, len(batch), self._records_per_file):
      part = batch.slice(begin, self._records_per_file)
      self._records.append(samples_lib.records(**vars(part)))
      self._count += len(part)
      if self._count >= self._records_per_file:
        self.flush()

  def flush(self) -> None:
    if self._count:
      self._output.stage(self.next_file, self._records)
      self.next_file += 1
      self.samples += self._count
      self._records, self._count = [], 0


def _open_log(config: Any, log: str, store: Store, decoder: Decoder, once: bool) -> Any:
  fields = config[log]
  if bool(fields.folder) == bool(fields.topic):
    raise ConfigError(f"config.{log} needs a folder or a topic, and not both.")
  times = store.get(f"times/{log}", {})
  if fields.topic:
    from tfps.join.kafka import TopicLog

    return TopicLog(config, log, store.positions(log), times, once)
  if fields.format not in ("json", "parquet"):
    raise ConfigError(f"config.{log}.format is {fields.format!r}; it must be 'json' or 'parquet'.")
  read = store.positions(log), store.tails(log)
  return FolderLog(config, log, *read, times, decoder, once)


def _output(config: Any, store: Store) -> Any:
  fields = config.samples
  if bool(fields.folder) == bool(fields.topic):
    raise ConfigError("config.samples needs a folder or a topic, and not both.")
  if fields.topic:
    from tfps.join.kafka import SampleTopic

    return SampleTopic(config, pathlib.Path(config.state, "outbox"), store)
  return samples_lib.SampleFolder(fields.folder)
