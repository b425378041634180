"""CheckpointManager: the checkpoints of a run, one folder each."""

import re
import weakref

import tensorflow as tf

from tfps.checkpoint import dense, manifest
from tfps.checkpoint import folder as folder_lib
from tfps.checkpoint import tables as tables_lib
from tfps.errors import CheckpointError
from tfps.storage import lock

_MOST_INCREMENTS = 100


class CheckpointManager:
  """Saves and restores a model with its tables, and keeps the last few checkpoints.

  A checkpoint is a folder `checkpoint-<number>`: tensor bundles that every parameter server writes itself, the dense
  weights as a tf.train.Checkpoint, and `manifest.json`. It is written beside the others under another name and renamed
  once it is complete. Save when no ticket is running. One process at a time may write to a folder, and has its lock
  until `close`, or the manager's or the process's end; it removes what an earlier one left unfinished.

  Args:
    folder: where the checkpoints are, on any of TensorFlow's file systems; every parameter server must reach it.
    model: the Keras model, or None for tables alone. To restore, its variables must exist.
    tables: the `tfps.FeasignTable`s.
    keep: how many checkpoints are kept; at least 1.
    exporter: the `tfps.export.Exporter` whose lineage a checkpoint holds; none by default. A delta that is being written
      is waited for, and a restored lineage goes on unless something was published after the checkpoint.
    read_only: it only restores, beside another manager that writes to the folder, and changes nothing there.

  Raises:
    ValueError: `keep` is below 1, two tables have one name, or a name cannot be a folder's.
    LockError: another process writes to the folder.

  Examples:
    >>> manager = tfps.checkpoint.CheckpointManager("checkpoints", None, [table])
    >>> manager.save({"day": 3})
    'checkpoints/checkpoint-1'
    >>> manager.restore()
    {'day': 3}
    >>> manager.close()
  """

  def __init__(self, folder, model, tables, keep=3, exporter=None, read_only=False):
    if keep < 1:
      raise ValueError(f"keep is {keep}; it must be a whole number, at least 1.")
    self.folder = str(folder).rstrip("/")
    self._model = model
    self._tables = list(tables)
    self._keep = keep
    self._exporter = exporter
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
    self._lock = None
    if not read_only:
      self._hold_lock()
      folder_lib.remove_unfinished(self.folder)

  def save(self, calendar, *, incremental=False):
    """Writes a checkpoint of this moment.

    Args:
      calendar: a dict of what JSON has, which `restore` returns: where in its input training is.
      incremental: write only the rows that were touched since this manager's last checkpoint, which is then kept as
        long as this one. It is still a full one if there is no such checkpoint, or if those since the last full one
        have as many rows as the tables, so that to restore never costs much more than twice the tables.

    Returns:
      The checkpoint's path.

    Raises:
      LockError: another process writes to the folder.
    """
    self._hold_lock()
    if self._exporter is not None:
      self._exporter.wait()
    before = self._last if incremental and self._may_increment() else None
    self._last = None  # Should anything fail, the touched rows that were read are nowhere.
    written = 0

    def write(path):
      nonlocal written
      saved = {}
      for table in self._tables:
        saved[table.name], rows = tables_lib.save(table, path, only_touched=before is not None)
        written += rows
      if self._model is not None:
        dense.save(self._model, path)
      self._lock.check()
      return {
        "increment_of": before and _name(before),
        "lineage": self._exporter and self._exporter.state(),
        "calendar": calendar,
        "tables": saved,
      }

    path = folder_lib.publish(self.folder, write, self._devices())
    self._last = path
    if before is None:
      self._increments, self._increment_rows = 0, 0
    else:
      self._increments, self._increment_rows = self._increments + 1, self._increment_rows + written
    self._remove_old()
    return path

  def latest(self):
    """The path of the newest checkpoint, None if there is none."""
    numbers = folder_lib.numbers(self.folder)
    return folder_lib.path_of(self.folder, numbers[-1]) if numbers else None

  def restore(self, path=None):
    """Puts the state of a checkpoint in the place of what model and tables hold.

    Before anything is changed, it is known that every file is there and as long as it was, and that no other than the
    tables' rows was changed. These are read once, tensor by tensor with its checksum: if that does not hold, the
    tables are left with a part of the rows.

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
    chain, problem = self._read(path, checksums="not rows")
    if problem:
      raise self._damaged(path, problem)
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
    except tf.errors.DataLossError as error:
      problem = self._read(path)[1]  # Now every file is read, to name the one that was changed.
      raise self._damaged(path, problem or error.message.rstrip(".")) from error
    if self._exporter is not None:
      self._exporter.resume(content["lineage"])
    return content["calendar"]

  def close(self):
    """Lets another process write to the folder; `save` takes it again."""
    if self._lock is not None:
      self._lock.release()
      self._lock = None

  def _hold_lock(self):
    if self._lock is None:
      self._lock = lock.Hold(self.folder)
      weakref.finalize(self, self._lock.release)

  def _may_increment(self):
    rows = sum(table.statistics()["rows"] for table in self._tables)
    return (
      self._last is not None
      and folder_lib.is_checkpoint(self._last)
      and self._increments < _MOST_INCREMENTS
      and self._increment_rows < rows
    )

  def _remove_old(self):
    """Removes the checkpoints that are neither among the last few nor what one of these is put over."""
    numbers = folder_lib.numbers(self.folder)
    kept = set()
    for number in numbers[-self._keep :]:
      path = folder_lib.path_of(self.folder, number)
      while path is not None and path not in kept:
        kept.add(path)
        try:
          path = manifest.before(path, manifest.read(path))
        except CheckpointError:
          path = None  # Damaged: it cannot be restored, whatever is kept.
    for number in reversed(numbers):
      if folder_lib.path_of(self.folder, number) not in kept:
        folder_lib.remove(self.folder, number)

  def _read(self, path, checksums="all"):
    """([(folder, manifest)] from the full checkpoint to this one, None), or (None, what is wrong)."""
    try:
      return manifest.complete_chain(path, self._devices(), checksums=checksums), None
    except CheckpointError as error:
      return None, str(error)

  def _damaged(self, path, problem):
    """The error of a damaged checkpoint, which says what to restore instead."""
    remedy = f"there is no other complete checkpoint in {self.folder}: remove {path} to start anew."
    for number in reversed(folder_lib.numbers(self.folder)):
      other = folder_lib.path_of(self.folder, number)
      if other != path and self._read(other)[1] is None:
        remedy = (
          f"the last complete checkpoint is {other}: remove {path} to go on from there, or name it "
          "to restore."
        )
        break
    return CheckpointError(f"Checkpoint {path} is damaged: {problem}; {remedy}")

  def _devices(self):
    """Where files are checked: all servers share the work."""
    devices = [server.device for table in self._tables for server in table.servers]
    return list(dict.fromkeys(devices)) or ["/device:CPU:0"]


def _name(path):
  return path.rsplit("/", 1)[-1]
