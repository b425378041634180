"""Replica: a model on one running TensorFlow Serving, through the server's own gRPC API."""

from __future__ import annotations

import functools
import re
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

from tfps.errors import DeliveryError, NotServed, Refused, Unreachable

if TYPE_CHECKING:
  from tfps.export.delta_reader import Chunk

_ASSERTION = re.compile(r"assertion failed: (.*?)\s*(?:\[\[|$)", re.DOTALL)
_AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE
_AWAY = (
  grpc.StatusCode.UNAVAILABLE,
  grpc.StatusCode.DEADLINE_EXCEEDED,
  grpc.StatusCode.CANCELLED,
)
_REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)


class Status(NamedTuple):
  """The position of a replica in a base's deltas.

  Fields:
    sequence: number of the last whole delta.
    position: entries of the next one that are applied.
  """

  sequence: int
  position: int


class Replica:
  """One server of a model.

  Args:
    address: "host:port" of its gRPC.
    channel: a grpc.Channel to it, such as `channel.open_channel` makes.
    model_name: the model's name there.
    timeout: seconds for which a call waits for a server that is away or does not answer.

  Every method raises `Unreachable`, `NotServed`, `Refused`, or another `DeliveryError`.
  """

  def __init__(self, address: str, channel: grpc.Channel, model_name: str, timeout: float) -> None:
    self.address = address
    self._channel = channel
    self._model_name = model_name
    self._timeout = timeout
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

  def status(self, version: int) -> Status:
    """The `Status` of a version."""
    return self._signature(version, "delta_status", {"ask": tf.constant([0], tf.int64)})

  def apply(self, version: int, chunk: Chunk) -> Status:
    """Sends a `tfps.export.delta_reader.Chunk`; returns the `Status` after it."""
    return self._signature(version, "apply_delta", chunk.inputs())

  def close(self) -> None:
    """Ends all calls under way."""
    self._channel.close()

  def _signature(self, version: int, name: str, inputs: Mapping[str, Any]) -> Status:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = self._model_name
    request.model_spec.version.value = version
    request.model_spec.signature_name = name
    for key, value in inputs.items():
      request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    outputs = self._predict(request).outputs
    return Status(*(int(tf.make_ndarray(outputs[key])[0]) for key in Status._fields))

  def _call(self, method: Callable[..., Any], request: Any) -> Any:
    try:
      return method(request, timeout=self._timeout)
    except grpc.RpcError as error:
      raise self._explained(error.code(), error.details() or "") from None
    except ValueError as error:  # How grpcio says that the channel was closed.
      raise Unreachable(f"{self.address}: {error}.") from None

  def _explained(self, code: grpc.StatusCode, details: str) -> DeliveryError:
    details = " ".join(details.split()).rstrip(".")
    if code == grpc.StatusCode.NOT_FOUND:
      return NotServed(
        f"{self.address} does not serve model '{self._model_name}' ({details}): name it with "
        "--model-name."
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


def _plain(message: str) -> str:
  """The parts of a failed tf.debugging.Assert, which come as "[part] [part]", as one sentence."""
  return re.sub(r"\]\s*\[|^\[|\]$", " ", message).strip().replace("  ", " ")
