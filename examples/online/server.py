"""A small stand-in for `tensorflow_model_server`: its gRPC API over the C++ session loader.

`python -m examples.online.server --port=8500 --model_name=ctr --model_base_path=FOLDER` serves
the newest version in the folder and changes to a newer one when it appears. Warm-up requests are
run. Predict, Classify, Regress, GetModelStatus and GetModelMetadata of the real messages; no tfps
op is registered here. The port opens when a version is loaded. `--enable_batching` joins requests,
and `--grpc_max_threads` bounds how many are served at once, as in the real server.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
  classification_pb2,
  get_model_metadata_pb2,
  get_model_status_pb2,
  model_service_pb2_grpc,
  predict_pb2,
  prediction_log_pb2,
  prediction_service_pb2_grpc,
  regression_pb2,
)

from examples.online.batching import Batching, Parameters
from tfps.export.checking.session import SavedModelSession, SessionError

if TYPE_CHECKING:
  import numpy as np

_ModelVersionStatus = get_model_status_pb2.ModelVersionStatus
_STATUS = {status.value[0]: status for status in grpc.StatusCode}


class Session(Protocol):
  """What runs the signatures of a version."""

  signatures: dict[str, Any]

  def run(self, inputs: Mapping[str, Any], signature: str) -> dict[str, np.ndarray]:
    """Outputs by name; see `SavedModelSession.run`."""


class Versions:
  """The loaded versions of a model.

  Args:
    folder: has a SavedModel for each version, named by its number.
    wanted: the versions to serve; the newest where it is empty.
    batching: how requests are joined; None if they are not.

  Attributes:
    labels: {label: its version}.
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    wanted: Sequence[int] = (),
    batching: Parameters | None = None,
  ) -> None:
    self._folder = pathlib.Path(folder)
    self._wanted = wanted
    self._batching = batching
    self._threads = futures.ThreadPoolExecutor(batching.num_batch_threads if batching else 1)
    self.labels: dict[str, int] = {}
    self._sessions: dict[int, Session] = {}
    self._changed = threading.Lock()

  def refresh(self) -> list[int]:
    """Loads what is there and not loaded; afterwards drops what is not wanted any more."""
    there = {int(path.name) for path in self._folder.iterdir() if path.name.isdecimal()}
    wanted = there & set(self._wanted) if self._wanted else set(sorted(there)[-1:])
    loaded = {
      version: self._sessions.get(version) or self._load(version) for version in sorted(wanted)
    }
    if loaded:
      with self._changed:
        self._sessions = loaded  # A dropped session ends with the last request that has it.
    return list(loaded)

  def get(self, spec: Any, context: grpc.ServicerContext) -> tuple[int, Session]:
    with self._changed:
      sessions = dict(self._sessions)
    version = spec.version.value if spec.HasField("version") else max(sessions)
    if spec.HasField("version_label"):
      if spec.version_label not in self.labels:
        context.abort(
          grpc.StatusCode.INVALID_ARGUMENT,
          f"Unrecognized servable version label: {spec.version_label}",
        )
      version = self.labels[spec.version_label]
    if version not in sessions:
      context.abort(
        grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific({version})"
      )
    return version, sessions[version]

  def loaded(self) -> list[int]:
    with self._changed:
      return list(self._sessions)

  def _load(self, version: int) -> Session:
    """The session of a SavedModel, after its warm-up requests."""
    path = self._folder / str(version)
    loaded = SavedModelSession(path)
    session: Session = loaded
    if self._batching is not None:
      session = Batching(loaded, self._batching, self._threads)
    for record in tf.data.TFRecordDataset(f"{path}/assets.extra/tf_serving_warmup_requests"):
      log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
      kind = log.WhichOneof("log_type")
      request = getattr(log, kind).request
      inputs = _arrays(request) if kind == "predict_log" else _serialized(request)
      session.run(inputs, request.model_spec.signature_name)
    return session


def _arrays(request: Any) -> dict[str, np.ndarray]:
  return {name: tf.make_ndarray(value) for name, value in request.inputs.items()}


def _serialized(request: Any) -> dict[str, list[bytes]]:
  """The input of a signature that classifies or regresses."""
  examples = request.input.example_list.examples
  return {"inputs": [example.SerializeToString() for example in examples]}


class Service(
  prediction_service_pb2_grpc.PredictionServiceServicer,
  model_service_pb2_grpc.ModelServiceServicer,
):
  """The calls of a server with one model."""

  def __init__(self, model_name: str, versions: Versions) -> None:
    self._model_name = model_name
    self._versions = versions

  def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
    response = predict_pb2.PredictResponse()
    outputs = self._run(request, _arrays(request), response, context)
    for name, value in outputs.items():
      response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    return response

  def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:
    response = classification_pb2.ClassificationResponse()
    outputs = self._run(request, _serialized(request), response, context)
    for labels, scores in zip(outputs["classes"], outputs["scores"]):
      classes = response.result.classifications.add().classes
      for label, score in zip(labels, scores):
        classes.add(label=label, score=score)
    return response

  def Regress(self, request: Any, context: grpc.ServicerContext) -> Any:
    response = regression_pb2.RegressionResponse()
    outputs = self._run(request, _serialized(request), response, context)
    for value in outputs["outputs"]:
      response.result.regressions.add(value=value)
    return response

  def _run(
    self, request: Any, inputs: dict[str, Any], response: Any, context: grpc.ServicerContext
  ) -> dict[str, np.ndarray]:
    """The outputs of a signature; the response says which version they are of."""
    version, session = self._session(request.model_spec, context)
    signature = request.model_spec.signature_name or "serving_default"
    if signature not in session.signatures:
      context.abort(
        grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{signature}" not found.'
      )
    response.model_spec.name = self._model_name
    response.model_spec.version.value = version
    response.model_spec.signature_name = signature
    try:
      return session.run(inputs, signature)
    except SessionError as error:
      context.abort(_STATUS[error.code], str(error))
      raise  # abort has raised already.
    except ValueError as error:
      context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
      raise

  def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
    self._check_name(request.model_spec, context)
    return get_model_status_pb2.GetModelStatusResponse(
      model_version_status=[
        _ModelVersionStatus(version=version, state=_ModelVersionStatus.AVAILABLE)
        for version in self._versions.loaded()
      ]
    )

  def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
    version, session = self._session(request.model_spec, context)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = self._model_name
    response.model_spec.version.value = version
    signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=session.signatures)
    response.metadata["signature_def"].Pack(signatures)
    return response

  def _session(self, spec: Any, context: grpc.ServicerContext) -> tuple[int, Session]:
    self._check_name(spec, context)
    return self._versions.get(spec, context)

  def _check_name(self, spec: Any, context: grpc.ServicerContext) -> None:
    if spec.name != self._model_name:
      context.abort(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")


def add(server: grpc.Server, model_name: str, versions: Versions) -> None:
  """Lets a grpc.Server answer the calls."""
  service = Service(model_name, versions)
  prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
  model_service_pb2_grpc.add_ModelServiceServicer_to_server(service, server)


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--port", type=int, required=True)
  parser.add_argument("--model_name", required=True)
  parser.add_argument("--model_base_path", required=True)
  parser.add_argument("--file_system_poll_wait_seconds", type=float, default=1.0)
  parser.add_argument("--enable_batching", action="store_true")
  parser.add_argument("--batching_parameters_file", type=pathlib.Path)
  parser.add_argument("--grpc_max_threads", type=int, default=4 * (os.cpu_count() or 1))
  flags = parser.parse_args()
  batching = None
  if flags.enable_batching:
    given = flags.batching_parameters_file
    batching = Parameters.read(given.read_text() if given else "")
  stop = threading.Event()
  for signum in (signal.SIGTERM, signal.SIGINT):
    signal.signal(signum, lambda *_: stop.set())
  versions = Versions(flags.model_base_path, batching=batching)
  while not versions.refresh():
    if stop.wait(flags.file_system_poll_wait_seconds):
      return
  options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
  server = grpc.server(
    futures.ThreadPoolExecutor(flags.grpc_max_threads),
    options=options,
    maximum_concurrent_rpcs=flags.grpc_max_threads,  # Others get RESOURCE_EXHAUSTED.
  )
  add(server, flags.model_name, versions)
  server.add_insecure_port(f"127.0.0.1:{flags.port}")
  server.start()
  if "tfps.native" in sys.modules:
    sys.exit("tfps's ops were loaded into the server.")
  while not stop.wait(flags.file_system_poll_wait_seconds):
    versions.refresh()
  server.stop(grace=1).wait()


if __name__ == "__main__":
  main()
