"""TensorFlow Serving's messages PredictionLog as requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfps.export.served.model import CLASSIFY, EXAMPLES, REGRESS
from tfps.replay.records import Record, Unusable
from tfps.replay.request import (
  FEASIGNS,
  RAW,
  SERIALIZED,
  Fields,
  Request,
  Where,
  features_of,
  first_line,
  id_of,
)


class PredictionLogs:
  """Reads TensorFlow Serving's messages.

  Args:
    fields: `Fields`.
  """

  def __init__(self, fields: Fields) -> None:
    from tensorflow_serving.apis import prediction_log_pb2

    self._message = prediction_log_pb2.PredictionLog
    self._fields = fields

  def log(self, record: Record) -> Any:
    """The PredictionLog that a record is; None where it is none."""
    log = self._message()
    try:
      log.ParseFromString(record.content)
      return log if log.WhichOneof("log_type") else None
    except Exception:  # protobuf's own classes differ between its implementations.
      return None

  def request(self, number: int, record: Record, log: Any, unusable: Unusable) -> Request | None:
    """The request of a PredictionLog; None where it cannot be replayed.

    Args:
      number: of the record.
      record: the record.
      log: what `log` returned.
      unusable: counts it if it cannot be replayed.
    """
    kind = log.WhichOneof("log_type")
    if kind not in _READERS:
      unusable.add(f"a {kind} is not replayed", record.place)
      return None
    of_kind = getattr(log, kind)
    asked, answered = of_kind.request.model_spec, of_kind.response.model_spec
    specs = (answered, log.log_metadata.model_spec, asked)
    names = [spec.name for spec in specs if spec.name]
    if self._fields.model is not None and names and self._fields.model not in names:
      unusable.add(f"a request for the model '{names[0]}'", record.place)
      return None
    default, read = _READERS[kind]
    signature = next((spec.signature_name for spec in specs if spec.signature_name), default)
    if signature not in (RAW, FEASIGNS, *SERIALIZED):
      unusable.add(f"the signature '{signature}' is not replayed", record.place)
      return None
    try:
      inputs, outputs, fields = read(of_kind)
      length = _length(inputs)
      if any(len(value) != length for value in outputs.values()):
        raise ValueError("the response has another number of examples than the request")
    except (TypeError, ValueError) as error:
      unusable.add("the request cannot be read", record.place, first_line(error))
      return None
    if not length:
      return None
    return Request(
      number=number,
      signature=signature,
      version=next((spec.version.value for spec in specs if spec.HasField("version")), None),
      inputs=inputs,
      outputs=outputs,
      ids=[id_of(fields(row), self._fields.ids) for row in range(length)],
      where=[Where(record.place, row if length > 1 else None) for row in range(length)],
      together=True,
    )


_Read = tuple[
  dict[str, np.ndarray], dict[str, np.ndarray], Callable[[int], Mapping[str, Any]]
]  # inputs, outputs, and from a row to its fields


def _read_predict(log: Any) -> _Read:
  inputs = {name: tf.make_ndarray(value) for name, value in log.request.inputs.items()}
  outputs = {}
  for name, value in log.response.outputs.items():
    array = tf.make_ndarray(value)
    if array.dtype.kind == "f":
      outputs[name] = _flat(array)
  if log.request.model_spec.signature_name == EXAMPLES:
    return inputs, outputs, lambda row: features_of(inputs["inputs"][row])
  return inputs, outputs, lambda row: {name: value[row] for name, value in inputs.items()}


def _read_classify(log: Any) -> _Read:
  serialized = _serialized(log.request.input)
  results = log.response.result.classifications
  scores = [[one.score for one in result.classes] for result in results]
  outputs = {"scores": _flat(np.array(scores, np.float32))} if scores else {}
  return {"inputs": serialized}, outputs, lambda row: features_of(serialized[row])


def _read_regress(log: Any) -> _Read:
  serialized = _serialized(log.request.input)
  values = [result.value for result in log.response.result.regressions]
  outputs = {"outputs": _flat(np.array(values, np.float32))} if values else {}
  return {"inputs": serialized}, outputs, lambda row: features_of(serialized[row])


_READERS: dict[str, tuple[str, Callable[[Any], _Read]]] = {
  "predict_log": (RAW, _read_predict),
  "classify_log": (CLASSIFY, _read_classify),
  "regress_log": (REGRESS, _read_regress),
}


def _serialized(sent: Any) -> np.ndarray:
  """The tf.Examples of an Input; a context's features hold for all, as in TensorFlow Serving."""
  both = sent.example_list_with_context
  examples = sent.example_list.examples or both.examples
  context = both.context.SerializeToString()  # A message's bytes after another's: the later wins.
  found = np.empty(len(examples), object)
  found[:] = [context + example.SerializeToString() for example in examples]
  return found


def _length(inputs: Mapping[str, np.ndarray]) -> int:
  lengths = {len(value) if value.ndim else -1 for value in inputs.values()}
  if len(lengths) != 1 or -1 in lengths:
    raise ValueError("the inputs have not one number of examples")
  return lengths.pop()


def _flat(array: np.ndarray) -> np.ndarray:
  """[n, k] of a batch of any shape."""
  return np.asarray(array, np.float32).reshape(len(array), -1) if array.ndim else array
