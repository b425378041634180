"""TensorFlow Recommenders Addons, which some benchmarks compare with."""

import contextlib
import sys
import types


def dynamic_embedding():
  """Its package of dynamic embeddings.

  Raises:
    ImportError: it is not installed.
  """
  try:
    import pkg_resources  # noqa: F401
  except ImportError:  # It asks for a version there; setuptools has it no longer.
    stub = types.ModuleType("pkg_resources")
    stub.DistributionNotFound = type("DistributionNotFound", (Exception,), {})

    def get_distribution(name):
      raise stub.DistributionNotFound(name)

    stub.get_distribution = get_distribution
    sys.modules["pkg_resources"] = stub
  with contextlib.redirect_stdout(sys.stderr):  # It prints.
    from tensorflow_recommenders_addons import dynamic_embedding as de

  return de
