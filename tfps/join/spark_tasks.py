"""The join's part in Spark's Python workers: columns in and out, by the other engine's code.

A row of the hash 0, which no key has, is no record: its `check` says how many records of a log were
left out and why, and its time may move the watermark on.
"""

from __future__ import annotations

import collections
import json
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ml_collections import config_dict

from tfps.join import labelling, samples
from tfps.join import settings as settings_lib
from tfps.join.batches import Features, Samples, actions_of
from tfps.join.keys import Keys
from tfps.join.lines import Records
from tfps.join.records import REASONS, Decoder
from tfps.join.settings import Settings

_KEY = "hash bigint not null, check bigint not null, time timestamp not null"
COLUMNS = {
  "features": f"{_KEY}, entries binary not null",
  "shows": _KEY,
  "actions": f"{_KEY}, kind int not null, value float not null",
}
WRITTEN = "name string, samples bigint, counts string, newest bigint"
# What a row that comes to `write` is: what becomes a sample; a record of a log that came, or that
# was not there before; an action of which it is known what becomes of it.
SAMPLE, FEATURE_CAME, FEATURE_NEW, ACTION_CAME, ACTION_ENDED = range(5)
# Why records were left out: the place of the reason in REASONS, or of a kind that no label has.
UNKNOWN = len(REASONS)
_WHYS = 1 << 8
_ARROW_TIME = pa.timestamp("us", "UTC")


def decode(plain: dict, what: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
  """Records of a log from its lines, messages or Parquet columns, as COLUMNS.

  Lines and messages are `value`, and `place` says where each is from. "shows" are "features"
  without their features, and name those that are bad.
  """
  config = config_dict.ConfigDict(plain)
  quiet = what == "features" and config.bad_records == "skip"
  decoder = Decoder(config, settings_lib.of_config(config), quiet=quiet)
  log = config["actions" if what == "actions" else "features"]
  for batch in batches:
    records = _records(log, batch)
    if what == "actions":
      actions, _, times = decoder.actions(records)
      keys = Keys(actions["hash"], actions["check"])
      yield _rows(what, keys, actions["time"], actions["kind"], actions["value"])
      if len(times):  # Actions that no label is made of move the watermark on, too.
        yield _no_records(what, int(times.max()), UNKNOWN, 0)
    else:
      features, _, times = decoder.features(records)
      more = (features.entries,) if what == "features" else ()
      yield _rows(what, features.keys, times, *more)
  for number, reason in enumerate(REASONS):
    if decoder.bad[reason]:
      yield _no_records(what, 0, number, decoder.bad[reason])
  if decoder.unknown:
    yield _no_records(what, 0, UNKNOWN, decoder.unknown)


def _records(log: Any, batch: pa.RecordBatch) -> Records:
  if not log.topic and log.format != "json":
    where = f"a file of {log.folder}"
    return Records(pa.Table.from_batches([batch]), lambda number: where)
  lines = [(line or b"").replace(b"\n", b" ") for line in batch["value"].to_pylist()]
  places = batch["place"]
  return Records(b"".join(line + b"\n" for line in lines), lambda n: str(places[n]))


def ends(what: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
  """Rows that only move the watermark on, to times in milliseconds that are texts."""
  for batch in batches:
    for text in batch["value"].to_pylist():
      yield _no_records(what, int(text), UNKNOWN, 0)


def _no_records(what: str, time: int, why: int, count: int) -> pa.RecordBatch:
  """A row of COLUMNS[what] that counts records that were left out; time in milliseconds."""
  keys = Keys(np.zeros(1, np.uint64), np.full(1, count * _WHYS + why))
  more = {"actions": ([0], [0.0]), "features": (pa.array([b""]),), "shows": ()}[what]
  return _rows(what, keys, np.array([time]), *more)


def _rows(what: str, keys: Keys, time: np.ndarray, *more: Any) -> pa.RecordBatch:
  names = [column.split()[0] for column in COLUMNS[what].split(", ")]
  types = {"kind": pa.int32(), "value": pa.float32()}
  columns = [keys.hash.astype(np.uint64).view(np.int64), keys.check.astype(np.int64)]
  columns.append(pa.array(time * 1000).cast(_ARROW_TIME))
  columns += [pa.array(column, types.get(name)) for name, column in zip(names[3:], more)]
  return pa.RecordBatch.from_arrays([pa.array(column) for column in columns], names)


def write(
  plain: dict, number: int, expected_after: int, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
  """Labels the rows of a task and writes them to a hidden file.

  Counts what came and what became of it.

  Args:
    plain: the config.
    number: of Spark's batch.
    expected_after: the watermark in milliseconds: Spark leaves out what is not newer.
    batches: of the rows that `spark.joined` describes.
  """
  config = config_dict.ConfigDict(plain)
  settings = settings_lib.of_config(config)
  folder = samples.SampleFolder(config.samples.folder)
  counter = _Counter(settings, expected_after)
  parts = []
  for batch in batches:
    counter.count(batch)
    batch = _only(batch, SAMPLE)
    if batch.num_rows:
      made = (_early if settings.policy == "early" else _whole)(batch, settings, counter)
      parts += [samples.records(**vars(one)) for one in made if len(one)]
  name = f".spark-{number}-{uuid.uuid4().hex}" if parts else None
  if name:
    folder.write(name, parts)
  written = {"name": name, "samples": sum(map(len, parts))}
  written |= {"counts": json.dumps(counter.counts), "newest": counter.newest}
  yield pa.RecordBatch.from_pylist([written])


class _Counter:
  """Counts records by what became of them, under the names of the other engine."""

  def __init__(self, settings: Settings, expected_after: int):
    self._settings = settings
    self._expected_after = expected_after
    self._longest = np.full(len(settings.actions), settings.wait_ms)
    if settings.policy == "early":
      # With `wait`, what is outside of its own label's window is counted with the sample.
      longest = settings.longest
      self._longest[:] = [longest[action].wait_ms for action in settings.actions]
    self.counts: collections.Counter[str] = collections.Counter()
    self.newest = 0

  def count(self, batch: pa.RecordBatch) -> None:
    self._features_came(_only(batch, FEATURE_CAME, records=None))
    self.counts["features"] += _only(batch, FEATURE_NEW).num_rows
    self._actions_came(_only(batch, ACTION_CAME, records=None))
    self._actions_ended(_only(batch, ACTION_ENDED))

  def used(self, count: int) -> None:
    self.counts["used_actions"] += count
    if self._settings.policy == "early":
      self.counts["duplicate_actions"] -= count  # as which `_actions_ended` counted them

  def late(self, kinds: np.ndarray) -> None:
    counts = np.bincount(kinds, minlength=len(self._settings.actions)).tolist()
    for action, count in zip(self._settings.actions, counts):
      self.counts["late_actions"] += count
      self.counts[f"late_actions/{action}"] += count

  def _features_came(self, batch: pa.RecordBatch) -> None:
    left_out, batch = _only(batch, records=False), _only(batch)
    self._left_out(left_out)
    self.counts["feature_records"] += batch.num_rows
    self.counts["expired_features"] += int(np.count_nonzero(self._came_late(batch)))

  def _actions_came(self, batch: pa.RecordBatch) -> None:
    left_out, batch = _only(batch, records=False), _only(batch)
    self._left_out(left_out)
    self.counts["actions"] += batch.num_rows
    self.late(batch["kind"].to_numpy()[self._came_late(batch)])

  def _left_out(self, batch: pa.RecordBatch) -> None:
    for count, why in (divmod(check, _WHYS) for check in batch["check"].to_pylist()):
      if why == UNKNOWN:
        self.counts["unknown_actions"] += count
      else:
        self.counts["bad_records"] += count
        self.counts[f"bad_records/{REASONS[why]}"] += count

  def _came_late(self, batch: pa.RecordBatch) -> np.ndarray:
    time = _milliseconds(batch["time"])
    self.newest = max(self.newest, int(time.max(initial=0)))
    return time <= self._expected_after

  def _actions_ended(self, batch: pa.RecordBatch) -> None:
    found = batch.filter(batch["shown"].is_valid())
    self.counts["unmatched_actions"] += batch.num_rows - found.num_rows
    kind = found["kind"].to_numpy()
    delay = _milliseconds(found["time"]) - _milliseconds(found["shown"])
    late = delay > self._longest[kind]
    self.late(kind[late])
    if self._settings.policy == "early":
      self.counts["duplicate_actions"] += int(np.count_nonzero(~late))


def _only(
  batch: pa.RecordBatch, what: int | None = None, records: bool | None = True
) -> pa.RecordBatch:
  """The rows that are `what`, of records, of no records, or (None) of both."""
  if what is not None:
    batch = batch.filter(pc.equal(batch["what"], what))
  if records is not None:
    batch = batch.filter((pc.not_equal if records else pc.equal)(batch["hash"], 0))
  return batch


def _milliseconds(time: pa.Array) -> np.ndarray:
  return time.cast(pa.timestamp("ms", "UTC")).cast(pa.int64()).to_numpy()


def _features(batch: pa.RecordBatch) -> Features:
  keys = Keys(batch["hash"].to_numpy().view(np.uint64), batch["check"].to_numpy().astype(np.uint32))
  entries = pa.concat_arrays([batch["entries"]]).cast(pa.binary())
  return Features(keys, _milliseconds(batch["time"]), entries)


def _whole(batch: pa.RecordBatch, settings: Settings, counter: _Counter) -> list[Samples]:
  """The one sample of each feature record with its actions, policy `wait`."""
  features, lists = _features(batch), batch["actions"]
  owner = np.repeat(np.arange(len(lists)), lists.value_lengths().to_numpy())
  flat = lists.flatten()
  fields = [flat.field(name).to_numpy(zero_copy_only=False) for name in ("time", "kind", "value")]
  matched = labelling.match(features, actions_of(features.keys.take(owner), *fields))
  made, outside = labelling.labelled(features, matched, settings)
  counter.used(int(np.count_nonzero(~outside)))
  counter.counts["duplicate_actions"] += matched.duplicates
  counter.late(matched.kind[outside])
  return [made]


def _early(batch: pa.RecordBatch, settings: Settings, counter: _Counter) -> list[Samples]:
  """A negative of each feature record, and a positive of each label that it got, policy `early`."""
  features = _features(batch)
  label = batch["label"].to_numpy()
  time = batch["action_time"].to_numpy()
  rows, nothing = np.arange(len(features)), np.zeros(len(features))
  pairs = labelling.Matched(rows, nothing, time, nothing, nothing[:0], 0)
  made = [labelling.negatives(features.take(np.flatnonzero(label == -1)), settings)]
  counter.counts["features"] += len(made[0])
  for number, each in enumerate(settings.labels):
    made.append(labelling.positives(features, pairs, label == number, each, settings))
    if each == settings.longest[each.action]:  # An action that counts for any label counts for it.
      counter.used(len(made[-1]))
  return made
