"""The op library: `native.ops.tfps_pull(...)` and its siblings.

Importing this module loads the library into TensorFlow. A process that serves in a cluster must do
so before it starts its `tf.distribute.Server`.
"""

import ctypes
import importlib.util
import pathlib

import tensorflow as tf

_LIBRARY = pathlib.Path(__file__).with_name("_tfps_ops.so")
_REBUILD = (
  "in tfps's repository run `pip install --force-reinstall --no-deps .` "
  "(`-e .` if it is installed editable)"
)


def _check() -> None:
  """Raises ImportError, in one sentence, if the library cannot be loaded into this TensorFlow."""
  try:
    from tfps._build_info import TENSORFLOW_VERSION as built_for
  except ImportError:
    built_for = None
  if built_for is None or not _LIBRARY.exists():
    raise ImportError(f"tfps's ops have not been built: {_REBUILD}.")
  if built_for.split(".")[:2] != tf.__version__.split(".")[:2]:
    raise ImportError(
      f"tfps's ops were built for TensorFlow {built_for}, "
      f"but TensorFlow {tf.__version__} is running: {_REBUILD}."
    )
  if importlib.util.find_spec("tf_keras") is None:
    minor = ".".join(tf.__version__.split(".")[:2])
    raise ImportError(
      "tfps needs Keras 2, and tf_keras is missing: "
      f"run `pip install --no-deps tf-keras~={minor}.0`."
    )


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
