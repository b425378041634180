"""Exporter: base and delta exports of a model for TensorFlow Serving."""

from __future__ import annotations

import os
import time
import uuid
import weakref
from collections.abc import Iterable, Mapping
from concurrent import futures
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfps.errors import ExportError
from tfps.export import artifact, base_artifact, extras, trained
from tfps.export import delta as delta_lib
from tfps.export.artifact import ARTIFACTS
from tfps.export.capture import TableCapture
from tfps.export.manifests import BaseManifest, DeltaManifest, PackedWeights
from tfps.export.served import weights as served_weights
from tfps.export.served.model import ServedModel
from tfps.graph import finite
from tfps.layers.embedding import tables_of
from tfps.storage import files

if TYPE_CHECKING:
  import tf_keras as keras

  from tfps.data.raw_inputs import RawInputs


class _CapturedDelta(NamedTuple):
  """What a delta holds, copied at one moment."""

  captures: list[TableCapture]
  weights: np.ndarray
  packed: PackedWeights
  pause_seconds: float
  captured_at: float


class Exporter:
  """Writes `<folder>/base/<version>/`, SavedModels of stock ops that TensorFlow Serving loads.

  Export when no ticket is running. One exporter of one process at a time may write to a folder: it
  holds the folder's lock until its own end or that of the process.

  Args:
    model: the Keras model with `tfps.Embedding` layers.
    folder: where exports go, on any of TensorFlow's file systems; every parameter server must reach
      it.
    raw: the `tfps.data.RawInputs` that clients will send.
    keep: how many bases are kept; all if it is None.

  Attributes:
    lineage: the id that all its artifacts share.
    pause_seconds: how long the last export needed the tables to stand still.
    bases: how many bases it has exported.

  Raises:
    ExportError: the model has no feasign table, or TensorFlow Serving's messages are not installed.
    LockError: another process exports to the folder.

  Examples:
    >>> exporter = tfps.export.Exporter(model, "export", raw=source.raw_inputs)
    >>> exporter.base()
    'export/base/1'
    >>> exporter.delta()
    'export/delta/1/1'
  """

  def __init__(
    self,
    model: keras.Model,
    folder: str | os.PathLike[str],
    raw: RawInputs,
    keep: int | None = None,
  ) -> None:
    extras.check_serving_api()
    self._model = model
    self._raw = raw
    self._keep = keep
    self._folder = str(folder).rstrip("/")
    self._tables = tables_of(model)
    if not self._tables:
      raise ExportError("the model has no tfps.Embedding layer: export it with Keras's own means.")
    self._lock = artifact.hold(files.join(self._folder, "base"))
    weakref.finalize(self, self._lock.release)
    self.lineage = uuid.uuid4().hex
    self.pause_seconds: float | None = None
    self._base_version: int | None = None
    self._sequence = 0
    self._packed: served_weights.PackedWeights | None = None
    self.bases = 0
    self._writing: futures.Future[str] | None = None  # The delta that is being written.
    # The scope of a strategy belongs to a thread, and would put the export's variables on servers.
    self._thread = futures.ThreadPoolExecutor(1, thread_name_prefix="tfps-export")

  def base(
    self,
    *,
    day: int | None = None,
    step: int | None = None,
    examples: Mapping[str, Any] | None = None,
  ) -> str:
    """Exports all rows that serving needs, with the dense weights of this moment.

    The version is the next free number. Once the artifact is durable, its rows count as served, and
    their delta_score begins anew.

    Args:
      day: the ordinal of the day, for the manifest.
      step: the number of training steps, for the manifest.
      examples: raw inputs of a few examples, arrays by name, for `tfps verify-export` and to warm
        up the server; by default one example without any feasign.

    Returns:
      The artifact's path.
    """
    return self._thread.submit(self._base, day, step, examples).result()

  def delta(
    self,
    *,
    day: int | None = None,
    step: int | None = None,
    more: Mapping[str, Any] | None = None,
  ) -> str:
    """Exports the rows that changed enough since this exporter's last export, and removals.

    Args:
      day: the ordinal of the day, for the manifest.
      step: the number of training steps, for the manifest.
      more: further fields for the manifest, which JSON can express.

    Returns:
      The artifact's path, `<folder>/delta/<base>/<sequence>`.

    Raises:
      ExportError: there is no base yet that it could follow.
    """
    return self.start_delta(day=day, step=step, more=more).result()

  def start_delta(
    self,
    *,
    day: int | None = None,
    step: int | None = None,
    more: Mapping[str, Any] | None = None,
  ) -> futures.Future[str]:
    """Like `delta`, but returns once the rows are copied: tickets may run while they are written.

    Returns:
      A future of the path. If writing fails, nothing is lost: the next delta has these rows too.
    """
    # One delta at a time: the last one is written first.
    self._thread.submit(lambda: None).result()
    base_version, captured = self._thread.submit(self._capture_delta).result()
    self._writing = self._thread.submit(
      self._write_delta, base_version, captured, day, step, more or {}
    )
    return self._writing

  @property
  def is_writing(self) -> bool:
    """Whether a delta is being written."""
    return self._writing is not None and not self._writing.done()

  def wait(self) -> None:
    """Waits until no delta is being written; it does not raise what a delta failed with."""
    if self._writing is not None:
      futures.wait([self._writing])

  @property
  def has_base(self) -> bool:
    """Whether a delta could follow: there is a base of this lineage."""
    return self._base_version is not None

  def state(self) -> dict[str, Any] | None:
    """What a checkpoint keeps of the lineage, for JSON; None before the first base."""
    if self._base_version is None:
      return None
    return {"id": self.lineage, "base": self._base_version, "sequence": self._sequence}

  def resume(self, state: dict[str, Any] | None) -> bool:
    """Continues the lineage of a checkpoint, if nothing was published after the checkpoint.

    Otherwise the lineage is a new one, which begins with a base: a later artifact holds rows as
    they never were in the restored tables.

    Args:
      state: what `state` returned when the checkpoint was saved.

    Returns:
      Whether the lineage continues.
    """
    if state is None or self._published() != state:
      return False
    self.lineage = state["id"]
    self._base_version, self._sequence = state["base"], state["sequence"]
    return True

  def _published(self) -> dict[str, Any] | None:
    """The newest artifact in the folder, in the form of `state`; None if there is none."""
    bases = files.join(self._folder, "base")
    versions = ARTIFACTS.numbers(bases)
    if not versions:
      return None
    deltas = ARTIFACTS.numbers(files.join(self._folder, "delta", str(versions[-1])))
    try:
      base = ARTIFACTS.read(ARTIFACTS.path_of(bases, versions[-1]))
    except ExportError:
      return None
    return {"id": base.lineage, "base": versions[-1], "sequence": max([0, *deltas])}

  def _capture_delta(self) -> tuple[int, _CapturedDelta]:
    if self._base_version is None:
      raise ExportError("a delta follows a base, and there is none of this lineage: export a base.")
    if self._packed is None:  # An earlier process exported the base.
      served = ServedModel(self._model, self._raw, self.lineage, self._base_version)
      self._packed = served.packed_weights
    captured_at, began = time.time(), time.monotonic()
    finite.check_model(self._model, "delta")
    captures = [TableCapture(table, "delta") for table in self._tables]
    weights = self._packed.read()
    self.pause_seconds = time.monotonic() - began
    packed = PackedWeights(layout=self._packed.layout, size=self._packed.size)
    captured = _CapturedDelta(captures, weights, packed, self.pause_seconds, captured_at)
    return self._base_version, captured

  def _write_delta(
    self,
    base_version: int,
    captured: _CapturedDelta,
    day: int | None,
    step: int | None,
    more: Mapping[str, Any],
  ) -> str:
    manifest = DeltaManifest(
      lineage=self.lineage,
      base=base_version,
      sequence=self._sequence + 1,
      captured_at=captured.captured_at,
      day=day,
      step=step,
      weights=captured.packed,
      pause_seconds=captured.pause_seconds,
      further=more,
    )
    folder = files.join(self._folder, "delta", str(base_version))
    self._lock.check()
    path = delta_lib.write(folder, captured.captures, captured.weights, manifest, self._devices())
    self._commit(captured.captures)
    self._sequence += 1
    return path

  def _commit(self, captures: Iterable[TableCapture]) -> None:
    """Tells the tables that the artifact is durable."""
    # If a server fails here, it is unknown what counts as served: then a base has to follow.
    version, self._base_version = self._base_version, None
    for capture in captures:
      capture.commit()
    self._base_version = version

  def _base(self, day: int | None, step: int | None, examples: Mapping[str, Any] | None) -> str:
    folder = files.join(self._folder, "base")
    self._lock.check()
    version = ARTIFACTS.next_number(folder)
    served = ServedModel(self._model, self._raw, self.lineage, version)
    # From here the tables stand still.
    began = time.monotonic()
    finite.check_model(self._model, "base")
    captures = {table.name: TableCapture(table, "base") for table in self._tables}
    weights = served.packed_weights.read()
    inputs = self._raw.empty_batch() if examples is None else examples
    inputs = {name: np.asarray(inputs[name]) for name in self._raw.specs}
    features = served.inputs.from_raw(base_artifact.tensors(self._raw, inputs))
    prediction = trained.predict(self._model, features, self._tables)
    self.pause_seconds = time.monotonic() - began
    # From here they may change again.
    manifest = BaseManifest(
      version=version,
      lineage=self.lineage,
      day=day,
      step=step,
      pause_seconds=self.pause_seconds,
    )
    path = base_artifact.write(
      folder, served, captures, weights, inputs, features, prediction, manifest, self._devices()
    )
    self._commit(captures.values())
    self._base_version, self._sequence, self._packed = version, 0, served.packed_weights
    self.bases += 1
    if self._keep is not None:
      artifact.remove_old(folder, self._keep)
    return path

  def _devices(self) -> list[str]:
    return list(dict.fromkeys(server.device for table in self._tables for server in table.servers))
