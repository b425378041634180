"""What the manifests of bases and deltas say.

Fields that decide which rows are read, and where they go, are checked. Those that only describe an
artifact to a person are taken as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfps.storage import fields, records
from tfps.storage.fields import JsonObject


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseTable(records.Record):
  """One table of a base.

  Attributes:
    rows: how many rows it has.
    row_width: floats of a row.
    buckets: the size of the hash table that serves it.
    predicate: which rows the base holds, in words.
    predicate_of_slots: the same for slots with an accessor of their own.
    slots: the number of each slot, by its name.
  """

  rows: int
  row_width: int
  buckets: int | None = None
  predicate: str | None = None
  predicate_of_slots: Mapping[str, str] | None = None
  slots: Mapping[str, int] | None = None

  @classmethod
  def from_json(cls, content: JsonObject) -> BaseTable:
    """The table that a JSON object describes; raises FieldError if a field is wrong."""
    return cls(
      rows=fields.at_least_0(content, "rows"),
      row_width=fields.at_least_0(content, "row_width"),
      buckets=content.get("buckets"),
      predicate=content.get("predicate"),
      predicate_of_slots=content.get("predicate_of_slots"),
      slots=content.get("slots"),
      further=cls.further_of(content),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeltaTable(records.Record):
  """One table of a delta.

  Attributes:
    rows: how many rows it changes.
    row_width: floats of a row.
    removed: how many rows it removes.
  """

  rows: int
  row_width: int
  removed: int

  @classmethod
  def from_json(cls, content: JsonObject) -> DeltaTable:
    """The table that a JSON object describes; raises FieldError if a field is wrong."""
    return cls(
      rows=fields.at_least_0(content, "rows"),
      row_width=fields.at_least_0(content, "row_width"),
      removed=fields.at_least_0(content, "removed"),
      further=cls.further_of(content),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedWeights(records.Record):
  """The vector of dense weights.

  Attributes:
    layout: a text that two vectors share exactly if their numbers mean the same.
    size: how many floats it has.
  """

  layout: str
  size: int

  @classmethod
  def from_json(cls, content: JsonObject) -> PackedWeights | None:
    """`content["weights"]`; None if it is missing."""
    weights = content.get("weights")
    if not isinstance(weights, dict):
      return None
    return cls(
      layout=weights.get("layout", ""),
      size=weights.get("size", 0),
      further=cls.further_of(weights),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArtifactManifest(records.Manifest):
  """What bases and deltas have in common.

  Attributes:
    kind: "base" or "delta".
    lineage: the id that a base and its deltas share.
    day: the ordinal of the last day that was trained.
    step: the number of training steps.
    pause_seconds: how long the tables stood still.
    weights: the dense weights; filled in when the artifact is written.
  """

  kind: str
  lineage: str
  day: int | None
  step: int | None
  pause_seconds: float | None = None
  weights: PackedWeights | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseManifest(ArtifactManifest):
  """A base.

  Attributes:
    version: its number.
    checkpoint: the path of the checkpoint that it was made of, if it was.
    base: the version of the base that it was folded from, if it was.
    sequence: the number of the last delta that was folded into it.
    tables: the tables by name; filled in when the base is written.
  """

  kind: str = "base"
  version: int
  checkpoint: str | None = None
  base: int | None = None
  sequence: int | None = None
  tables: Mapping[str, BaseTable] = dataclasses.field(default_factory=dict)

  @property
  def first_base(self) -> int:
    """The version of the base that the deltas of its lineage name."""
    return self.version if self.base is None else self.base

  @property
  def last_sequence(self) -> int:
    """The number of the last delta in it; 0 if there is none."""
    return self.sequence or 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeltaManifest(ArtifactManifest):
  """A delta.

  Attributes:
    base: the version of the base that it goes on top of.
    sequence: its number, from 1.
    captured_at: when its rows were copied at the trainer, in seconds since 1970.
    tables: the tables by name; filled in when the delta is written.
  """

  kind: str = "delta"
  base: int
  sequence: int
  captured_at: float
  tables: Mapping[str, DeltaTable] = dataclasses.field(default_factory=dict)

  def with_weights(self, weights: PackedWeights) -> DeltaManifest:
    """The same manifest with these dense weights."""
    return dataclasses.replace(self, weights=weights)

  @property
  def events(self) -> Mapping[str, Any] | None:
    """Of a stream: the event times since the delta before, as {samples, oldest, newest, mean}."""
    return self.further.get("events")


Artifact = BaseManifest | DeltaManifest


def from_json(content: JsonObject) -> Artifact:
  """The manifest that a JSON object holds; raises FieldError if a field is wrong."""
  files = fields.files(content)
  kind = fields.want(content, "kind", str)
  common: dict[str, Any] = {
    "kind": kind,
    "lineage": fields.want(content, "lineage", str),
    "day": content.get("day"),
    "step": content.get("step"),
    "pause_seconds": content.get("pause_seconds"),
    "weights": PackedWeights.from_json(content),
    "files": files,
  }
  if kind == "delta":
    return DeltaManifest(
      **common,
      base=fields.at_least_0(content, "base"),
      sequence=fields.at_least_0(content, "sequence"),
      captured_at=fields.want(content, "captured_at", (int, float)),
      tables={name: DeltaTable.from_json(table) for name, table in fields.tables(content).items()},
      further=DeltaManifest.further_of(content),
    )
  return BaseManifest(
    **common,
    version=fields.at_least_0(content, "version"),
    checkpoint=content.get("checkpoint"),
    base=fields.at_least_0(content, "base") if "base" in content else None,
    sequence=fields.at_least_0(content, "sequence") if "sequence" in content else None,
    tables={name: BaseTable.from_json(table) for name, table in fields.tables(content).items()},
    further=BaseManifest.further_of(content),
  )
