"""Makes a new base of a base and deltas on top of it, offline: what `tfps fold` does."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfps.errors import ExportError
from tfps.export import artifact, delta_reader, extras
from tfps.export.artifact import ARTIFACTS, K
from tfps.export.folded_rows import FoldedRows
from tfps.export.manifests import BaseManifest, DeltaManifest
from tfps.export.served.table import buckets_for
from tfps.graph import compat
from tfps.storage import bundles, files

_DEVICES = ["/device:CPU:0"]


class _Delta(NamedTuple):
  path: str
  manifest: DeltaManifest


def fold(
  base: str | os.PathLike[str],
  deltas: Iterable[str | os.PathLike[str]],
  output: str | None = None,
) -> str:
  """Writes a new version with what a server holds that loaded a base and applied deltas.

  A server that loads the new version reports the old base with these deltas, and applies the next
  delta.

  Args:
    base: the path of the base.
    deltas: the paths of deltas, in any order: they apply in the order of their sequence numbers.
    output: the folder of exports; that of `base` by default.

  Returns:
    The artifact's path.

  Raises:
    ExportError: a file is missing or damaged, or the deltas do not go on top of the base, one
      after the other.
    LockError: another process exports to the folder.
  """
  base = os.fspath(base).rstrip("/")
  manifest = _read(base, BaseManifest)
  paths = [os.fspath(path).rstrip("/") for path in deltas]
  ordered = sorted(
    (_Delta(path, _read(path, DeltaManifest)) for path in paths),
    key=lambda delta: delta.manifest.sequence,
  )
  _check(base, manifest, ordered)
  if output is not None:
    folder = files.join(output.rstrip("/"), "base")
  elif "://" in base:
    folder = base.rpartition("/")[0]
  else:
    folder = os.path.dirname(os.path.abspath(base))
  with artifact.hold(folder):
    return _write(folder, base, manifest, ordered)


def _write(folder: str, base: str, manifest: BaseManifest, deltas: Sequence[_Delta]) -> str:
  paths = [path for path, _ in deltas]
  version = ARTIFACTS.next_number(folder)
  prefix = files.join(base, "variables/variables")
  names = {
    table: bundles.row_tensors(begin) for table, begin in bundles.table_prefixes(base).items()
  }
  tables = {
    table: FoldedRows(table, (prefix, names[table]), saved, paths)
    for table, saved in manifest.tables.items()
  }
  last = deltas[-1].manifest

  def write_to(path: str) -> BaseManifest:
    for name in manifest.files:
      if not name.startswith("variables/") and name != extras.EXAMPLES:
        tf.io.gfile.makedirs(os.path.dirname(files.join(path, name)))
        tf.io.gfile.copy(files.join(base, name), files.join(path, name))
    buckets = {table: buckets_for(folded.rows) for table, folded in tables.items()}
    _make_room(files.join(path, "saved_model.pb"), buckets)
    tf.io.gfile.makedirs(files.join(path, "variables"))
    bundles.write_bundle(
      files.join(path, "variables/variables"),
      _other_tensors(base, manifest, names, tables, deltas[-1]),
      [(names[table], folded) for table, folded in tables.items()],
    )
    return dataclasses.replace(
      manifest,
      version=version,
      base=last.base,
      sequence=last.sequence,
      day=last.day,
      step=last.step,
      tables={
        table: dataclasses.replace(saved, rows=tables[table].rows, buckets=buckets[table])
        for table, saved in manifest.tables.items()
      },
    )

  return ARTIFACTS.publish(folder, version, write_to, _DEVICES)


def _other_tensors(
  base: str,
  manifest: BaseManifest,
  names: Mapping[str, bundles.Names],
  tables: Mapping[str, FoldedRows],
  last: _Delta,
) -> dict[str, tf.Tensor]:
  """The variables of the new version, without the rows of tables that have any."""
  of_rows = {name for pair in names.values() for name in pair}
  tensors = bundles.other_tensors(files.join(base, "variables/variables"), of_rows)
  now = {
    "weights": tf.constant(delta_reader.weights(last.path)),
    "progress": tf.constant([last.manifest.sequence, 0], tf.int64),
  }
  for name, value in now.items():
    if name + compat.VARIABLE_VALUE not in tensors:
      raise ExportError(f"{base} has no variable '{name}': it is of another version of tfps.")
    tensors[name + compat.VARIABLE_VALUE] = value
  for table, (keys, rows) in names.items():
    if not tables[table].rows:
      tensors[keys] = tf.zeros([0], tf.int64)
      tensors[rows] = tf.zeros([0, manifest.tables[table].row_width])
  return tensors


def _read(path: str, kind: type[K]) -> K:
  manifest = artifact.read_as(path, kind, ": name one base, then its deltas.")
  artifact.check_files(path, manifest)
  return manifest


def _check(base: str, manifest: BaseManifest, deltas: Sequence[_Delta]) -> None:
  if not deltas:
    raise ExportError(f"There is nothing to fold into {base}: name at least one delta.")
  widths = {name: table.row_width for name, table in manifest.tables.items()}
  for due, (path, delta) in enumerate(deltas, manifest.last_sequence + 1):
    if delta.lineage != manifest.lineage:
      raise ExportError(
        f"{path} is of lineage {delta.lineage}, and {base} of {manifest.lineage}: they do not go "
        "together."
      )
    if delta.base != manifest.first_base:
      raise ExportError(
        f"{path} goes on top of base {delta.base}, and {base} is {manifest.first_base}."
      )
    if delta.sequence != due:
      raise ExportError(
        f"{path} is delta {delta.sequence}, and delta {due} is the next for {base}: name every "
        "delta once, without gaps."
      )
    of_delta = {name: table.row_width for name, table in delta.tables.items()}
    if of_delta != widths or delta.weights != manifest.weights:
      raise ExportError(f"{path} is of another model than {base}.")


def _make_room(path: str, buckets: Mapping[str, int]) -> None:
  """Sets the numbers of buckets of the tables that a SavedModel's graph makes, by table name."""
  with tf.io.gfile.GFile(path, "rb") as file:
    saved_model = compat.saved_model_message().FromString(file.read())
  done = set()
  for meta_graph in saved_model.meta_graphs:
    graph = meta_graph.graph_def
    for nodes in [graph.node, *(function.node_def for function in graph.library.function)]:
      for node in nodes:
        if node.op.startswith("MutableDenseHashTable"):
          name = _table_of(node, buckets)
          if name not in buckets:
            raise ExportError(
              f"{path} makes a table '{node.name}' that its manifest does not name."
            )
          node.attr["initial_num_buckets"].i = buckets[name]
          done.add(name)
  if done != set(buckets):
    raise ExportError(f"{path} has no table {', '.join(sorted(set(buckets) - done))}.")
  with tf.io.gfile.GFile(path, "wb") as file:
    file.write(saved_model.SerializeToString(deterministic=True))


def _table_of(node: Any, names: Iterable[str]) -> str:
  """Which table a node makes. TensorFlow numbers names that a graph has twice: "ctr_1"."""
  name = node.name.rpartition("/")[2].removeprefix("served_")
  return name if name in names else re.sub(r"_\d+$", "", name)
