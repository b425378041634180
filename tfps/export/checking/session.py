"""A SavedModel in TensorFlow's C++ session loader, which TensorFlow Serving uses too."""

from __future__ import annotations

import ctypes
import functools
import os
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfps.graph import compat


class _Output(ctypes.Structure):
  _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class _Buffer(ctypes.Structure):
  _fields_ = [
    ("data", ctypes.c_void_p),
    ("length", ctypes.c_size_t),
    ("deallocator", ctypes.c_void_p),
  ]


class SessionError(ValueError):
  """TensorFlow's message.

  Args:
    code: the number of its status, which gRPC's status codes share.
    message: the message.
  """

  def __init__(self, code: int, message: str) -> None:
    super().__init__(message)
    self.code = code


class SavedModelSession:
  """Loads a SavedModel as TensorFlow Serving does and runs its signatures.

  Only the ops that this process has registered are known, and variables, tables and assets are
  restored by the saved graph itself: no Python of the model runs.

  Args:
    path: the SavedModel's folder.
    tags: the tags of the meta graph.

  Attributes:
    signatures: the signatures by name, as protocol buffers SignatureDef.

  Raises:
    SessionError: the model cannot be loaded.

  Examples:
    >>> path = tfps.export.Exporter(model, "export", raw=source.raw_inputs).base()
    >>> session = tfps.export.SavedModelSession(path)
    >>> outputs = session.run(source.raw_inputs.sample(0, 2))  # Two examples of the first day.
    >>> outputs["predictions"].shape
    (2, 1)
  """

  def __init__(self, path: str | os.PathLike[str], tags: Sequence[str] = ("serve",)) -> None:
    library = _library()
    self._graph = library.TF_NewGraph()
    options = library.TF_NewSessionOptions()
    meta_graph = library.TF_NewBuffer()
    try:
      with _Status() as status:
        self._session = library.TF_LoadSessionFromSavedModel(
          options, None, str(path).encode(),
          (ctypes.c_char_p * len(tags))(*(tag.encode() for tag in tags)), len(tags),
          self._graph, meta_graph, status,
        )  # fmt: skip
      content = ctypes.string_at(meta_graph.contents.data, meta_graph.contents.length)
    finally:
      library.TF_DeleteBuffer(meta_graph)
      library.TF_DeleteSessionOptions(options)
    self.signatures = dict(tf.compat.v1.MetaGraphDef.FromString(content).signature_def)

  def run(
    self, inputs: Mapping[str, Any], signature: str = "serving_default"
  ) -> dict[str, np.ndarray]:
    """Runs a signature; many threads may do so at once.

    Args:
      inputs: all inputs of the signature by name, as arrays or what NumPy makes arrays of.
      signature: its name.

    Returns:
      The signature's outputs by name.

    Raises:
      ValueError: an input is missing or unknown.
      SessionError: TensorFlow refused the request.
    """
    definition = self.signatures[signature]
    if set(inputs) != set(definition.inputs):
      raise ValueError(
        f"signature '{signature}' takes {', '.join(sorted(definition.inputs))}, not "
        f"{', '.join(sorted(inputs))}."
      )
    library = _library()
    names = list(definition.outputs)
    feeds = [self._output(definition.inputs[name].name) for name in inputs]
    fetches = [self._output(definition.outputs[name].name) for name in names]
    tensors = [_to_tensor(value, definition.inputs[name].dtype) for name, value in inputs.items()]
    results = (ctypes.c_void_p * len(names))()
    try:
      with _Status() as status:
        library.TF_SessionRun(
          self._session, None,
          (_Output * len(feeds))(*feeds), (ctypes.c_void_p * len(tensors))(*tensors), len(feeds),
          (_Output * len(fetches))(*fetches), results, len(fetches),
          None, 0, None, status,
        )  # fmt: skip
      return {name: _to_array(result) for name, result in zip(names, results)}
    finally:
      for tensor in tensors:
        _free_strings(tensor)
      for tensor in [*tensors, *filter(None, results)]:
        library.TF_DeleteTensor(tensor)

  def close(self) -> None:
    """Frees the session and its graph."""
    if self._session:
      with _Status() as status:
        _library().TF_DeleteSession(self._session, status)
      _library().TF_DeleteGraph(self._graph)
      self._session = None

  def _output(self, name: str) -> _Output:
    operation, _, index = name.partition(":")
    found = _library().TF_GraphOperationByName(self._graph, operation.encode())
    return _Output(found, int(index or 0))


class _Status:
  """A TF_Status that is raised, if it is an error, at the end of a with statement."""

  def __enter__(self) -> Any:
    self._status = _library().TF_NewStatus()
    return self._status

  def __exit__(self, *exc_info: object) -> None:
    code = _library().TF_GetCode(self._status)
    message = _library().TF_Message(self._status).decode(errors="replace")
    _library().TF_DeleteStatus(self._status)
    if code:
      raise SessionError(code, message)


def _to_tensor(value: Any, dtype: int) -> Any:
  library = _library()
  if dtype == tf.string.as_datatype_enum:
    # As objects: NumPy's own strings lose zeros at their end.
    array = np.asarray(value, object)
    values = [
      value.encode() if isinstance(value, str) else bytes(value) for value in array.ravel().tolist()
    ]
    tensor = _allocate(dtype, array.shape, compat.TSTRING_BYTES * len(values))
    begin = library.TF_TensorData(tensor)
    for i, value in enumerate(values):
      library.TF_StringInit(begin + i * compat.TSTRING_BYTES)
      library.TF_StringCopy(begin + i * compat.TSTRING_BYTES, value, len(value))
    return tensor
  array = np.ascontiguousarray(value, tf.dtypes.as_dtype(dtype).as_numpy_dtype)
  tensor = _allocate(dtype, array.shape, array.nbytes)
  ctypes.memmove(library.TF_TensorData(tensor), array.ctypes.data, array.nbytes)
  return tensor


def _free_strings(tensor: Any) -> None:
  library = _library()
  if library.TF_TensorType(tensor) == tf.string.as_datatype_enum:
    begin, end = library.TF_TensorData(tensor), library.TF_TensorByteSize(tensor)
    for offset in range(0, end, compat.TSTRING_BYTES):
      library.TF_StringDealloc(begin + offset)


def _allocate(dtype: int, shape: Sequence[int], size: int) -> Any:
  return _library().TF_AllocateTensor(
    dtype, (ctypes.c_int64 * len(shape))(*shape), len(shape), size
  )


def _to_array(tensor: Any) -> np.ndarray:
  library = _library()
  shape = [library.TF_Dim(tensor, i) for i in range(library.TF_NumDims(tensor))]
  begin, dtype = library.TF_TensorData(tensor), library.TF_TensorType(tensor)
  if dtype == tf.string.as_datatype_enum:
    values = np.empty(int(np.prod(shape)), object)
    for i in range(values.size):
      at = begin + i * compat.TSTRING_BYTES
      values[i] = ctypes.string_at(
        library.TF_StringGetDataPointer(at), library.TF_StringGetSize(at)
      )
    return values.reshape(shape)
  content = ctypes.string_at(begin, library.TF_TensorByteSize(tensor))
  return np.frombuffer(content, tf.dtypes.as_dtype(dtype).as_numpy_dtype).reshape(shape).copy()


@functools.cache
def _library() -> types.SimpleNamespace:
  """The functions of TensorFlow's C API that are called here."""
  pointer, size = ctypes.c_void_p, ctypes.c_size_t
  pointers, count = ctypes.POINTER(ctypes.c_void_p), ctypes.c_int
  outputs, buffer = ctypes.POINTER(_Output), ctypes.POINTER(_Buffer)
  strings = ctypes.POINTER(ctypes.c_char_p)
  signatures: list[tuple[str, Any, list[Any]]] = [
    ("TF_NewGraph", pointer, []),
    ("TF_DeleteGraph", None, [pointer]),
    ("TF_NewSessionOptions", pointer, []),
    ("TF_DeleteSessionOptions", None, [pointer]),
    ("TF_NewBuffer", buffer, []),
    ("TF_DeleteBuffer", None, [buffer]),
    ("TF_NewStatus", pointer, []),
    ("TF_DeleteStatus", None, [pointer]),
    ("TF_GetCode", count, [pointer]),
    ("TF_Message", ctypes.c_char_p, [pointer]),
    ("TF_LoadSessionFromSavedModel", pointer,
     [pointer, pointer, ctypes.c_char_p, strings, count, pointer, buffer, pointer]),
    ("TF_SessionRun", None,
     [pointer, pointer, outputs, pointers, count, outputs, pointers, count,
      pointer, count, pointer, pointer]),
    ("TF_DeleteSession", None, [pointer, pointer]),
    ("TF_GraphOperationByName", pointer, [pointer, ctypes.c_char_p]),
    ("TF_AllocateTensor", pointer, [count, ctypes.POINTER(ctypes.c_int64), count, size]),
    ("TF_DeleteTensor", None, [pointer]),
    ("TF_TensorData", pointer, [pointer]),
    ("TF_TensorType", count, [pointer]),
    ("TF_TensorByteSize", size, [pointer]),
    ("TF_NumDims", count, [pointer]),
    ("TF_Dim", ctypes.c_int64, [pointer, count]),
    ("TF_StringInit", None, [pointer]),
    ("TF_StringCopy", None, [pointer, ctypes.c_char_p, size]),
    ("TF_StringGetDataPointer", pointer, [pointer]),
    ("TF_StringDealloc", None, [pointer]),
    ("TF_StringGetSize", size, [pointer]),
  ]  # fmt: skip
  return compat.c_api(signatures)
