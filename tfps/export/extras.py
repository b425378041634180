"""What lies beside a SavedModel's graph: requests to warm it up, and examples to check it with."""

import io

import numpy as np
import tensorflow as tf

from tfps.errors import ExportError
from tfps.storage import paths

EXAMPLES = "assets.extra/tfps_examples.npz"
_WARMUP = "assets.extra/tf_serving_warmup_requests"


def check_serving_api():
  """Raises ExportError if the messages of TensorFlow Serving's API are not installed."""
  try:
    import tensorflow_serving.apis.prediction_log_pb2  # noqa: F401
  except ImportError:
    minor = ".".join(tf.__version__.split(".")[:2])
    raise ExportError(
      "an export needs TensorFlow Serving's messages: run "
      f"`pip install --no-deps tensorflow-serving-api~={minor}.0`."
    ) from None


def write_warmup(folder, requests):
  """Writes requests that TensorFlow Serving runs when it has loaded the model.

  Args:
    folder: the SavedModel's.
    requests: [(signature, {input: array})], 1,000 at most.
  """
  from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

  tf.io.gfile.makedirs(paths.join(folder, "assets.extra"))
  with tf.io.TFRecordWriter(paths.join(folder, _WARMUP)) as writer:
    for signature, inputs in requests:
      request = predict_pb2.PredictRequest()
      request.model_spec.signature_name = signature
      for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
      log = prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
      )
      writer.write(log.SerializeToString())


def write_examples(folder, inputs, predictions):
  """Writes raw examples with the trainer's predictions: {name: array} each."""
  tf.io.gfile.makedirs(paths.join(folder, "assets.extra"))
  arrays = {f"input/{name}": _plain(value) for name, value in inputs.items()}
  arrays |= {f"prediction/{name}": _plain(value) for name, value in predictions.items()}
  content = io.BytesIO()
  np.savez(content, **arrays)
  with tf.io.gfile.GFile(paths.join(folder, EXAMPLES), "wb") as file:
    file.write(content.getvalue())


def read_examples(path):
  """({name: array} of raw inputs, {name: array} of predictions) from a file of `write_examples`."""
  with tf.io.gfile.GFile(path, "rb") as file:
    content = io.BytesIO(file.read())
  with np.load(content) as arrays:
    parts = {"input": {}, "prediction": {}}
    for key in arrays.files:
      part, _, name = key.partition("/")
      parts[part][name] = arrays[key]
  return parts["input"], parts["prediction"]


def _plain(value):
  """As NumPy; strings as fixed-width bytes, which need no pickle."""
  value = np.asarray(value)
  return value.astype(np.bytes_) if value.dtype == object else value
