"""CheckpointManager: the checkpoints of a run, one folder each."""

import re

import tensorflow as tf

from tfps.checkpoint import dense, files, manifest
from tfps.checkpoint import tables as tables_lib
from tfps.checkpoint.errors import CheckpointError

_COMPLETE = re.compile(r"checkpoint-(\d+)/?")
_MOST_INCREMENTS = 100
_TEMPORARY = re.compile(r"(writing|removing)-checkpoint-\d+/?")


class CheckpointManager:
  """Saves and restores a model with its tables, and keeps the last few checkpoints.

  A checkpoint is a folder `checkpoint-<number>`: tensor bundles that every parameter server writes itself, the dense
  weights as a tf.train.Checkpoint, and `manifest.json`. It is written beside the others under another name and renamed
  once it is complete. Save when no ticket is running. One manager at a time may write to a folder: it removes what
  an earlier one left unfinished.

  Args:
    folder: where the checkpoints are, on any of TensorFlow's file systems; every parameter server must reach it.
    model: the Keras model, or None for tables alone. To restore, its variables must exist.
    tables: the `tfps.FeasignTable`s.
    keep: how many checkpoints are kept; at least 1.
    read_only: it only restores, beside another manager that writes to the folder, and changes nothing there.

  Raises:
    ValueError: `keep` is below 1, two tables have one name, or a name cannot be a folder's.
  """

  def __init__(self, folder, model, tables, keep=3, read_only=False):
    if keep < 1:
      raise ValueError(f"keep is {keep}; it must be a whole number, at least 1.")
    self.folder = str(folder).rstrip("/")
    self._model = model
    self._tables = list(tables)
    self._keep = keep
    names = [table.name for table in self._tables]
    for name in names:
      if names.count(name) > 1:
        raise ValueError(f"two tables are named '{name}': a checkpoint needs a name for each.")
      if not re.fullmatch(r"[\w.-]+", name) or name in (".", "..", "dense"):
        raise ValueError(
          f"table '{name}' cannot be saved: its name is that of a folder in the checkpoint, so give it one of "
          "letters, digits, '_', '-' and '.', other than 'dense'."
        )
    self._last = None  # The checkpoint after which touched rows are counted.
    self._increments = self._increment_rows = 0  # Since the last full one.
    for name in [] if read_only else self._names(_TEMPORARY):
      files.remove(files.join(self.folder, name))

  def save(self, calendar, *, incremental=False):
    """Writes a checkpoint of this moment.

    Args:
      calendar: a dict of what JSON has, which `restore` returns: where in its input training is.
      incremental: write only the rows that were touched since this manager's last checkpoint, which is then kept as
        long as this one. It is still a full one if there is no such checkpoint, or if those since the last full one
        have as many rows as the tables, so that to restore never costs much more than twice the tables.

    Returns:
      The checkpoint's path.
    """
    number = max([0, *self._numbers()]) + 1
    writing = files.join(self.folder, f"writing-checkpoint-{number}")
    files.remove(writing)
    tf.io.gfile.makedirs(writing)
    before = self._last if incremental and self._may_increment() else None
    self._last = None  # Should anything fail, the touched rows that were read are nowhere.
    saved, written = {}, 0
    for table in self._tables:
      saved[table.name], rows = tables_lib.save(table, writing, only_touched=before is not None)
      written += rows
    if self._model is not None:
      dense.save(self._model, writing)
    names = files.list_files(writing)
    content = {
      "increment_of": before and _name(before),
      "lineage": None,
      "calendar": calendar,
      "tables": saved,
      "files": dict(zip(names, files.measure(writing, names, self._devices()))),
    }
    manifest.write(writing, content)
    files.sync_all(writing)
    path = self._path(number)
    tf.io.gfile.rename(writing, path)
    files.sync(self.folder)
    self._last = path
    if before is None:
      self._increments, self._increment_rows = 0, 0
    else:
      self._increments, self._increment_rows = self._increments + 1, self._increment_rows + written
    self._remove_old()
    return path

  def checkpoints(self):
    """The paths of all complete checkpoints, the oldest first."""
    return [self._path(number) for number in self._numbers()]

  def latest(self):
    """The path of the newest checkpoint, None if there is none."""
    return next(reversed(self.checkpoints()), None)

  def restore(self, path=None):
    """Puts the state of a checkpoint in the place of what model and tables hold.

    Every file is checked before anything is changed.

    Args:
      path: the checkpoint; the newest by default.

    Returns:
      The calendar that was saved with it; None if no path is given and there is no checkpoint.

    Raises:
      CheckpointError: a file is missing or damaged, or the checkpoint does not fit the model and tables.
    """
    path = path or self.latest()
    if path is None:
      return None
    path = str(path).rstrip("/")
    chain, problem = self._read(path)
    if problem:
      raise CheckpointError(f"Checkpoint {path} is damaged: {problem}; {self._remedy(path)}")
    content = chain[-1][1]
    self._last = None
    try:
      pairs = tables_lib.pair(self._tables, content["tables"])
      for table, saved in pairs:
        tables_lib.check(table, saved)
        tables_lib.place(table, saved)
      if self._model is not None:
        dense.restore(self._model, path)
      for table, _ in pairs:
        tables_lib.restore(table, [(folder, part["tables"][table.name]) for folder, part in chain])
    except CheckpointError as error:
      raise CheckpointError(
        f"Checkpoint {path} does not fit: {error}; train with the settings that it was saved with, or "
        "into another folder."
      ) from error
    return content["calendar"]

  def _may_increment(self):
    rows = sum(table.statistics()["rows"] for table in self._tables)
    return (
      self._last is not None
      and tf.io.gfile.exists(files.join(self._last, manifest.NAME))
      and self._increments < _MOST_INCREMENTS
      and self._increment_rows < rows
    )

  def _remove_old(self):
    """Removes the checkpoints that are neither among the last few nor what one of these is put over."""
    numbers = self._numbers()
    kept = set()
    for number in numbers[-self._keep :]:
      path = self._path(number)
      while path is not None and path not in kept:
        kept.add(path)
        try:
          path = manifest.before(path, manifest.read(path))
        except CheckpointError:
          path = None  # Damaged: it cannot be restored, whatever is kept.
    for number in reversed(numbers):
      if self._path(number) not in kept:
        # Renamed first: a folder that is half removed must not look like a checkpoint.
        removing = files.join(self.folder, f"removing-checkpoint-{number}")
        tf.io.gfile.rename(self._path(number), removing)
        files.remove(removing)

  def _read(self, path):
    """([(folder, manifest)] from the full checkpoint to this one, None), or (None, what is wrong)."""
    try:
      chain = manifest.chain(path)
    except CheckpointError as error:
      return None, str(error)
    for folder, content in chain:
      # Of those before, only the rows are read.
      wanted = None if folder == path else _is_of_a_table
      problem = manifest.damage(folder, content, self._devices(), wanted)
      if problem:
        return None, problem if folder == path else f"it goes over {folder}, and there {problem}"
    return chain, None

  def _remedy(self, path):
    """Which checkpoint to restore instead of the damaged one at `path`."""
    for number in reversed(self._numbers()):
      other = self._path(number)
      if other != path and self._read(other)[1] is None:
        return f"the last complete checkpoint is {other}: remove {path} to go on from there, or name it to restore."
    return f"there is no other complete checkpoint in {self.folder}: remove {path} to start anew."

  def _devices(self):
    """Where files are checked: all servers share the work."""
    devices = [server.device for table in self._tables for server in table.servers]
    return list(dict.fromkeys(devices)) or ["/device:CPU:0"]

  def _path(self, number):
    return files.join(self.folder, f"checkpoint-{number}")

  def _names(self, pattern):
    if not tf.io.gfile.isdir(self.folder):
      return []
    return [name for name in tf.io.gfile.listdir(self.folder) if pattern.fullmatch(name)]

  def _numbers(self):
    """The numbers of the checkpoints in order; a folder without a manifest is none."""
    numbers = (int(_COMPLETE.fullmatch(name)[1]) for name in self._names(_COMPLETE))
    return sorted(
      number
      for number in numbers
      if tf.io.gfile.exists(files.join(self._path(number), manifest.NAME))
    )


def _name(path):
  return path.rsplit("/", 1)[-1]


def _is_of_a_table(name):
  return not name.startswith("dense/")
