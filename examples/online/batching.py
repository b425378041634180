"""The stand-in's `--enable_batching`: requests joined by the rules of the real server.

They are those of TensorFlow Serving 2.16's batching_session.cc and batching_util.cc, but for
`enable_large_batch_splitting`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import tensorflow as tf

from tfps.export.checking.session import SavedModelSession, SessionError

_INVALID, _PRECONDITION = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION


@dataclasses.dataclass(frozen=True)
class Parameters:
  """The fields of a `--batching_parameters_file`, with the server's defaults."""

  max_batch_size: int = 1000
  batch_timeout_micros: int = 0
  max_enqueued_batches: int = 10
  num_batch_threads: int = os.cpu_count() or 1
  allowed_batch_sizes: Sequence[int] = ()
  pad_variable_length_inputs: bool = False

  @classmethod
  def read(cls, text: str) -> Parameters:
    """Of a BatchingParameters message as text."""
    values: dict[str, list[str]] = {}
    for name, value in re.findall(r"(\w+)\s*(?::|\{\s*value\s*:)\s*(\w+)", text):
      values.setdefault(name, []).append(value)
    found: dict[str, Any] = {}
    for name, given in values.items():
      if name == "pad_variable_length_inputs":
        found[name] = given[0] == "true"
      elif name == "allowed_batch_sizes":
        found[name] = tuple(map(int, given))
      elif name in cls.__dataclass_fields__:
        found[name] = int(given[0])
    made = cls(**found)
    if made.allowed_batch_sizes and made.allowed_batch_sizes[-1] != made.max_batch_size:
      raise ValueError("Last entry in allowed_batch_sizes must match max_batch_size")
    return made


class _Task:
  """A request that waits for its batch."""

  def __init__(self, inputs: Mapping[str, np.ndarray], size: int) -> None:
    self.inputs, self.size = inputs, size
    self.outputs: futures.Future[dict[str, np.ndarray]] = futures.Future()


class _Batch:
  """Tasks that are run together."""

  def __init__(self) -> None:
    self.tasks: list[_Task] = []
    self.opened = time.monotonic()
    self.full = threading.Event()

  @property
  def size(self) -> int:
    return sum(task.size for task in self.tasks)


class Batching:
  """Joins the requests of each signature of a session.

  Args:
    session: the session that runs batches.
    parameters: the `Parameters`.
    threads: the batch threads, which all versions share.
  """

  def __init__(
    self, session: SavedModelSession, parameters: Parameters, threads: futures.Executor
  ) -> None:
    self.signatures = session.signatures
    self._session, self._parameters, self._threads = session, parameters, threads
    self._lock = threading.Lock()
    self._waiting: dict[str, list[_Batch]] = {name: [] for name in session.signatures}

  def run(
    self, inputs: Mapping[str, Any], signature: str = "serving_default"
  ) -> dict[str, np.ndarray]:
    """As `SavedModelSession.run`, together with the requests of others."""
    # As objects: NumPy's own strings lose zeros at their end.
    texts = {
      name
      for name, info in self.signatures[signature].inputs.items()
      if info.dtype == tf.string.as_datatype_enum
    }
    arrays = {
      name: np.asarray(value, object if name in texts else None) for name, value in inputs.items()
    }
    sizes = {array.shape[:1] for array in arrays.values()}
    if sizes == {()} or len(sizes) != 1:
      raise SessionError(
        _INVALID.value[0], "Batching Run() input tensors must have equal 0th-dimension size"
      )
    task = _Task(arrays, next(iter(sizes))[0])
    self._add(task, signature)
    return task.outputs.result()

  def _add(self, task: _Task, signature: str) -> None:
    limit = self._parameters.max_batch_size
    if task.size > limit:
      raise SessionError(
        _INVALID.value[0],
        f"Task size {task.size} is larger than maximum input batch size {limit}",
      )
    with self._lock:
      batches = self._waiting[signature]
      if not batches or batches[-1].size + task.size > limit:
        if len(batches) >= self._parameters.max_enqueued_batches:
          raise SessionError(
            grpc.StatusCode.UNAVAILABLE.value[0],
            "The batch scheduling queue to which this task was submitted is full",
          )
        if batches:
          batches[-1].full.set()
        batches.append(_Batch())
        self._threads.submit(self._process, signature, batches[-1])
      batches[-1].tasks.append(task)
      if batches[-1].size == limit:
        batches[-1].full.set()

  def _process(self, signature: str, batch: _Batch) -> None:
    left = batch.opened + self._parameters.batch_timeout_micros / 1e6 - time.monotonic()
    batch.full.wait(max(0.0, left))
    with self._lock:
      self._waiting[signature].remove(batch)
    try:
      outputs = self._session.run(self._merged(batch), signature)
      for task, part in zip(batch.tasks, _split(outputs, batch, self._padding_of(batch))):
        task.outputs.set_result(part)
    except Exception as error:  # It is that of each task.
      for task in batch.tasks:
        task.outputs.set_exception(error)

  def _padding_of(self, batch: _Batch) -> int:
    """How many copies of a row bring a batch to an allowed size."""
    allowed = [size for size in self._parameters.allowed_batch_sizes if size >= batch.size]
    return min(allowed, default=batch.size) - batch.size

  def _merged(self, batch: _Batch) -> dict[str, np.ndarray]:
    merged = {}
    for name in batch.tasks[0].inputs:
      parts = [task.inputs[name] for task in batch.tasks]
      if self._parameters.pad_variable_length_inputs:
        parts = _padded(parts)
      elif len({part.shape[1:] for part in parts}) > 1:
        raise SessionError(
          _PRECONDITION.value[0],
          f"Tensors with name '{name}' from different tasks have different shapes and padding is "
          "turned off. Set pad_variable_length_inputs to true, or ensure that all tensors with the "
          "same name have equal dimensions starting with the first dim.",
        )
      merged[name] = np.concatenate([*parts, *[parts[-1][:1]] * self._padding_of(batch)])
    return merged


def _padded(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
  """Each brought to the width of the widest, with its own first value."""
  shape = np.max([part.shape for part in parts], axis=0)
  padded = []
  for part in parts:
    widths = [(0, 0), *((0, most - size) for most, size in zip(shape[1:], part.shape[1:]))]
    if any(after for _, after in widths):
      if not part.size:
        raise SessionError(_INVALID.value[0], "Got empty tensor in batch of non-empty tensors.")
      part = np.pad(part, widths, constant_values=part.flat[0])
    padded.append(part)
  return padded


def _split(
  outputs: Mapping[str, np.ndarray], batch: _Batch, padding: int
) -> list[dict[str, np.ndarray]]:
  for value in outputs.values():
    if value.ndim == 0:
      raise SessionError(_PRECONDITION.value[0], "Batched output tensor has 0 dimensions")
    if len(value) != batch.size + padding:
      raise SessionError(
        _PRECONDITION.value[0],
        "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes "
        "of the input tensors",
      )
  ends = np.cumsum([task.size for task in batch.tasks])
  return [
    {name: value[end - task.size : end] for name, value in outputs.items()}
    for task, end in zip(batch.tasks, ends)
  ]
