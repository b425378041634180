"""What an export folder has for running servers: its deltas, and the bases that they follow."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

import tensorflow as tf

from tfps.errors import DeliveryError
from tfps.export import in_use
from tfps.export.artifact import ARTIFACTS, read_as
from tfps.export.delta_reader import open_delta
from tfps.export.manifests import BaseManifest
from tfps.storage import paths

if TYPE_CHECKING:
  from tfps.delivery.replica import Status
  from tfps.export.delta_reader import Delta


class ExportFolder:
  """The deltas of an export folder; many threads may ask.

  Args:
    folder: the folder of an `Exporter`.

  Raises:
    DeliveryError: there is no base in it.
  """

  def __init__(self, folder: str | os.PathLike) -> None:
    self._folder = str(folder).rstrip("/")
    self._checked: dict[str, Delta] = {}
    self._bases: dict[str, BaseManifest] = {}
    self._lock = threading.Lock()
    if not tf.io.gfile.isdir(paths.join(self._folder, "base")):
      raise DeliveryError(f"{folder} has no folder 'base': it is no folder of tfps's exports.")

  def note_served(self, address: str, versions: Iterable[int]) -> str:
    """Notes which versions a server serves, which exporters then keep; returns the note's path."""
    return in_use.note_served(self._folder, address, versions)

  def next_delta(self, base: int, sequence: int) -> Delta | None:
    """The delta that follows number `sequence` of a base; None where there is none yet.

    Raises:
      DeliveryError: later ones are there and that one is not.
      ExportError: a file of it is damaged.
    """
    folder = paths.join(self._folder, "delta", str(base))
    path = paths.join(folder, str(sequence + 1))
    if ARTIFACTS.exists(path):
      return self._open(path)
    if not tf.io.gfile.isdir(folder):
      return None
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    if later := [int(name) for name in names if name.isdecimal() and int(name) > sequence + 1]:
      raise DeliveryError(
        f"{folder} has delta {min(later)} but not {sequence + 1}, which is due: load a newer base."
      )
    return None

  def check_holds(self, address: str, status: Status) -> None:
    """Raises DeliveryError if a replica that no delta is due for holds a base of another folder."""
    base = paths.join(self._folder, "base", str(status.base))
    if ARTIFACTS.exists(base):
      lineage = self._base(base).lineage
      if lineage != status.lineage:
        raise DeliveryError(
          f"{address} serves base {status.base} of lineage {status.lineage}, and that in "
          f"{self._folder} is of {lineage}: let it load that one, or name the folder that its own "
          "was exported to."
        )
    elif not tf.io.gfile.isdir(paths.join(self._folder, "delta", str(status.base))):
      raise DeliveryError(
        f"{address} serves base {status.base}, of which {self._folder} has neither the base nor "
        "deltas: let it load a newer base, or name the folder that its own was exported to."
      )

  def what_lacks(self, reached: Iterable[Status], base: int | None = None) -> str | None:
    """What a replica lacks that holds all that can be sent to it; None if it is up to date.

    Args:
      reached: the `Status` of each version that it serves.
      base: the base that it is to serve; the newest by default.
    """
    bases = paths.join(self._folder, "base")
    number = ARTIFACTS.newest(bases) if base is None else None
    if number is not None:
      newest = self._base(ARTIFACTS.path_of(bases, number))
      base, sequence = newest.first_base, newest.last_sequence
    else:
      sequence = 0
    held = {status.base: status.sequence for status in sorted(reached)}
    if base is None or held.get(base, -1) >= sequence:
      return None
    if base in held:
      return (
        f"base {base} is at delta {held[base]}, and deltas up to {sequence} are only in base "
        f"{number}"
      )
    return f"base {base} is not served there"

  def _base(self, path: str) -> BaseManifest:
    with self._lock:
      if path not in self._bases:
        self._bases[path] = read_as(path, BaseManifest)
      return self._bases[path]

  def _open(self, path: str) -> Delta:
    with self._lock:
      if path not in self._checked:
        self._checked[path] = open_delta(path)
      return self._checked[path]
