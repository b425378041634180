"""The fields of a join's config, and the same settings checked and in milliseconds."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import config_dict

from tfps.errors import ConfigError

POLICIES = ("wait", "early")
VALUES = ("", "max", "min", "sum", "first", "last")
ENGINES = ("process", "spark")
_LABEL_FIELDS = {"action", "wait", "value", "undo"}
_MOST_WAITING_SLICES = 60
_LONGEST_SLICE_MS = 60_000


def default_config() -> config_dict.ConfigDict:
  """A ConfigDict with every field that `tfps join` reads.

  A config sets `labels`, paths and what differs.
  """
  config = config_dict.ConfigDict()
  config.engine = "process"
  # The two logs, each files in a folder or a Kafka topic of JSON messages; format: "json" (one
  # object a line) or "parquet".
  log = {"folder": "", "format": "json", "topic": "", "time": "time", "time_unit": "s"}
  config.features = config_dict.create(**log, request_id="request_id", item_id="item_id")
  config.actions = config_dict.create(
    **log, request_id="request_id", item_id="item_id", action="action", value="value"
  )
  # Brokers of the topics, and more of librdkafka's settings, like (("security.protocol", "ssl"),).
  config.kafka = config_dict.create(brokers="", settings=())
  # Which fields of the feature log go into samples, and as what: {"user_id": "string"}, or "int" or
  # "float"; a field may hold one value or a list. All, with the types in the first file that is
  # read, where it is empty.
  config.slots = config_dict.ConfigDict()

  # {label: {"action": ..., "wait": seconds, "value": ""}}: 1 if the action comes within `wait`
  # seconds of the show. With a `value` ("max", "min", "sum", "first" or "last"), the label is that
  # of the actions' values, and 0 without an action. With "undo": "unlike", an action of that kind
  # takes back those before it.
  config.labels = config_dict.ConfigDict()
  config.click_label = ""  # the label that is the click; the first where it is empty
  config.policy = "wait"  # or "early": negatives at once, positives once more when the action comes

  # Seconds of event time: how late a record may be in its partition or file; by how much an
  # action's clock may be before the features'; how long after its window a record is still known,
  # so that its copies and late actions are recognised.
  config.disorder = 60.0
  config.skew = 5.0
  config.remember = 3600.0
  # Windows are closed in steps of this many seconds; 0: a sixtieth of the longest window, from 1 to
  # 60 seconds.
  config.slice = 0.0
  # A log, or a partition of its topic, without records for this many seconds of this machine's
  # clock no longer holds the watermark back; 0: it always does.
  config.idle = 0.0
  # Records whose time is more than this many seconds in the future are bad.
  config.max_future = 3600.0
  config.bad_records = "stop"  # or "skip"

  # Where waiting records and positions are kept, and where samples go: a folder, or a topic.
  config.state = ""
  config.samples = config_dict.create(folder="", topic="", records_per_file=100_000)
  # The join reads at most `batch_bytes` of a log at once, and looks for more every `poll` seconds.
  config.batch_bytes = 16 << 20
  config.poll = 2.0
  # Spark: the program's master, and settings of its own like (("spark.sql.shuffle.partitions",
  # "200"),).
  config.spark = config_dict.create(master="local[*]", settings=())
  return config


@dataclasses.dataclass(frozen=True)
class Label:
  """One label of a sample: its action, its window, and how values become one ("" for 0 or 1)."""

  name: str
  action: str
  wait_ms: int
  value: str = ""
  undo: str = ""  # the kind of action that takes it back


@dataclasses.dataclass(frozen=True)
class Settings:
  """The semantics of a join, free of where its records come from and go to.

  Times in milliseconds.
  """

  labels: tuple[Label, ...]
  click_label: str
  policy: str = "wait"
  disorder_ms: int = 60_000
  skew_ms: int = 5_000
  remember_ms: int = 3_600_000
  slice_ms: int = 0

  def __post_init__(self) -> None:
    if not self.slice_ms:
      slice_ms = min(max(1000, self.wait_ms // _MOST_WAITING_SLICES), _LONGEST_SLICE_MS)
      object.__setattr__(self, "slice_ms", slice_ms)

  @property
  def actions(self) -> tuple[str, ...]:
    """The kinds of actions that labels are made of, each once."""
    kinds = (kind for label in self.labels for kind in (label.action, label.undo) if kind)
    return tuple(dict.fromkeys(kinds))

  @property
  def wait_ms(self) -> int:
    """The longest window."""
    return max(label.wait_ms for label in self.labels)

  @property
  def longest(self) -> dict[str, Label]:
    """For each kind of actions the label with the longest window."""
    return {label.action: label for label in sorted(self.labels, key=lambda label: label.wait_ms)}

  def identity(self) -> dict:
    """Returns the settings that must not change while records wait."""
    return {
      "policy": self.policy,
      "slice": self.slice_ms / 1000,
      "actions": list(self.actions),
    }


def of_config(config: Any) -> Settings:
  """The Settings of a config; raises ConfigError about the field that is wrong."""
  if not config.labels:
    raise ConfigError(
      "config.labels is empty; a join needs a label like "
      '{"click": {"action": "click", "wait": 600.0}}.'
    )
  labels = tuple(_label(name, fields) for name, fields in config.labels.items())
  click_label = config.click_label or labels[0].name
  if click_label not in config.labels:
    raise ConfigError(
      f"config.click_label is {click_label!r}, which is none of {', '.join(config.labels)}."
    )
  _one_of("policy", config.policy, POLICIES)
  _one_of("bad_records", config.bad_records, ("stop", "skip"))
  _one_of("engine", config.engine, ENGINES)
  if config.policy == "early" and any(label.value or label.undo for label in labels):
    label = next(label for label in labels if label.value or label.undo)
    raise ConfigError(
      f"config.labels.{label.name} has {'a value' if label.value else 'an undo'}, which is known "
      "only when its window closes; "
      "config.policy must be 'wait'."
    )
  for field in ("disorder", "skew", "remember", "slice", "idle", "max_future", "poll"):
    if config[field] < 0:
      raise ConfigError(f"config.{field} is {config[field]}; it must not be negative.")
  if config.slice and config.slice < 1:
    raise ConfigError(
      f"config.slice is {config.slice}; it must be at least 1 second, or 0 to be chosen."
    )
  for field, value in (
    ("batch_bytes", config.batch_bytes),
    ("samples.records_per_file", config.samples.records_per_file),
  ):
    if value < 1:
      raise ConfigError(f"config.{field} is {value}; it must be at least 1.")
  for name, kind in config.slots.items():
    _one_of(f"slots.{name}", kind, ("string", "int", "float"))
  return Settings(
    labels=labels,
    click_label=click_label,
    policy=config.policy,
    disorder_ms=_ms(config.disorder),
    skew_ms=_ms(config.skew),
    remember_ms=_ms(config.remember),
    slice_ms=_ms(config.slice),
  )


def _label(name: str, fields: Mapping) -> Label:
  fields = dict(fields)
  unknown = set(fields) - _LABEL_FIELDS
  if unknown or not fields.get("action") or "wait" not in fields:
    problem = (
      f"has no field {sorted(unknown)[0]!r}" if unknown else "needs an action and a wait in seconds"
    )
    raise ConfigError(
      f"config.labels.{name} {problem}; its fields are action, wait, value and undo."
    )
  if not name or "/" in name:
    raise ConfigError(
      f"config.labels has a label {name!r}; a label's name must not be empty or have a slash."
    )
  if not isinstance(fields["wait"], (int, float)) or fields["wait"] <= 0:
    raise ConfigError(
      f"config.labels.{name}.wait is {fields['wait']!r}; it must be a number of seconds above 0."
    )
  value = fields.get("value", "")
  _one_of(f"labels.{name}.value", value, VALUES)
  undo = fields.get("undo", "")
  if undo and (value or undo == fields["action"]):
    raise ConfigError(
      f"config.labels.{name} has undo {undo!r}, which needs a label without a value and a kind of "
      "its own; for actions that carry a value, take the value 'last'."
    )
  return Label(name, fields["action"], _ms(fields["wait"]), value, undo)


def _one_of(field: str, value: object, allowed: Collection[object]) -> None:
  if value not in allowed:
    raise ConfigError(
      f"config.{field} is {value!r}; it must be one of {', '.join(map(repr, allowed))}."
    )


def _ms(seconds: float) -> int:
  return round(seconds * 1000)
