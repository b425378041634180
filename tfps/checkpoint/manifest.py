"""The manifest: the JSON file that says what a checkpoint holds, and by which it is known to be complete."""

import json
import re
import zlib

import tensorflow as tf

from tfps.errors import CheckpointError
from tfps.storage import fields, files
from tfps.table.layout import TableLayout

NAME = "manifest.json"
CHECKPOINT = re.compile(r"checkpoint-(\d+)")
FORMAT = 2


def write(folder, content, name=NAME):
  """Writes the manifest of a checkpoint, whose other files are there, with a checksum of its own.

  Args:
    folder: the checkpoint's folder.
    content: a dict of what JSON has.
    name: of the file.
  """
  content = {"format": FORMAT, **content}
  with tf.io.gfile.GFile(files.join(folder, name), "w") as file:
    json.dump({**content, "checksum": _checksum(content)}, file)


def replace(folder, content):
  """Puts another manifest in the place of a checkpoint's, in one step."""
  beside = f"new-{NAME}"
  write(folder, content, beside)
  files.sync(files.join(folder, beside))
  tf.io.gfile.rename(files.join(folder, beside), files.join(folder, NAME), overwrite=True)
  files.sync(folder)


def read(folder):
  """The manifest as a dict.

  Raises:
    CheckpointError: it is missing, damaged or of a format that this version of tfps does not know.
  """
  try:
    with tf.io.gfile.GFile(files.join(folder, NAME), "rb") as file:
      content = json.loads(file.read().decode())
    checksum = content.pop("checksum")
  except tf.errors.NotFoundError:
    raise CheckpointError(f"{NAME} is missing") from None
  except (ValueError, KeyError, AttributeError, TypeError):
    raise CheckpointError(f"{NAME} is truncated or was changed") from None
  if checksum != _checksum(content):
    raise CheckpointError(f"{NAME} was changed: its checksum does not hold")
  if content.get("format") != FORMAT:
    raise CheckpointError(
      f"{NAME} has format {content.get('format')}, and this version of tfps reads format {FORMAT}"
    )
  try:
    _check(content)
  except fields.ShapeError as error:
    raise CheckpointError(f"{NAME} is changed: {error}") from None
  return content


def _check(content):
  """Raises ShapeError unless a manifest has what is read of it, and nothing that leads out of its folder."""
  fields.check_files(content)
  fields.want(content, "calendar", dict)
  if "increment_of" not in content:
    raise fields.ShapeError("its field 'increment_of' is missing")
  for name, table in fields.tables(content):
    options = fields.want(table, "options", str)
    slots = fields.want(table, "slots", dict)
    shards = fields.at_least_0(table, "num_shards")
    fields.at_least_0(table, "rows")
    fields.at_least_0(table, "num_servers")
    try:
      of_options = TableLayout(options).num_shards
    except (KeyError, ValueError, TypeError, OverflowError):
      raise fields.ShapeError(f"the options of table {name!r} are none") from None
    if of_options != shards:
      raise fields.ShapeError(
        f"table {name!r} has {shards} shards, and {of_options} by its options"
      )
    clock = table.get("clock") or []
    if not isinstance(clock, list) or not all(type(n) is int and 0 <= n < 2**63 for n in clock):
      raise fields.ShapeError(f"the clock of table {name!r} is {clock!r}")
    bundles = fields.want(table, "bundles", list)
    for bundle in bundles:
      fields.check_inside(bundle)
      if f"{bundle}.index" not in content["files"]:
        raise fields.ShapeError(f"bundle {bundle!r} of table {name!r} is none of its files")
    for number in slots.values():
      if not isinstance(number, int) or not 0 <= number < 2**31:
        raise fields.ShapeError(f"a slot of table {name!r} has number {number!r}")
    for field, most in (("saved_on", len(bundles)), ("assignment", table["num_servers"])):
      numbers = fields.want(table, field, list)
      if len(numbers) != shards or not all(type(n) is int and 0 <= n < most for n in numbers):
        raise fields.ShapeError(f"'{field}' of table {name!r} does not say where its shards are")


def before(folder, content):
  """The path of the checkpoint that the one in `folder` is put over; None if it is a full one."""
  name = content["increment_of"]
  if name is None:
    return None
  if not isinstance(name, str) or not CHECKPOINT.fullmatch(name):
    raise CheckpointError(f"{NAME} names '{name}', which is no checkpoint, as the one before it")
  return files.join(folder.rpartition("/")[0] or ".", name)


def chain(folder):
  """[(folder, manifest)]: the full checkpoint, then each one that is put over those before, up to that in `folder`.

  Raises:
    CheckpointError: as `read`.
  """
  links = [(folder, read(folder))]
  while (earlier := before(*links[0])) is not None:
    if earlier in (path for path, _ in links):
      raise CheckpointError(f"{NAME} is changed: {earlier} would come before itself")
    try:
      links.insert(0, (earlier, read(earlier)))
    except CheckpointError as error:
      raise CheckpointError(f"it goes over {earlier}, and there {error}") from None
  return links


def complete_chain(folder, devices, *, checksums="all"):
  """`chain`, once all files that restoring it reads were found to be as they were written.

  Args:
    folder: of the newest checkpoint of the chain.
    devices: where the files are read, each on one of these.
    checksums: as of `damage`.

  Raises:
    CheckpointError: in half a sentence, what is wrong with which file.
  """
  links = chain(folder)
  for path, content in links:
    problem = damage(path, content, devices, only_rows=path != folder, checksums=checksums)
    if problem:
      where = "" if path == folder else f"it goes over {path}, and there "
      raise CheckpointError(where + problem)
  return links


def damage(folder, content, devices, *, only_rows=False, checksums="all"):
  """What is wrong with the files that a manifest names, as half a sentence; None if nothing is.

  Args:
    folder: the checkpoint's folder.
    content: its manifest, from `read`.
    devices: where the files are read, each on one of these.
    only_rows: look at the files of tables only: the dense weights of a checkpoint that others go over are not read.
    checksums: of which files beside the size the checksum is compared: "all" of them, "not rows": all but the tables'
      rows, each tensor of which has one of its own that is compared when it is read, or "none".
  """
  expected = {
    name: file
    for name, file in content["files"].items()
    if not (only_rows and name.startswith("dense/"))
  }
  read = {
    "all": expected,
    "not rows": [name for name in expected if not _is_rows(name)],
    "none": [],
  }[checksums]
  sizes = files.sizes(folder, expected)
  for name, size in zip(expected, sizes):
    if size is None:
      return f"{name} is missing"
    if size != expected[name]["bytes"]:
      return f"{name} has {size} bytes instead of {expected[name]['bytes']}"
  for name, there in zip(read, files.measure(folder, read, devices)):
    if there != expected[name]:
      return f"{name} was changed: its checksum does not hold"
  return None


def _is_rows(name):
  return not name.startswith("dense/") and ".data-" in name


def _checksum(content):
  return zlib.crc32(json.dumps(content, sort_keys=True).encode())
