"""Builds the op library with ops/ops.mk; all else that setuptools must know: pyproject.toml."""

import os
import pathlib
import shutil
import subprocess
import sys

import setuptools
from setuptools.command import build_ext

ROOT = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "build_backend"))
import installed_tensorflow  # noqa: E402


class BuildOps(build_ext.build_ext):
  """Writes `tfps/_tfps_ops.so` and `tfps/_build_info.py`, which names the TensorFlow it fits."""

  def run(self):
    tensorflow = installed_tensorflow.find_for_build()
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
    package = ROOT / "tfps" if self.inplace else pathlib.Path(self.build_lib, "tfps")
    package.mkdir(parents=True, exist_ok=True)
    # A new file moved into place: a process that has the old library loaded keeps it.
    library = shutil.copy2(ROOT / out / "_tfps_ops.so", package / "_tfps_ops.so.new")
    os.replace(library, package / "_tfps_ops.so")
    (package / "_build_info.py").write_text(f'TENSORFLOW_VERSION = "{tensorflow.version}"\n')

  def get_outputs(self):
    names = [] if self.inplace else ["_tfps_ops.so", "_build_info.py"]
    return [os.path.join(self.build_lib, "tfps", name) for name in names]

  def get_output_mapping(self):
    return {}


setuptools.setup(
  cmdclass={"build_ext": BuildOps},
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
