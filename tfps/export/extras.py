"""The files beside a SavedModel's graph: requests to warm it up, and examples to check it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfps.errors import ExportError
from tfps.storage import paths

if TYPE_CHECKING:
  from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

EXAMPLES = "assets.extra/tfps_examples.npz"
_WARMUP = "assets.extra/tf_serving_warmup_requests"


def check_serving_api() -> None:
  """Raises ExportError if the messages of TensorFlow Serving's API are not installed."""
  try:
    import tensorflow_serving.apis.prediction_log_pb2  # noqa: F401
  except ImportError:
    minor = ".".join(tf.__version__.split(".")[:2])
    raise ExportError(
      "an export needs TensorFlow Serving's messages: run "
      f"`pip install --no-deps tensorflow-serving-api~={minor}.0`."
    ) from None


def write_warmup(folder: str, requests: Iterable[PredictionLog]) -> None:
  """Writes requests that TensorFlow Serving runs when it has loaded the model.

  Args:
    folder: the SavedModel's folder.
    requests: of `predict_log` and `examples_log`; 1,000 at most.
  """
  tf.io.gfile.makedirs(paths.join(folder, "assets.extra"))
  with tf.io.TFRecordWriter(paths.join(folder, _WARMUP)) as writer:
    for request in requests:
      writer.write(request.SerializeToString())


def predict_log(signature: str, inputs: Mapping[str, Any]) -> PredictionLog:
  """A call of Predict, with its inputs as arrays by name."""
  from tensorflow_serving.apis import prediction_log_pb2

  log = prediction_log_pb2.PredictionLog()
  request = log.predict_log.request
  request.model_spec.signature_name = signature
  for name, value in inputs.items():
    request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
  return log


def examples_log(kind: str, signature: str, inputs: Mapping[str, Any]) -> PredictionLog:
  """A call of Classify or Regress with examples.

  Args:
    kind: "classify_log" or "regress_log".
    signature: its name.
    inputs: the raw inputs of the examples by name.
  """
  from tensorflow_serving.apis import prediction_log_pb2

  log = prediction_log_pb2.PredictionLog()
  request = getattr(log, kind).request
  request.model_spec.signature_name = signature
  request.input.example_list.examples.extend(_examples(inputs))
  return log


def write_examples(folder: str, inputs: Mapping[str, Any], predictions: Mapping[str, Any]) -> None:
  """Writes raw examples with the trainer's predictions, both as arrays by name."""
  tf.io.gfile.makedirs(paths.join(folder, "assets.extra"))
  arrays = {f"input/{name}": _plain(value) for name, value in inputs.items()}
  arrays |= {f"prediction/{name}": _plain(value) for name, value in predictions.items()}
  content = io.BytesIO()
  np.savez(content, **arrays)
  with tf.io.gfile.GFile(paths.join(folder, EXAMPLES), "wb") as file:
    file.write(content.getvalue())


def read_examples(path: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """The raw inputs and the predictions of a file that `write_examples` wrote, by name."""
  with tf.io.gfile.GFile(path, "rb") as file:
    content = io.BytesIO(file.read())
  with np.load(content) as arrays:
    parts: dict[str, dict[str, np.ndarray]] = {"input": {}, "prediction": {}}
    for key in arrays.files:
      part, _, name = key.partition("/")
      parts[part][name] = arrays[key]
  return parts["input"], parts["prediction"]


def serialized(inputs: Mapping[str, Any]) -> list[bytes]:
  """Raw inputs by name as serialized tf.Examples."""
  return [example.SerializeToString() for example in _examples(inputs)]


def _examples(inputs: Mapping[str, Any]) -> list[tf.train.Example]:
  """Raw inputs by name as tf.Examples, which have a feature for each."""
  arrays = {name: np.asarray(value) for name, value in inputs.items()}
  examples = [tf.train.Example() for _ in range(len(next(iter(arrays.values()))))]
  for name, array in arrays.items():
    for example, row in zip(examples, array):
      _fill(example.features.feature[name], np.ravel(row))
  return examples


def _fill(feature: tf.train.Feature, values: np.ndarray) -> None:
  if values.dtype.kind in "iu":
    feature.int64_list.value.extend(values.tolist())
  elif values.dtype.kind == "f":
    feature.float_list.value.extend(values.tolist())
  else:
    texts = values.tolist()
    feature.bytes_list.value.extend(
      text.encode() if isinstance(text, str) else text for text in texts
    )


def _plain(value: Any) -> np.ndarray:
  """A NumPy array, in which strings are bytes of a fixed width, which need no pickle."""
  value = np.asarray(value)
  return value.astype(np.bytes_) if value.dtype == object else value
