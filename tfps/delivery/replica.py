"""Replica: a model on one running TensorFlow Serving, through the server's own gRPC API."""

from __future__ import annotations

import functools
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
  get_model_status_pb2,
  model_service_pb2_grpc,
  predict_pb2,
  prediction_service_pb2_grpc,
)

from tfps.errors import Busy, DeliveryError, NotServed, Refused, Unreachable

if TYPE_CHECKING:
  from tfps.export.delta_reader import Chunk

_ASSERTION = re.compile(r"assertion failed: (.*?)\s*(?:\[\[|$)", re.DOTALL)
_AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE
_AWAY = (
  grpc.StatusCode.UNAVAILABLE,
  grpc.StatusCode.DEADLINE_EXCEEDED,
  grpc.StatusCode.CANCELLED,
)
# What a server with a full queue or no free thread says, and what no waiting changes.
_BUSY = grpc.StatusCode.RESOURCE_EXHAUSTED
_TOO_LARGE = "larger than max"
# With batching: no room for another batch. The graphs of exports before 0.2.0 refuse a batch with
# the chunks of two senders.
_FULL = "batch scheduling queue"
_JOINED = "two different chunks came at once"
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 5.0  # seconds
_REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)


class Status(NamedTuple):
  """What a version of a replica holds.

  Fields:
    sequence: number of the last whole delta.
    position: entries of the next one that are applied.
    base: the base whose deltas these are; of a folded base not its own version.
    lineage: the lineage of that base.
  """

  sequence: int
  position: int
  base: int
  lineage: str


class Replica:
  """One server of a model.

  Args:
    address: "host:port" of its gRPC.
    channel: a grpc.Channel to it, such as `channel.open_channel` makes.
    model_name: the model's name there.
    timeout: seconds for which a call waits for a server that is away, busy or does not answer.

  Attributes:
    busy_seconds: how long calls have waited so far because the server was busy.

  Every method raises `Unreachable`, `Busy`, `NotServed`, `Refused`, or another `DeliveryError`.
  """

  def __init__(self, address: str, channel: grpc.Channel, model_name: str, timeout: float) -> None:
    self.address = address
    self._channel = channel
    self._model_name = model_name
    self._timeout = timeout
    self.busy_seconds = 0.0
    self._closed = threading.Event()
    predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    self._predict = functools.partial(self._call, predictions.Predict)
    self._get_model_status = functools.partial(self._call, models.GetModelStatus)

  def versions(self) -> list[int]:
    """The versions that it serves now, the oldest first."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = self._model_name
    found = self._get_model_status(request).model_version_status
    return sorted(version.version for version in found if version.state == _AVAILABLE)

  def version_of(self, label: str) -> int | None:
    """The version that a label is on; None if the server does not know the label."""
    request = self._request("delta_status", {"ask": tf.constant([0], tf.int64)})
    request.model_spec.version_label = label
    try:
      return int(self._predict(request).model_spec.version.value)
    except (NotServed, Refused):
      return None

  def status(self, version: int) -> Status:
    """The `Status` of a version."""
    return self._signature(version, "delta_status", {"ask": tf.constant([0], tf.int64)})

  def apply(self, version: int, chunk: Chunk) -> Status:
    """Sends a `tfps.export.delta_reader.Chunk`; returns the `Status` after it."""
    return self._signature(version, "apply_delta", chunk.inputs())

  def close(self) -> None:
    """Ends all calls under way."""
    self._closed.set()
    self._channel.close()

  def _signature(self, version: int, name: str, inputs: Mapping[str, Any]) -> Status:
    request = self._request(name, inputs)
    request.model_spec.version.value = version
    outputs = self._predict(request).outputs
    sequence, position, base = (_only(outputs[key]) for key in ("sequence", "position", "base"))
    return Status(int(sequence), int(position), int(base), _only(outputs["lineage"]).decode())

  def _request(self, signature: str, inputs: Mapping[str, Any]) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = self._model_name
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
      request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request

  def _call(self, method: Callable[..., Any], request: Any) -> Any:
    """Calls a method of the server; waits with growing pauses while the server is busy."""
    began = time.monotonic()
    wait = _FIRST_WAIT
    while True:
      try:
        return method(request, timeout=self._timeout)
      except grpc.RpcError as error:
        problem = self._explained(error.code(), error.details() or "")
      except ValueError as error:  # How grpcio says that the channel was closed.
        raise Unreachable(f"{self.address}: {error}.") from None
      if not isinstance(problem, Busy) or time.monotonic() - began > self._timeout:
        raise problem
      # Senders that were refused together must not come again together.
      pause = wait * random.uniform(0.5, 1)
      self.busy_seconds += pause
      if self._closed.wait(pause):
        raise Unreachable(f"{self.address}: the channel was closed.")
      wait = min(2 * wait, _LONGEST_WAIT)

  def _explained(self, code: grpc.StatusCode, details: str) -> DeliveryError:
    details = " ".join(details.split()).rstrip(".")
    if code == grpc.StatusCode.NOT_FOUND:
      return NotServed(
        f"{self.address} does not serve model '{self._model_name}' ({details}): name it with "
        "--model-name."
      )
    is_busy = code == _BUSY and _TOO_LARGE not in details
    if is_busy or _FULL in details or _JOINED in details:
      return Busy(
        f"{self.address} was busy for {self._timeout:g} s ({code.name}: {details}): give it more "
        "threads or a longer queue, or wait longer with --timeout."
      )
    if code in _REFUSALS:
      assertion = _ASSERTION.search(details)
      reason = _plain(assertion[1]) if assertion else details
      return Refused(f"{self.address} refused: {reason}.")
    if code not in _AWAY:
      return DeliveryError(f"{self.address} failed ({code.name}: {details}).")
    return Unreachable(
      f"{self.address} does not answer ({code.name}: {details}): is a server running there, and "
      "is this its gRPC port?"
    )


def _only(value: Any) -> Any:
  return tf.make_ndarray(value)[0]


def _plain(message: str) -> str:
  """The parts of a failed tf.debugging.Assert, which come as "[part] [part]", as one sentence."""
  return re.sub(r"\]\s*\[|^\[|\]$", " ", message).strip().replace("  ", " ")
