"""A base in TensorFlow's session loader, with the deltas that go on top of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfps.data.raw_inputs import RawInputs
from tfps.errors import ExportError
from tfps.export import artifact
from tfps.export.artifact import ARTIFACTS
from tfps.export.checking.session import SavedModelSession, SessionError
from tfps.export.delta_folder import ExportFolder
from tfps.export.manifests import BaseManifest
from tfps.export.served import padding
from tfps.export.served.model import CLASSIFY, FEATURES
from tfps.replay.request import FEASIGNS, RAW, SERIALIZED, Request
from tfps.storage import paths

_CHUNK_BYTES = 1 << 20

Arrays = dict[str, np.ndarray]


def versions(folder: str) -> list[int]:
  """The numbers of the bases in an export folder, in order.

  Raises:
    ExportError: there is none.
  """
  found = ARTIFACTS.numbers(paths.join(folder, "base"))
  if not found:
    raise ExportError(
      f"{folder} has no base in its folder 'base': name a folder of tfps's exports."
    )
  return found


class Served:
  """What a server holds that loaded a base; deltas are applied one after the other.

  Args:
    folder: the export folder.
    version: the base's number.
    last: the number of the last delta to apply; None for all that are there.

  Attributes:
    path: the base's path.
    manifest: its manifest.
    delta: the number of the last delta that was applied; 0 for the base alone.
    step: the number of training steps that it holds.
    raw: its raw inputs, whose features are not known here.
    outputs: the names of the model's outputs.

  Raises:
    ExportError: the base is missing or damaged, or cannot be loaded.
  """

  def __init__(self, folder: str, version: int, last: int | None = None) -> None:
    self.path = paths.join(folder, "base", str(version))
    self.manifest = artifact.read_as(self.path, BaseManifest)
    artifact.check_files(self.path, self.manifest)
    try:
      self._session = SavedModelSession(self.path)
    except ValueError as error:
      raise ExportError(f"{self.path} cannot be served: {error}") from None
    self._deltas, self._last = ExportFolder(folder), last
    self.delta = self.manifest.last_sequence
    self.step = self.manifest.step
    definition = self._session.signatures[RAW]
    self.raw = RawInputs({name: _spec(info) for name, info in definition.inputs.items()}, dict)
    self.outputs = sorted(definition.outputs)

  @property
  def makes_features(self) -> bool:
    """Whether it can say which features it makes of raw inputs; exports before 0.2.0 cannot."""
    return FEATURES in self._session.signatures

  def advance(self) -> bool:
    """Applies the next delta; returns whether there was one.

    Raises:
      ExportError, DeliveryError: it is damaged, or missing between others.
    """
    if self._last is not None and self.delta >= self._last:
      return False
    delta = self._deltas.next_delta(self.manifest.first_base, self.delta)
    if delta is None:
      return False
    try:
      for chunk in delta.chunks(0, _CHUNK_BYTES):
        self._session.run(chunk.inputs(), "apply_delta")
    except ValueError as error:
      raise ExportError(f"{delta.path} does not go on top of {self.path}: {error}") from None
    self.delta, self.step = delta.sequence, delta.step
    return True

  def problem(self, request: Request) -> str:
    """Why a request is none for this model; "" if it is one."""
    if request.signature not in self._session.signatures:
      return f"there is no signature '{request.signature}'"
    definition = self._session.signatures[request.signature]
    inputs = definition.inputs
    for name in set(request.outputs) - set(definition.outputs):
      return f"the model has no output '{name}'"
    for name in inputs:
      if name not in request.inputs:
        return f"it lacks the input '{name}'"
    for name, value in request.inputs.items():
      if name not in inputs:
        return f"the model has no input '{name}'"
      spec = _spec(inputs[name])
      if not spec.shape.is_compatible_with(value.shape):
        return f"the input '{name}' is {list(value.shape)}, and the model takes {spec.shape}"
      if tf.dtypes.as_dtype(value.dtype) != spec.dtype:
        return f"the input '{name}' is {value.dtype}, and the model takes {spec.dtype.name}"
    return ""

  def predict(self, signature: str, inputs: Mapping[str, Any]) -> Arrays:
    """{name: float32 [n, k]}: the outputs of a signature; of `classify` the scores alone."""
    outputs = self._run(inputs, signature)
    if signature == CLASSIFY:
      del outputs["classes"]
    return {
      name: np.asarray(value, np.float32).reshape(len(value), -1)
      for name, value in outputs.items()
      if value.dtype.kind == "f"
    }

  def raw_of(self, request: Request) -> Arrays | None:
    """The raw inputs of a request; None where the client sent feasigns."""
    if request.signature == FEASIGNS:
      return None
    if request.signature in SERIALIZED:
      return self.parse(request.inputs["inputs"])
    return dict(request.inputs)

  def parse(self, serialized: Any) -> Arrays:
    """The raw inputs of serialized tf.Examples."""
    parsed = self.raw.parse_examples(tf.constant(serialized, tf.string))
    return {name: value.numpy() for name, value in parsed.items()}

  def features(self, raw: Mapping[str, np.ndarray]) -> Arrays:
    """What the artifact's own graph makes of raw inputs: the inputs of the signature feasigns."""
    return self._run(raw, FEATURES)

  def _run(self, inputs: Mapping[str, Any], signature: str) -> Arrays:
    try:
      return self._session.run(inputs, signature)
    except SessionError as error:
      if "pad_variable_length_inputs" not in str(error):
        raise
    # No server has filled up what a log holds: here it was put together.
    definition = self._session.signatures[signature]
    specs = {name: _spec(info) for name, info in definition.inputs.items()}
    return self._session.run(padding.end_rows(inputs, specs), signature)

  def close(self) -> None:
    """Frees its memory."""
    self._session.close()


def _spec(info: Any) -> tf.TensorSpec:
  return tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.dtypes.as_dtype(info.dtype))
