"""Exporter: base and delta exports of models for TensorFlow Serving."""

from __future__ import annotations

import functools
import gc
import os
import time
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfps.errors import ExportError
from tfps.export import extras
from tfps.export.capture import TableCapture
from tfps.export.manifests import BaseManifest, DeltaManifest
from tfps.export.target import Captures, Target, of_models, targets_of
from tfps.graph import finite
from tfps.storage import files
from tfps.storage.complete_folder import Prepared

if TYPE_CHECKING:
  import tf_keras as keras

  from tfps.data.raw_inputs import RawInputs
  from tfps.table.feasign_table import FeasignTable

# The exporter of each table: its delta_score and its served rows are those of one lineage.
_EXPORTERS: weakref.WeakKeyDictionary[FeasignTable, weakref.ref[Exporter]]
_EXPORTERS = weakref.WeakKeyDictionary()


class _CapturedDelta(NamedTuple):
  """What deltas hold, copied at one moment."""

  captures: Captures
  weights: Sequence[np.ndarray]  # of each target
  pause_seconds: float
  captured_at: float


class Exporter:
  """Writes `<folder>/base/<version>/`, SavedModels of stock ops that TensorFlow Serving loads.

  Several models that read a table, such as a user tower and an item tower, are exported together,
  from one capture of its rows: `{"user": user_tower, "item": item_tower}` goes to
  `<folder>/user/base/<version>/` and `<folder>/item/base/<version>/`. Each artifact has the rows of
  the slots that its model reads, and the model's own dense weights.

  Export when no ticket is running. One exporter of one process at a time may write to a folder: it
  holds the folder's lock until its own end or that of the process.

  Args:
    model: the Keras model with `tfps.Embedding` layers, or a dict of such models by name.
    folder: where exports go, on any of TensorFlow's file systems; every parameter server must reach
      it.
    raw: the `tfps.data.RawInputs` that clients will send; a dict of them, if models differ in them.
    keep: how many bases are kept, and with them those that `tfps sync` saw a server serve and
      pinned ones (`tfps pin`); all if it is None.

  Attributes:
    lineage: the id that all its artifacts share.
    pause_seconds: how long the last export needed the tables to stand still.
    bases: how many bases it has exported.

  Raises:
    ExportError: a model has no feasign table, another exporter has one of its tables, or TensorFlow
      Serving's messages are not installed.
    LockError: another process exports to the folder.

  Examples:
    >>> exporter = tfps.export.Exporter(model, "export", raw=source.raw_inputs)
    >>> exporter.base()
    'export/base/1'
    >>> exporter.delta()
    'export/delta/1/1'
    >>> exporter.close()
    >>> towers = tfps.export.Exporter({"ranking": model}, "export", raw=source.raw_inputs)
    >>> towers.base()
    {'ranking': 'export/ranking/base/1'}
  """

  def __init__(
    self,
    model: keras.Model | Mapping[str, keras.Model],
    folder: str | os.PathLike[str],
    raw: RawInputs | Mapping[str, RawInputs],
    keep: int | None = None,
  ) -> None:
    extras.check_serving_api()
    self._keep = keep
    self._in_use: dict[str, dict[int, str]] = {}
    self._folder = str(folder).rstrip("/")
    self._alone = not isinstance(model, Mapping)
    self._targets = targets_of(model, self._folder, raw)
    weakref.finalize(self, _release, self._targets)
    slots: dict[FeasignTable, frozenset[str]] = {}
    for target in self._targets:
      for table, read in target.slots.items():
        slots[table] = slots.get(table, frozenset()) | read
    self._slots = slots
    try:
      self._claim()
    except ExportError:
      _release(self._targets)
      raise
    self.lineage = uuid.uuid4().hex
    self.pause_seconds: float | None = None
    self._base_version: int | None = None
    self._sequence = 0
    self.bases = 0
    self._closed = False
    self._writing: futures.Future[Any] | None = None  # The delta that is being written.
    # The scope of a strategy belongs to a thread, and would put the export's variables on servers.
    self._thread = futures.ThreadPoolExecutor(1, thread_name_prefix="tfps-export")

  def base(
    self,
    *,
    day: int | None = None,
    step: int | None = None,
    examples: Mapping[str, Any] | None = None,
  ) -> Any:
    """Exports all rows that serving needs, with the dense weights of this moment.

    The version is the next free number. Once the artifact is durable, and those of all models are,
    its rows count as served, and their delta_score begins anew.

    Args:
      day: the ordinal of the day, for the manifest.
      step: the number of training steps, for the manifest.
      examples: raw inputs of a few examples, arrays by name, for `tfps verify-export` and to warm
        up the server; by default those of `raw.sample` for the day, if there are any. Of several
        models, a dict of such dicts by the models' names.

    Returns:
      The artifact's path; of several models a dict of paths.
    """
    return self._submit(self._base, day, step, examples).result()

  def delta(
    self,
    *,
    day: int | None = None,
    step: int | None = None,
    more: Mapping[str, Any] | None = None,
  ) -> Any:
    """Exports the rows that changed enough since this exporter's last export, and removals.

    Args:
      day: the ordinal of the day, for the manifest.
      step: the number of training steps, for the manifest.
      more: further fields for the manifest, which JSON can express.

    Returns:
      The artifact's path, `<folder>/delta/<base>/<sequence>`; of several models a dict of paths,
      `<folder>/<name>/delta/<base>/<sequence>`.

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
  ) -> futures.Future[Any]:
    """Like `delta`, but returns once the rows are copied: tickets may run while they are written.

    Returns:
      A future of what `delta` returns. If writing fails, nothing is lost: the next delta has these
      rows too.
    """
    # One delta at a time: the last one is written first.
    self._submit(lambda: None).result()
    base_version, captured = self._submit(self._capture_delta).result()
    self._writing = self._submit(self._write_delta, base_version, captured, day, step, more or {})
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
    state = {"id": self.lineage, "base": self._base_version, "sequence": self._sequence}
    return state if self._alone else {**state, "models": self._names()}

  def resume(self, state: dict[str, Any] | None) -> bool:
    """Continues the lineage of a checkpoint, if nothing was published after the checkpoint.

    Otherwise the lineage is a new one, which begins with a base: a later artifact holds rows as
    they never were in the restored tables.

    Args:
      state: what `state` returned when the checkpoint was saved.

    Returns:
      Whether the lineage continues.
    """
    if state is None or state.get("models", [""]) != self._names():
      return False
    saved = {name: state[name] for name in ("id", "base", "sequence")}
    if any(target.published() != saved for target in self._targets):
      return False
    self.lineage = state["id"]
    self._base_version, self._sequence = state["base"], state["sequence"]
    return True

  def close(self) -> None:
    """Ends its lineage: another exporter may have its tables, and another process its folder."""
    self.wait()
    self._closed, self._base_version = True, None
    for table in self._slots:
      if self._exporter_of(table) is self:
        del _EXPORTERS[table]
    _release(self._targets)

  def _submit(self, function: Callable[..., Any], *arguments: Any) -> futures.Future[Any]:
    if self._closed:
      raise ExportError(
        f"the exporter to {self._folder} was closed: make another one, which begins with a base."
      )
    return self._thread.submit(function, *arguments)

  def _claim(self) -> None:
    """Makes this the exporter of its tables; ExportError if there is another one."""
    if any(map(self._exporter_of, self._slots)):
      gc.collect()  # One that nobody uses any more may be part of a circle of references.
    for table in self._slots:
      other = self._exporter_of(table)
      if other is not None:
        raise ExportError(
          f"table '{table.name}' has an exporter, to {other._folder}, and deltas of a second one "
          "would lack what those of the first hold: export the models together, as "
          "tfps.export.Exporter({'user': user_model, 'item': item_model}, folder, raw), or close "
          "the first one."
        )
    for table in self._slots:
      _EXPORTERS[table] = weakref.ref(self)

  @staticmethod
  def _exporter_of(table: FeasignTable) -> Exporter | None:
    exporter = _EXPORTERS.get(table)
    return None if exporter is None else exporter()

  def _names(self) -> list[str]:
    return sorted(target.name for target in self._targets)

  def _capture(self, which: Any) -> dict[FeasignTable, TableCapture]:
    for target in self._targets:
      finite.check_model(target.model, which)
    counted = {
      table
      for target in self._targets
      for table, width in target.row_widths.items()
      if width > table.row_width
    }
    return {
      table: TableCapture(table, which, slots, counts=table in counted)
      for table, slots in self._slots.items()
    }

  def _capture_delta(self) -> tuple[int, _CapturedDelta]:
    version = self._base_version
    if version is None:
      raise ExportError("a delta follows a base, and there is none of this lineage: export a base.")
    packed = [target.packed_weights(self.lineage, version) for target in self._targets]
    captured_at, began = time.time(), time.monotonic()
    captures = self._capture("delta")
    weights = [of_target.read() for of_target in packed]
    self.pause_seconds = time.monotonic() - began
    return version, _CapturedDelta(captures, weights, self.pause_seconds, captured_at)

  def _write_delta(
    self,
    base_version: int,
    captured: _CapturedDelta,
    day: int | None,
    step: int | None,
    more: Mapping[str, Any],
  ) -> Any:
    manifest = DeltaManifest(
      lineage=self.lineage,
      base=base_version,
      sequence=self._sequence + 1,
      captured_at=captured.captured_at,
      day=day,
      step=step,
      pause_seconds=captured.pause_seconds,
      further=more,
    )
    paths = self._publish(
      captured.captures,
      [
        functools.partial(target.prepare_delta, captured.captures, weights, manifest)
        for target, weights in zip(self._targets, captured.weights)
      ],
    )
    self._base_version, self._sequence = base_version, self._sequence + 1
    return paths

  def _base(self, day: int | None, step: int | None, examples: Mapping[str, Any] | None) -> Any:
    version = max(target.next_version() for target in self._targets)
    given = self._by_name(examples)
    for target in self._targets:
      target.lock.check()
    inputs = [target.examples(given[target.name], day) for target in self._targets]
    served = [target.trace(self.lineage, version) for target in self._targets]
    # From here the tables stand still.
    began = time.monotonic()
    captures = self._capture("base")
    contents = [
      target.base_content(model, raw) for target, model, raw in zip(self._targets, served, inputs)
    ]
    self.pause_seconds = time.monotonic() - began
    # From here they may change again.
    manifest = BaseManifest(
      version=version,
      lineage=self.lineage,
      day=day,
      step=step,
      pause_seconds=self.pause_seconds,
    )
    paths = self._publish(
      captures,
      [
        functools.partial(target.prepare_base, model, captures, content, manifest)
        for target, model, content in zip(self._targets, served, contents)
      ],
    )
    self._base_version, self._sequence = version, 0
    self.bases += 1
    if self._keep is not None:
      self._remove_old(self._keep)
    return paths

  def _remove_old(self, keep: int) -> None:
    kept = {target.name: target.remove_old(keep) for target in self._targets}
    if kept != self._in_use:
      for name, versions in kept.items():
        for version, reason in versions.items():
          base = files.join(*filter(None, [self._folder, name]), "base", str(version))
          print(f"{base} stays beyond the {keep} that are kept: {reason}.", flush=True)
    self._in_use = kept

  def _by_name(self, examples: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The examples of each target by its name."""
    if self._alone:
      return {"": examples}
    return of_models(examples, dict.fromkeys(self._names()), "examples")

  def _publish(self, captures: Captures, prepare: Sequence[Callable[[], Prepared]]) -> Any:
    """Writes all artifacts, gives them their names, and tells the tables that they are durable.

    Afterwards there is no base for deltas to follow; the caller says which one there is.

    Args:
      captures: what each table gave.
      prepare: for each target, what writes its artifact.

    Returns:
      The path, or the paths by name.
    """
    prepared: list[Prepared] = []
    try:
      for one in prepare:
        prepared.append(one())
      prepared[0].publish()
    except BaseException:
      for written in prepared:
        written.discard()
      raise
    # If anything fails from here on, it is unknown what counts as served: a base has to follow.
    self._base_version = None
    for written in prepared[1:]:
      written.publish()
    for capture in captures.values():
      capture.commit()
    paths = {target.name: written.path for target, written in zip(self._targets, prepared)}
    return paths[""] if self._alone else paths


def in_words(paths: str | Mapping[str, str]) -> str:
  """The path of an export, or the paths of several, for a line that tells of it."""
  return paths if isinstance(paths, str) else ", ".join(paths.values())


def _release(targets: Sequence[Target]) -> None:
  for target in targets:
    target.lock.release()
