"""The processes of the circle: join, trainer, server, and what brings deltas to the server."""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

if TYPE_CHECKING:
  import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODEL = "ctr"
_WAIT_SECONDS = 600  # for a first base, and for processes to end


class Circle:
  """Starts join and trainer at once, and the server when the first base is there.

  Ends all of them at the end.

  Args:
    folder: where everything goes: logs, samples, checkpoints, exports, and the output of each
      process.
    trainer_settings: overrides of the trainer's config.
    deltas: whether deltas are to be sent to the server.

  Attributes:
    exit_codes: {name of a process: how it ended}, at the end.
  """

  def __init__(
    self, folder: str | os.PathLike, trainer_settings: Sequence[str], deltas: bool
  ) -> None:
    self._folder = pathlib.Path(folder)
    self._deltas = deltas
    self._processes: dict[str, subprocess.Popen] = {}
    self.exit_codes: dict[str, int | None] = {}
    self._stub: Any = None
    self._ending = threading.Event()
    with socket.socket() as free:
      free.bind(("127.0.0.1", 0))
      self._port = free.getsockname()[1]
    self._start(
      "join", "-m", "tfps", "join", f"--config={HERE / 'join.py'}",
      f"--config.features.folder={self._folder / 'features'}",
      f"--config.actions.folder={self._folder / 'actions'}",
      f"--config.state={self._folder / 'state'}",
      f"--config.samples.folder={self._folder / 'samples'}",
    )  # fmt: skip
    self._start(
      "trainer", "-m", "tfps", "train", f"--config={HERE / 'trainer.py'}",
      f"--config.data.folder={self._folder / 'samples'}",
      f"--config.export.folder={self._folder / 'export'}",
      f"--config.checkpoint.folder={self._folder / 'checkpoints'}", *trainer_settings,
    )  # fmt: skip
    self._serving = threading.Thread(target=self._serve, daemon=True)
    self._serving.start()

  def __enter__(self) -> Circle:
    return self

  def __exit__(self, *exc_info: object) -> None:
    self._ending.set()
    self._serving.join()
    for process in self._processes.values():
      process.terminate()
    for process in self._processes.values():
      try:
        process.wait(_WAIT_SECONDS)
      except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    self.exit_codes = {name: process.returncode for name, process in self._processes.items()}

  @property
  def is_serving(self) -> bool:
    """Whether a model is there to rank."""
    return self._stub is not None

  def rank(self, features: Mapping[str, Sequence[str]]) -> np.ndarray | None:
    """float [n]: the served model's click probability for {feature: texts [n]}.

    None where none is served yet.
    """
    if self._stub is None:
      return None
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    request.model_spec.signature_name = "serving_default"
    for name, texts in features.items():
      request.inputs[name].CopyFrom(tf.make_tensor_proto(texts))
    (output,) = self._stub.Predict(request, 30.0).outputs.values()
    return tf.make_ndarray(output).ravel()

  def check(self) -> None:
    """Raises RuntimeError if a process has ended."""
    for name, process in self._processes.items():
      if process.poll() is not None:
        log = (self._folder / f"{name}.log").read_text(errors="replace")
        raise RuntimeError(
          f"the {name} ended with {process.returncode}; its log ends with:\n{log[-2000:]}"
        )

  def _start(self, name: str, *arguments: str, program: str = sys.executable) -> None:
    paths = [str(ROOT), os.environ.get("PYTHONPATH")]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    environment.pop("TF_CONFIG", None)
    with open(self._folder / f"{name}.log", "w") as log:
      self._processes[name] = subprocess.Popen(
        [program, *arguments], env=environment, stdout=log, stderr=subprocess.STDOUT
      )

  def _serve(self) -> None:
    """Starts the server once there is a base, and what sends deltas to it."""
    base = self._folder / "export" / "base"
    while not any(base.glob("[0-9]*/manifest.json")):
      if self._ending.wait(0.5):
        return
    program, flags = sys.executable, ["-m", "examples.online.server"]
    if binary := shutil.which("tensorflow_model_server"):
      program, flags = binary, []
    self._start(
      "server", *flags, f"--port={self._port}", f"--model_name={MODEL}",
      f"--model_base_path={base}",
      "--file_system_poll_wait_seconds=1", program=program,
    )  # fmt: skip
    if self._deltas:
      self._start(
        "sync", "-m", "tfps", "sync", str(self._folder / "export"),
        f"--server=127.0.0.1:{self._port}",
        f"--model-name={MODEL}", "--poll=0.5",
      )  # fmt: skip
    channel = grpc.insecure_channel(f"127.0.0.1:{self._port}")
    while not self._ending.is_set():
      try:
        grpc.channel_ready_future(channel).result(1.0)
      except grpc.FutureTimeoutError:
        continue
      self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
      return
