"""The op library: `native.ops.tfps_pull(...)` and its siblings.

Importing this module loads the library into TensorFlow. A process that serves in a cluster must do
so before it starts its `tf.distribute.Server`.
"""

import ctypes
import importlib.metadata
import importlib.util
import pathlib

import tensorflow as tf

from tfps import versions

_BUILT = pathlib.Path(__file__).with_name("_ops")  # A folder for each minor version of TensorFlow.
_MINOR = versions.minor(tf.__version__)
_LIBRARY = _BUILT / _MINOR / "_tfps_ops.so"
_REBUILD = (
  "in tfps's repository run `pip install --force-reinstall --no-deps .` "
  "(`-e .` if it is installed editable)"
)


def _check() -> None:
  """Raises ImportError, in one sentence, if this TensorFlow or its Keras 2 cannot run tfps."""
  refusal = versions.refusal(tf.__version__)
  if refusal:
    raise ImportError(refusal)
  if not _LIBRARY.exists():
    built = sorted(
      (path.parent.name for path in _BUILT.glob(f"*/{_LIBRARY.name}")), key=versions.numbers
    )
    if not built:
      raise ImportError(f"tfps's ops have not been built: {_REBUILD}.")
    raise ImportError(
      f"tfps's ops were built for TensorFlow {', '.join(built)}, but {tf.__version__} is running: "
      f"install one of those, or {_REBUILD}, which compiles them for it."
    )
  _check_keras()


def _check_keras() -> None:
  remedy = f"run `pip install --no-deps tf-keras~={_MINOR}.0`"
  if importlib.util.find_spec("tf_keras") is None:
    raise ImportError(f"tfps needs Keras 2, and tf_keras is missing: {remedy}.")
  try:
    version = importlib.metadata.version("tf-keras")
  except importlib.metadata.PackageNotFoundError:
    return  # Not pip's: whoever put it there knows which one it is.
  if versions.minor(version) != _MINOR:
    raise ImportError(f"tf-keras {version} does not go with TensorFlow {tf.__version__}: {remedy}.")


_check()
ops = tf.load_op_library(str(_LIBRARY))
_symbols = ctypes.CDLL(str(_LIBRARY))


def _find_tfra() -> None:
  """Tells the ops where TFRA's are, if it is installed.

  Nothing of it is loaded until a table asks for it.
  """
  package = importlib.util.find_spec("tensorflow_recommenders_addons")
  if package is None or not package.submodule_search_locations:
    return
  folder = pathlib.Path(package.submodule_search_locations[0])
  library = folder / "dynamic_embedding" / "core" / "_cuckoo_hashtable_ops.so"
  _symbols.tfps_set_tfra_library(str(library).encode())


_find_tfra()


def end_signal() -> int:
  """Returns the exit code that a `TfpsEndProcess` op left here, and -1 while there is none."""
  return _symbols.tfps_end_signal()


def tell_memory_share(share: float) -> None:
  """Has `TfpsMemoryShare` return, in this process, which share of its possible memory it holds."""
  _symbols.tfps_tell_memory_share(ctypes.c_double(share))


def free(handle: tf.Tensor, device: str) -> None:
  """Frees a resource that one of these ops made on `device`."""
  with tf.init_scope(), tf.device(device):
    tf.raw_ops.DestroyResourceOp(resource=handle, ignore_lookup_error=True)
