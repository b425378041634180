"""Servers of exported models for tests and benchmarks: the real one where it is installed."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
  get_model_status_pb2,
  model_service_pb2_grpc,
  predict_pb2,
  prediction_service_pb2_grpc,
)

from tests.patience import PATIENCE

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = "ctr"
BINARY = shutil.which("tensorflow_model_server")
STARTED = []  # the programs that this process started as servers


class ModelServer:
  """A server process on a free loopback port, which it keeps when it is started again.

  It is `tensorflow_model_server` where that is on the PATH, else `examples/online/server.py`.

  Args:
    export: the export folder, whose newest base is served.
    flags: further flags of the server.
    batching: the text of its batching parameters, if it joins requests.
  """

  PROGRAM = BINARY or "examples/online/server.py"

  def __init__(self, export, flags=(), batching=None):
    self._base = pathlib.Path(export).resolve() / "base"
    self._files = tempfile.TemporaryDirectory(prefix="model_server-")
    self._flags = [*flags]
    if batching is not None:
      parameters = pathlib.Path(self._files.name, "batching")
      parameters.write_text(batching)
      self._flags += ["--enable_batching", f"--batching_parameters_file={parameters}"]
    self.address = self.free_address()
    self._channel = grpc.insecure_channel(
      self.address,
      [("grpc.max_reconnect_backoff_ms", 500), ("grpc.initial_reconnect_backoff_ms", 100)],
    )
    self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
    self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
    self.process = None
    self.start()

  @staticmethod
  def free_address():
    """host:port on which nothing listens."""
    with socket.socket() as free:
      free.bind(("127.0.0.1", 0))
      return f"127.0.0.1:{free.getsockname()[1]}"

  def start(self):
    """Starts the process; it serves when `wait` returns."""
    command = [*(self._real() if BINARY else self._stand_in()), *self._flags]
    STARTED.append(self.PROGRAM)
    paths = [str(ROOT), os.environ.get("PYTHONPATH")]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    self._log = open(pathlib.Path(self._files.name, "log"), "ab")
    self.process = subprocess.Popen(
      command, env=environment, stdout=self._log, stderr=subprocess.STDOUT
    )

  def wait(self):
    """Waits until it serves a version; returns the versions."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = MODEL
    try:
      reply = self._models.GetModelStatus(request, PATIENCE, wait_for_ready=True)
    except grpc.RpcError as error:
      self._log.flush()
      text = pathlib.Path(self._log.name).read_text(errors="replace")
      raise AssertionError(f"{self.address}: {error.details()}\n{text[-3000:]}") from None
    return [status.version for status in reply.model_version_status if status.state == 30]

  def call(self, inputs, signature="serving_default", version=None):
    """{name: array} of a signature's outputs."""
    outputs = self.exchange(inputs, signature, version)[1].outputs
    return {name: tf.make_ndarray(value) for name, value in outputs.items()}

  def exchange(self, inputs, signature="serving_default", version=None):
    """(PredictRequest, PredictResponse) of a call."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    request.model_spec.signature_name = signature
    if version is not None:
      request.model_spec.version.value = version
    for name, value in inputs.items():
      request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request, self._stub.Predict(request, PATIENCE, wait_for_ready=True)

  def status(self, version=None):
    """(sequence, position)."""
    found = self.call({"ask": tf.constant([0], tf.int64)}, "delta_status", version)
    return int(found["sequence"][0]), int(found["position"][0])

  def kill(self):
    self.process.send_signal(signal.SIGKILL)
    self.process.wait()
    self._log.close()

  def close(self):
    self._channel.close()
    if self.process.poll() is None:
      self.kill()
    self._files.cleanup()

  def __enter__(self):
    return self

  def __exit__(self, *exc_info):
    self.close()

  def _stand_in(self):
    return [
      sys.executable, "-m", "examples.online.server", "--port", self.address.split(":")[1],
      "--model_name", MODEL, "--model_base_path", str(self._base),
      "--file_system_poll_wait_seconds", "0.2",
    ]  # fmt: skip

  def _real(self):
    return [
      BINARY, "--port=" + self.address.split(":")[1], f"--model_name={MODEL}",
      f"--model_base_path={self._base}", "--file_system_poll_wait_seconds=1",
    ]  # fmt: skip
