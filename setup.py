"""Builds the op library with ops/ops.mk; all else that setuptools must know: pyproject.toml."""

import os
import pathlib
import shutil
import subprocess
import sys

import setuptools
from setuptools.command import bdist_wheel, build_ext

ROOT = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "build_backend"))
import installed_tensorflow  # noqa: E402

from tfps import versions  # noqa: E402

LIBRARY = "_tfps_ops.so"


class BuildOps(build_ext.build_ext):
  """Writes `tfps/_ops/MINOR/_tfps_ops.so` for each TensorFlow that is built for."""

  def run(self):
    package = ROOT / "tfps" if self.inplace else pathlib.Path(self.build_lib, "tfps")
    for tensorflow in installed_tensorflow.find_for_build():
      built = self._compile(tensorflow)
      library = package / self._path(tensorflow)
      library.parent.mkdir(parents=True, exist_ok=True)
      # A new file moved into place: a process that has the old library loaded keeps it.
      os.replace(shutil.copy2(built, f"{library}.new"), library)

  def _compile(self, tensorflow):
    out = pathlib.Path("build", "ops", tensorflow.version)
    try:
      subprocess.run(
        [
          "make",
          "-s",
          "-f",
          "ops/ops.mk",
          f"-j{os.cpu_count()}",
          "library",
          f"OUT={out}",
          f"TENSORFLOW={tensorflow.folder}",
          f"PYTHON={sys.executable}",
          # In a wheel that is made for others, a deprecated call of TensorFlow is an error.
          f"WERROR={'-Werror' if installed_tensorflow.unpacked() else ''}",
        ],
        cwd=ROOT,
        check=True,
      )
    except FileNotFoundError:
      sys.exit("error: building tfps needs make and g++: install them first")
    except subprocess.CalledProcessError:
      sys.exit(
        "error: tfps's ops did not compile against "
        f"{tensorflow.distribution} {tensorflow.version}; see above"
      )
    return ROOT / out / LIBRARY

  def _path(self, tensorflow):
    return pathlib.Path("_ops", versions.minor(tensorflow.version), LIBRARY)

  def get_outputs(self):
    if self.inplace:
      return []
    package = pathlib.Path(self.build_lib, "tfps")
    return [str(package / self._path(built)) for built in installed_tensorflow.find_for_build()]

  def get_output_mapping(self):
    return {}


class Wheel(bdist_wheel.bdist_wheel):
  """A wheel for every Python of this platform: the ops call nothing of Python's."""

  def get_tag(self):
    return "py3", "none", super().get_tag()[2]


setuptools.setup(
  cmdclass={"build_ext": BuildOps, "bdist_wheel": Wheel},
  # Without sources of its own: it makes the wheel one for this platform.
  ext_modules=[setuptools.Extension("tfps._tfps_ops", sources=[])],
  install_requires=[
    *installed_tensorflow.requirements(),
    "numpy",
    "absl-py",
    "ml_collections",
    "tqdm",
    "grpcio",
  ],
)
