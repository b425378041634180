"""The deltas in an export folder."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import tensorflow as tf

from tfps.errors import DeliveryError
from tfps.export.artifact import ARTIFACTS
from tfps.export.delta_reader import open_delta
from tfps.storage import paths

if TYPE_CHECKING:
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
    self._lock = threading.Lock()
    if not tf.io.gfile.isdir(paths.join(self._folder, "base")):
      raise DeliveryError(f"{folder} has no folder 'base': it is no folder of tfps's exports.")

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

  def _open(self, path: str) -> Delta:
    with self._lock:
      if path not in self._checked:
        self._checked[path] = open_delta(path)
      return self._checked[path]
