"""Exporter: base and delta exports of a model for TensorFlow Serving."""

import time
import uuid
import weakref
from concurrent import futures

import numpy as np

from tfps.errors import ExportError
from tfps.export import artifact, base_artifact, extras, trained
from tfps.export import delta as delta_lib
from tfps.export.capture import TableCapture
from tfps.export.served.model import ServedModel
from tfps.layers.embedding import tables_of
from tfps.storage import files


class Exporter:
  """Writes `<folder>/base/<version>/`, SavedModels of stock ops that TensorFlow Serving loads.

  Export when no ticket is running. One exporter at a time may write to a folder, and one process: it has the folder's
  lock until the exporter's or the process's end.

  Args:
    model: the Keras model with `tfps.Embedding` layers.
    folder: where exports go, on any of TensorFlow's file systems; every parameter server must reach
      it.
    raw: the `tfps.data.RawInputs` that clients will send.
    keep: how many bases stay; all where it is None.

  Attributes:
    lineage: the id that all its artifacts share.
    pause_seconds: how long the last export needed the tables to stand still.
    bases: how many it has exported.

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

  def __init__(self, model, folder, raw, keep=None):
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
    self.pause_seconds = None
    self._base_version, self._sequence, self._packed = None, 0, None
    self.bases = 0
    self._writing = None  # The Future of a delta that is being written.
    # A strategy's scope belongs to a thread, and would put the export's variables on servers.
    self._thread = futures.ThreadPoolExecutor(1, thread_name_prefix="tfps-export")

  def base(self, *, day=None, step=None, examples=None):
    """Exports all rows that serving needs, with the dense weights of this moment.

    The version is the next free number. Once the artifact is durable, its rows count as served, and
    what was captured leaves their delta_score.

    Args:
      day: ordinal of the day, for the manifest.
      step: number of training steps, for the manifest.
      examples: {name: array} raw inputs of a few examples, for `tfps verify-export` and to warm up
        the server; by default one example that has nothing.

    Returns:
      The artifact's path.
    """
    return self._thread.submit(self._base, day, step, examples).result()

  def delta(self, *, day=None, step=None, more=None):
    """Exports what changed enough since the last export of this exporter, and what is to go.

    Args:
      day: ordinal of the day, for the manifest.
      step: number of training steps, for the manifest.
      more: a dict of what JSON has, for the manifest.

    Returns:
      The artifact's path, `<folder>/delta/<base>/<sequence>`.

    Raises:
      ExportError: there is no base yet that it could follow.
    """
    return self.start_delta(day=day, step=step, more=more).result()

  def start_delta(self, **arguments):
    """As `delta`, but returns as soon as the rows are copied: tickets may run while they are written.

    Returns:
      A `concurrent.futures.Future` of the path. If it fails, nothing is lost: what was captured is in the next delta.
    """
    self._thread.submit(
      lambda: None
    ).result()  # One delta at a time: the last one is written first.
    captured = self._thread.submit(self._capture_delta).result()
    self._writing = self._thread.submit(self._write_delta, *captured, **arguments)
    return self._writing

  @property
  def is_writing(self):
    """Whether a delta is being written."""
    return self._writing is not None and not self._writing.done()

  def wait(self):
    """Waits until nothing is being written; what failed is no error here."""
    if self._writing is not None:
      futures.wait([self._writing])

  @property
  def has_base(self):
    """Whether a delta could follow: there is a base of this lineage."""
    return self._base_version is not None

  def state(self):
    """What a checkpoint keeps of the lineage, a dict of what JSON has; None before the first base."""
    if self._base_version is None:
      return None
    return {"id": self.lineage, "base": self._base_version, "sequence": self._sequence}

  def resume(self, state):
    """Goes on with the lineage of a checkpoint, if nothing was published after it.

    Otherwise the lineage is a new one, which begins with a base: what was published later holds what the tables do not
    know of.

    Args:
      state: of the checkpoint, as `state` gave it.

    Returns:
      Whether it goes on.
    """
    if state is None or self._published() != state:
      return False
    self.lineage = state["id"]
    self._base_version, self._sequence = state["base"], state["sequence"]
    return True

  def _published(self):
    """The newest artifact in the folder, as `state` would say it; None if there is none."""
    bases = artifact.numbers(files.join(self._folder, "base"))
    if not bases:
      return None
    deltas = artifact.numbers(files.join(self._folder, "delta", str(bases[-1])))
    try:
      base = artifact.read(files.join(self._folder, "base", str(bases[-1])))
    except ExportError:
      return None
    return {"id": base["lineage"], "base": bases[-1], "sequence": max([0, *deltas])}

  def _capture_delta(self):
    if self._base_version is None:
      raise ExportError("a delta follows a base, and there is none of this lineage: export a base.")
    if self._packed is None:  # The base was exported by an earlier process.
      served = ServedModel(self._model, self._raw, self.lineage, self._base_version)
      self._packed = served.packed_weights
    captured_at, began = time.time(), time.monotonic()
    captures = [TableCapture(table, "delta") for table in self._tables]
    weights = self._packed.read()
    self.pause_seconds = time.monotonic() - began
    return captures, weights, self.pause_seconds, captured_at

  def _write_delta(
    self, captures, weights, pause_seconds, captured_at, day=None, step=None, more=None
  ):
    content = {
      **(more or {}),
      "lineage": self.lineage,
      "base": self._base_version,
      "sequence": self._sequence + 1,
      "captured_at": captured_at,
      "day": day,
      "step": step,
      "weights": {"layout": self._packed.layout, "size": self._packed.size},
      "pause_seconds": pause_seconds,
    }
    folder = files.join(self._folder, "delta", str(self._base_version))
    self._lock.check()
    path = delta_lib.write(folder, self._sequence + 1, captures, weights, content, self._devices())
    self._commit(captures)
    self._sequence += 1
    return path

  def _commit(self, captures):
    """The artifact is durable."""
    # Should a server fail here, it is not known what counts as served: a base has to follow.
    version, self._base_version = self._base_version, None
    for capture in captures:
      capture.commit()
    self._base_version = version

  def _base(self, day, step, examples):
    folder = files.join(self._folder, "base")
    self._lock.check()
    version = base_artifact.next_version(folder)
    served = ServedModel(self._model, self._raw, self.lineage, version)
    # From here the tables stand still.
    began = time.monotonic()
    captures = {table.name: TableCapture(table, "base") for table in self._tables}
    weights = served.packed_weights.read()
    inputs = self._raw.empty_batch() if examples is None else examples
    inputs = {name: np.asarray(inputs[name]) for name in self._raw.specs}
    features = served.inputs.from_raw(base_artifact.tensors(self._raw, inputs))
    prediction = trained.predict(self._model, features, self._tables)
    self.pause_seconds = time.monotonic() - began
    # From here they need not.
    said = {
      "lineage": self.lineage,
      "day": day,
      "step": step,
      "pause_seconds": self.pause_seconds,
    }
    path = base_artifact.write(
      folder, version, served, captures, weights, inputs, features, prediction, said,
      self._devices(),
    )  # fmt: skip
    self._commit(captures.values())
    self._base_version, self._sequence, self._packed = version, 0, served.packed_weights
    self.bases += 1
    if self._keep is not None:
      artifact.remove_old(folder, self._keep)
    return path

  def _devices(self):
    return list(dict.fromkeys(server.device for table in self._tables for server in table.servers))
