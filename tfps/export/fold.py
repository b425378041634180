"""A base and deltas on top of it as a new base, offline: what `tfps fold` does."""

import os
import re

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tfps.errors import ExportError
from tfps.export import artifact, base_artifact, delta_reader, extras
from tfps.export.folded_rows import FoldedRows
from tfps.export.served.table import buckets_for
from tfps.storage import bundles, files

_DEVICES = ["/device:CPU:0"]
_OF_VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"


def fold(base, deltas, output=None):
  """Writes what a server holds that loaded a base and took deltas, as a new version.

  A server that loads it says that it holds the old base with these deltas, and takes the next one.

  Args:
    base: path of the base.
    deltas: paths of deltas, in any order: they apply in that of their sequence numbers.
    output: the folder of exports; that of `base` by default.

  Returns:
    The artifact's path.

  Raises:
    ExportError: a file is missing or damaged, or the deltas do not go on top of the base, one
      after the other.
    LockError: another process exports to the folder.
  """
  base = os.fspath(base).rstrip("/")
  content = _read(base, "base")
  deltas = sorted(
    ((os.fspath(path).rstrip("/"), _read(os.fspath(path).rstrip("/"), "delta")) for path in deltas),
    key=lambda pair: pair[1]["sequence"],
  )
  _check(base, content, deltas)
  if output is None:
    folder = (
      os.path.dirname(os.path.abspath(base)) if "://" not in base else base.rpartition("/")[0]
    )
  else:
    folder = files.join(output.rstrip("/"), "base")
  with artifact.hold(folder):
    return _write(folder, base, content, deltas)


def _write(folder, base, content, deltas):
  paths = [path for path, _ in deltas]
  version = base_artifact.next_version(folder)
  prefix = files.join(base, "variables/variables")
  begins = {
    name: bundles.row_tensors(begin) for name, begin in bundles.table_prefixes(base).items()
  }
  tables = {
    name: FoldedRows(name, (prefix, begins[name]), saved, paths)
    for name, saved in content["tables"].items()
  }
  last = deltas[-1][1]
  writing = artifact.begin(folder, version)
  for name in content["files"]:
    if not name.startswith("variables/") and name != extras.EXAMPLES:
      tf.io.gfile.makedirs(os.path.dirname(files.join(writing, name)))
      tf.io.gfile.copy(files.join(base, name), files.join(writing, name))
  buckets = {name: buckets_for(table.rows) for name, table in tables.items()}
  _make_room(files.join(writing, "saved_model.pb"), buckets)
  filled = {name for table, pair in begins.items() if tables[table].rows for name in pair}
  rows = {name for pair in begins.values() for name in pair}
  dense = bundles.other_tensors(prefix, rows)
  now = {
    "weights": tf.constant(delta_reader.weights(paths[-1])),
    "progress": tf.constant([last["sequence"], 0], tf.int64),
  }
  for name, value in now.items():
    if name + _OF_VARIABLE not in dense:
      raise ExportError(f"{base} has no variable '{name}': it is of another version of tfps.")
    dense[name + _OF_VARIABLE] = value
  for name, (keys, values) in begins.items():
    if keys not in filled:
      dense[keys] = tf.zeros([0], tf.int64)
      dense[values] = tf.zeros([0, content["tables"][name]["row_width"]])
  tf.io.gfile.makedirs(files.join(writing, "variables"))
  bundles.write_bundle(
    files.join(writing, "variables/variables"),
    dense,
    {name: (begins[name], table) for name, table in tables.items()},
  )
  said = {
    **{name: value for name, value in content.items() if name != "files"},
    "version": version,
    "base": last["base"],
    "sequence": last["sequence"],
    "day": last["day"],
    "step": last["step"],
    "tables": {
      name: {**saved, "rows": tables[name].rows, "buckets": buckets[name]}
      for name, saved in content["tables"].items()
    },
  }
  path = files.join(folder, str(version))
  artifact.finish(writing, path, said, _DEVICES)
  return path


def _read(path, kind):
  content = artifact.read(path)
  if content["kind"] != kind:
    raise ExportError(
      f"{path} is a {content['kind']}, and a {kind} is wanted: name one base, then its deltas."
    )
  artifact.check_files(path, content)
  return content


def _check(base, content, deltas):
  if not deltas:
    raise ExportError(f"There is nothing to fold into {base}: name at least one delta.")
  due = content.get("sequence", 0) + 1
  for path, there in deltas:
    if there["lineage"] != content["lineage"]:
      raise ExportError(
        f"{path} is of lineage {there['lineage']}, and {base} of {content['lineage']}: they do not "
        "go together."
      )
    if there["base"] != content.get("base", content["version"]):
      raise ExportError(
        f"{path} goes on top of base {there['base']}, and {base} is "
        f"{content.get('base', content['version'])}."
      )
    if there["sequence"] != due:
      raise ExportError(
        f"{path} is delta {there['sequence']}, and delta {due} is the next for {base}: name every "
        "delta once, without gaps."
      )
    widths = [
      {name: table["row_width"] for name, table in one["tables"].items()}
      for one in (content, there)
    ]
    if widths[0] != widths[1] or there["weights"] != content["weights"]:
      raise ExportError(f"{path} is of another model than {base}.")
    due += 1


def _make_room(path, buckets):
  """Sizes the tables that a SavedModel's graph makes: {name of the table: number of buckets}."""
  with tf.io.gfile.GFile(path, "rb") as file:
    saved_model = saved_model_pb2.SavedModel.FromString(file.read())
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


def _table_of(node, names):
  """Which of the tables a node makes; a name that a graph has twice ends in a number there."""
  name = node.name.rpartition("/")[2].removeprefix("served_")
  return name if name in names else re.sub(r"_\d+$", "", name)
