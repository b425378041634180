"""What the manifest of a checkpoint says."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from tfps.storage import fields, records
from tfps.storage.fields import FieldError, JsonObject
from tfps.table.layout import TableLayout

MEASURES = ("rows", "bytes", "pulls")  # What a table's `load` has.


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableManifest(records.Record):
  """One table of a checkpoint.

  Attributes:
    options: the table's options, from which a `TableLayout` is made.
    slots: the number of each slot, by its name.
    num_shards: how many virtual shards the table has.
    num_servers: how many parameter servers it was on.
    assignment: for each virtual shard the server that has it after a restore.
    saved_on: for each virtual shard the bundle that holds its rows, by its place in `bundles`.
    bundles: the paths of the tensor bundles inside the checkpoint, without endings.
    rows: how many rows the table had.
    load: by each of `MEASURES`, what each virtual shard cost.
    clock: for each server, the number after the largest ticket whose push it has seen; empty in
      checkpoints of early versions.
  """

  options: str
  slots: Mapping[str, int]
  num_shards: int
  num_servers: int
  assignment: list[int]
  saved_on: list[int]
  bundles: list[str]
  rows: int
  load: Mapping[str, list[int]]
  clock: list[int]

  @classmethod
  def from_json(cls, name: str, content: JsonObject, files: Collection[str]) -> TableManifest:
    """The manifest of table `name` in a checkpoint with these `files`; or raises FieldError."""
    options = fields.want(content, "options", str)
    slots = fields.want(content, "slots", dict)
    num_shards = fields.at_least_0(content, "num_shards")
    rows = fields.at_least_0(content, "rows")
    num_servers = fields.at_least_0(content, "num_servers")
    try:
      of_options = TableLayout(options).num_shards
    except (KeyError, ValueError, TypeError, OverflowError):
      raise FieldError(f"the options of table {name!r} are none") from None
    if of_options != num_shards:
      raise FieldError(f"table {name!r} has {num_shards} shards, and {of_options} by its options")
    clock = content.get("clock") or []
    if not fields.are_numbers(clock):
      raise FieldError(f"the clock of table {name!r} is {clock!r}")
    bundles = fields.want(content, "bundles", list)
    for bundle in bundles:
      fields.check_inside(bundle)
      if f"{bundle}.index" not in files:
        raise FieldError(f"bundle {bundle!r} of table {name!r} is none of its files")
    for number in slots.values():
      if not isinstance(number, int) or not 0 <= number < 2**31:
        raise FieldError(f"a slot of table {name!r} has number {number!r}")
    for field, most in (("saved_on", len(bundles)), ("assignment", num_servers)):
      numbers = fields.want(content, field, list)
      if len(numbers) != num_shards or not fields.are_numbers(numbers, most):
        raise FieldError(f"'{field}' of table {name!r} does not say where its shards are")
    return cls(
      options=options,
      slots=slots,
      num_shards=num_shards,
      num_servers=num_servers,
      assignment=content["assignment"],
      saved_on=content["saved_on"],
      bundles=bundles,
      rows=rows,
      load=_load(name, content, num_shards),
      clock=clock,
      further=cls.further_of(content),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingManifest(records.Record):
  """One `tfps.Embedding` of a model.

  Attributes:
    layer: its path in the model.
    table: the name of its table.
    pooled: its pooled slots, in the order in which dense weights belong to them.
    sequences: its other slots.
    mf_dim: the length of its vectors.
  """

  layer: str
  table: str
  pooled: list[str]
  sequences: list[str]
  mf_dim: int

  @classmethod
  def from_json(cls, content: JsonObject) -> EmbeddingManifest:
    """What a JSON object says; raises FieldError if a field is wrong."""
    for field in ("pooled", "sequences"):
      if not all(isinstance(slot, str) for slot in fields.want(content, field, list)):
        raise FieldError(f"'{field}' of an embedding layer does not name slots")
    return cls(
      layer=fields.want(content, "layer", str),
      table=fields.want(content, "table", str),
      pooled=content["pooled"],
      sequences=content["sequences"],
      mf_dim=fields.at_least_0(content, "mf_dim"),
      further=cls.further_of(content),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightManifest(records.Record):
  """One dense weight of a model.

  Attributes:
    name: its path in the model.
    shape: its shape.
    trainable: whether it is trained.
  """

  name: str
  shape: list[int]
  trainable: bool

  @classmethod
  def from_json(cls, content: JsonObject) -> WeightManifest:
    """What a JSON object says; raises FieldError if a field is wrong."""
    shape = fields.want(content, "shape", list)
    if not fields.are_numbers(shape):
      raise FieldError(f"a weight has the shape {shape!r}")
    return cls(
      name=fields.want(content, "name", str),
      shape=shape,
      trainable=fields.want(content, "trainable", bool),
      further=cls.further_of(content),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseManifest(records.Record):
  """What the dense weights of a checkpoint belong to.

  Attributes:
    embeddings: the model's `tfps.Embedding` layers, in order.
    weights: its weights, those that are trained first, in the order of its optimizer.
  """

  embeddings: list[EmbeddingManifest]
  weights: list[WeightManifest]

  @classmethod
  def from_json(cls, content: JsonObject) -> DenseManifest:
    """What a JSON object says; raises FieldError if a field is wrong."""
    groups = [fields.want(content, field, list) for field in ("embeddings", "weights")]
    if not all(isinstance(one, dict) for group in groups for one in group):
      raise FieldError("its field 'dense' does not describe layers and weights")
    embeddings, weights = groups
    return cls(
      embeddings=[EmbeddingManifest.from_json(one) for one in embeddings],
      weights=[WeightManifest.from_json(one) for one in weights],
      further=cls.further_of(content),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointManifest(records.Manifest):
  """A checkpoint.

  Attributes:
    increment_of: the name of the checkpoint whose rows this one's replace or add to; None if this
      one has all rows. `chain.before` checks it.
    lineage: the state of the exporter, as `tfps.export.Exporter.state` gave it; None if there was
      no exporter, or no base.
    calendar: where in its input training was, as the caller of `save` gave it.
    tables: the tables by name.
    dense: what the dense weights belong to; None in checkpoints of early versions, and of tables
      alone.
  """

  increment_of: str | None
  lineage: dict[str, Any] | None
  calendar: dict[str, Any]
  tables: Mapping[str, TableManifest]
  dense: DenseManifest | None = None

  @classmethod
  def from_json(cls, content: JsonObject) -> CheckpointManifest:
    """The manifest that a JSON object holds; raises FieldError if a field is wrong."""
    files = fields.files(content)
    calendar = fields.want(content, "calendar", dict)
    if "increment_of" not in content:
      raise FieldError("its field 'increment_of' is missing")
    return cls(
      increment_of=content["increment_of"],
      lineage=content.get("lineage"),
      calendar=calendar,
      tables={
        name: TableManifest.from_json(name, table, files)
        for name, table in fields.tables(content).items()
      },
      dense=DenseManifest.from_json(fields.want(content, "dense", dict))
      if content.get("dense") is not None
      else None,
      files=files,
      further=cls.further_of(content),
    )


def _load(name: str, content: JsonObject, num_shards: int) -> Mapping[str, list[int]]:
  """`content["load"]`; zeros in checkpoints of early versions, which have none."""
  if "load" not in content:
    return {measure: [0] * num_shards for measure in MEASURES}
  load = content["load"]
  if not isinstance(load, dict) or not all(
    fields.are_numbers(load.get(measure)) and len(load[measure]) == num_shards
    for measure in MEASURES
  ):
    raise FieldError(f"'load' of table {name!r} does not say what its shards cost")
  return load
