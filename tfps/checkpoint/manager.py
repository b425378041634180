"""CheckpointManager: the checkpoints of a run, one folder each."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, overload

import tensorflow as tf
from absl import logging

from tfps.checkpoint import chain as chain_lib
from tfps.checkpoint import dense, structure
from tfps.checkpoint import tables as tables_lib
from tfps.checkpoint.chain import Checksums, Link
from tfps.checkpoint.folder import CHECKPOINTS
from tfps.checkpoint.manifest import CheckpointManifest
from tfps.errors import CheckpointError
from tfps.storage import lock

if TYPE_CHECKING:
  import tf_keras as keras

  from tfps.table.feasign_table import FeasignTable

_MOST_INCREMENTS = 100


class LineageKeeper(Protocol):
  """What a checkpoint needs of a `tfps.export.Exporter`."""

  def wait(self) -> None:
    """Waits until no delta is being written."""

  def state(self) -> dict[str, Any] | None:
    """Its lineage, for a checkpoint."""

  def resume(self, state: dict[str, Any] | None) -> bool:
    """Continues the lineage of a checkpoint if it can; returns whether it does."""


class CheckpointManager:
  """Saves and restores a model with its tables, and keeps the last few checkpoints.

  A checkpoint is a folder `checkpoint-<number>`: tensor bundles that every parameter server writes
  itself, the dense weights as a tf.train.Checkpoint, and `manifest.json`. It is written beside the
  others under another name, and renamed once it is complete. Save when no ticket is running.

  One process at a time may write to a folder. The manager holds the folder's lock until `close`,
  its own end, or the end of the process, and removes what an earlier process left unfinished.

  Args:
    folder: where the checkpoints are, on any of TensorFlow's file systems; every parameter server
      must reach it.
    model: the Keras model, or None for tables alone. Its variables must exist before a restore.
    tables: the `tfps.FeasignTable`s.
    keep: how many checkpoints are kept, at least 1.
    exporter: the `tfps.export.Exporter` whose lineage a checkpoint holds; none by default. A save
      waits for a delta that is being written. A restored lineage continues unless something was
      published after the checkpoint.
    read_only: only restore, beside another manager that writes to the folder, and change nothing
      there.
    may_differ: the slots, and the dense weights or layers above them by their path in the model
      ("tower/0/kernel", "tower"; "*" stands for any text), in which the model may differ from the
      one that a restored checkpoint was saved of. What is new then begins as it is initialised,
      what fits is taken, and a line of the log says so for each. By default nothing may.

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

  def __init__(
    self,
    folder: str | os.PathLike[str],
    model: keras.Model | None,
    tables: Iterable[FeasignTable],
    keep: int = 3,
    exporter: LineageKeeper | None = None,
    read_only: bool = False,
    may_differ: Sequence[str] = (),
  ) -> None:
    if keep < 1:
      raise ValueError(f"keep is {keep}; it must be a whole number, at least 1.")
    self.folder = str(folder).rstrip("/")
    self._model = model
    self._tables = list(tables)
    self._keep = keep
    self._exporter = exporter
    self._may_differ = (may_differ,) if isinstance(may_differ, str) else tuple(may_differ)
    names = [table.name for table in self._tables]
    for name in names:
      if names.count(name) > 1:
        raise ValueError(f"two tables are named '{name}': a checkpoint needs a name for each.")
      if not re.fullmatch(r"[\w.-]+", name) or name in (".", "..", "dense"):
        raise ValueError(
          f"table '{name}' cannot be saved: its name is that of a folder in the checkpoint, so "
          "give it one of letters, digits, '_', '-' and '.', other than 'dense'."
        )
    self._last: str | None = None  # Rows that are touched after this checkpoint are recorded.
    self._increments = self._increment_rows = 0  # Since the last full checkpoint.
    self._lock: lock.Hold | None = None
    if not read_only:
      self._hold_lock()
      CHECKPOINTS.remove_unfinished(self.folder)

  def save(self, calendar: dict[str, Any], *, incremental: bool = False) -> str:
    """Writes a checkpoint of this moment.

    Args:
      calendar: where in its input training is, a dict that JSON can express; `restore` returns it.
      incremental: write only the rows that were touched since this manager's last checkpoint,
        which is then kept as long as this one. The checkpoint is still a full one if there is no
        earlier one, or if the increments since the last full one have as many rows as the tables:
        so a restore reads little more than twice the tables.

    Returns:
      The checkpoint's path.

    Raises:
      LockError: another process writes to the folder.
    """
    held = self._hold_lock()
    if self._exporter is not None:
      self._exporter.wait()
    before = self._last if incremental and self._may_increment() else None
    self._last = None  # If the save fails, the rows that the tables have handed over are lost.
    written = 0

    def write(path: str) -> CheckpointManifest:
      nonlocal written
      saved = {}
      for table in self._tables:
        saved[table.name], rows = tables_lib.save(table, path, only_touched=before is not None)
        written += rows
      if self._model is not None:
        dense.save(self._model, path)
      held.check()
      return CheckpointManifest(
        increment_of=None if before is None else _name(before),
        lineage=None if self._exporter is None else self._exporter.state(),
        calendar=calendar,
        tables=saved,
        dense=None if self._model is None else structure.of(self._model),
      )

    number = CHECKPOINTS.next_number(self.folder)
    path = CHECKPOINTS.publish(self.folder, number, write, self._devices())
    for table in self._tables:
      tables_lib.mark_since(table, path)
    self._last = path
    if before is None:
      self._increments, self._increment_rows = 0, 0
    else:
      self._increments, self._increment_rows = self._increments + 1, self._increment_rows + written
    self._remove_old()
    return path

  def latest(self) -> str | None:
    """The path of the newest checkpoint; None if there is none."""
    numbers = CHECKPOINTS.numbers(self.folder)
    return CHECKPOINTS.path_of(self.folder, numbers[-1]) if numbers else None

  @overload
  def restore(self, path: str | os.PathLike[str]) -> dict[str, Any]: ...

  @overload
  def restore(self, path: None = None) -> dict[str, Any] | None: ...

  def restore(self, path: str | os.PathLike[str] | None = None) -> dict[str, Any] | None:
    """Replaces what model and tables hold by the state of a checkpoint.

    Before anything changes, the size of every file is compared, and the checksum of every file
    except those with the tables' rows. Rows are read once, tensor by tensor, each with its
    checksum: if one does not hold, the tables are left with a part of the rows.

    Args:
      path: the checkpoint; the newest by default.

    Returns:
      The calendar that was saved with it; None if no path is given and there is no checkpoint.

    Raises:
      CheckpointError: a file is missing or damaged, or the checkpoint does not fit the model and
        tables.
    """
    path = path or self.latest()
    if path is None:
      return None
    path = str(path).rstrip("/")
    chain, problem = self._read(path, checksums="not rows")
    if problem:
      raise self._damaged(path, problem)
    manifest = chain[-1].manifest
    self._last = None
    try:
      pairs = tables_lib.pair(self._tables, manifest.tables)
      for table, saved in pairs:
        tables_lib.check(table, saved)
      differences = self._differences(path, manifest)
      for table, saved in pairs:
        tables_lib.place(table, saved)
      if self._model is not None:
        told = dense.restore(self._model, path, manifest.dense, differences)
        for line in told:
          logging.warning("Of checkpoint %s: %s.", path, line)
      for table, _ in pairs:
        parts = [(link.path, link.manifest.tables[table.name]) for link in chain]
        tables_lib.restore(table, parts)
    except CheckpointError as error:
      raise CheckpointError(
        f"Checkpoint {path} does not fit: {error}; train with the settings that it was saved with, "
        "or into another folder."
      ) from error
    except tf.errors.DataLossError as error:
      problem = self._read(path)[1]  # This reads every file, to name the one that was changed.
      raise self._damaged(path, problem or error.message.rstrip(".")) from error
    if self._exporter is not None:
      self._exporter.resume(manifest.lineage)
    return manifest.calendar

  def close(self) -> None:
    """Lets another process write to the folder; `save` takes the lock again."""
    if self._lock is not None:
      self._lock.release()
      self._lock = None

  def _hold_lock(self) -> lock.Hold:
    if self._lock is None:
      self._lock = lock.Hold(self.folder)
      weakref.finalize(self, self._lock.release)
    return self._lock

  def _differences(self, path: str, manifest: CheckpointManifest) -> list[structure.Difference]:
    """In what the model differs from the one that was saved; CheckpointError if it must not."""
    if self._model is None:
      return []
    if manifest.dense is not None:
      return structure.check(manifest.dense, structure.of(self._model), self._may_differ)
    for table in self._tables:
      was, now = (_in_order(slots) for slots in (manifest.tables[table.name].slots, table.slots))
      if was != now:
        logging.warning(
          "Checkpoint %s does not say in which order its model had the slots, which table '%s' "
          "numbered %s, and now %s: if the model has them in another order, its dense weights "
          "belong to other slots.", path, table.name, ", ".join(was), ", ".join(now),
        )  # fmt: skip
    return []

  def _may_increment(self) -> bool:
    rows = sum(table.statistics()["rows"] for table in self._tables)
    return (
      self._last is not None
      and all(tables_lib.are_marked_since(table, self._last) for table in self._tables)
      and CHECKPOINTS.exists(self._last)
      and self._increments < _MOST_INCREMENTS
      and self._increment_rows < rows
    )

  def _remove_old(self) -> None:
    """Removes checkpoints that are neither among the last few nor needed by one of these."""
    numbers = CHECKPOINTS.numbers(self.folder)
    kept = set()
    for number in numbers[-self._keep :]:
      path: str | None = CHECKPOINTS.path_of(self.folder, number)
      while path is not None and path not in kept:
        kept.add(path)
        try:
          path = chain_lib.before(Link(path, CHECKPOINTS.read(path)))
        except CheckpointError:
          path = None  # It is damaged and cannot be restored, whatever is kept.
    for number in reversed(numbers):
      if CHECKPOINTS.path_of(self.folder, number) not in kept:
        CHECKPOINTS.remove(self.folder, number)

  def _read(self, path: str, checksums: Checksums = "all") -> tuple[list[Link], str | None]:
    """The chain of a checkpoint, and what is wrong with it: None if nothing is."""
    try:
      return chain_lib.read_complete(path, self._devices(), checksums=checksums), None
    except CheckpointError as error:
      return [], str(error)

  def _damaged(self, path: str, problem: str) -> CheckpointError:
    """The error of a damaged checkpoint, which names one to restore instead."""
    remedy = f"there is no other complete checkpoint in {self.folder}: remove {path} to start anew."
    for number in reversed(CHECKPOINTS.numbers(self.folder)):
      other = CHECKPOINTS.path_of(self.folder, number)
      if other != path and self._read(other)[1] is None:
        remedy = (
          f"the last complete checkpoint is {other}: remove {path} to go on from there, or name it "
          "to restore."
        )
        break
    return CheckpointError(f"Checkpoint {path} is damaged: {problem}; {remedy}")

  def _devices(self) -> list[str]:
    """Where files are read to check them: all servers share the work."""
    devices = [server.device for table in self._tables for server in table.servers]
    return list(dict.fromkeys(devices)) or ["/device:CPU:0"]


def _name(path: str) -> str:
  return path.rsplit("/", 1)[-1]


def _in_order(slots: Mapping[str, int]) -> list[str]:
  """The names of slots by their number: as the layers of a model named them first."""
  return sorted(slots, key=slots.__getitem__)
