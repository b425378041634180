"""The op library loads into the TensorFlow it was built for; else one sentence says why not."""

import pathlib
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

from tests.patience import PATIENCE
from tfps import native, versions

PACKAGE = pathlib.Path(native.__file__).parent
MINOR = versions.minor(tf.__version__)


@pytest.fixture
def package(tmp_path):
  """A tfps package of only what `native` needs, for the test to spoil."""
  copy = tmp_path / "tfps"
  copy.mkdir()
  (copy / "__init__.py").touch()
  for name in ("native.py", "versions.py"):
    shutil.copy2(PACKAGE / name, copy / name)
  shutil.copytree(PACKAGE / "_ops" / MINOR, copy / "_ops" / MINOR)
  return copy


def _import_error(package, before="", after=""):
  """Imports `native` in its own process; returns what it printed (its ImportError) and its log."""
  program = f"import sys; sys.path.insert(0, {str(package.parent)!r})\n{before}\n" + (
    "try:\n  import tfps.native\nexcept ImportError as error:\n  print(error)\n"
    "assert sys.modules['tfps'].__path__ == [sys.path[0] + '/tfps']\n" + after
  )
  ran = subprocess.run(
    [sys.executable, "-c", program],
    env={"PATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
    cwd=package.parent,
    capture_output=True,
    text=True,
    timeout=PATIENCE,
  )
  assert ran.returncode == 0, ran.stderr
  return ran.stdout.strip(), ran.stderr


def test_is_compiled_as_the_running_tensorflow_was():
  """With the flags that ops/sources.bzl has for every TensorFlow."""
  flags = set(tf.sysconfig.get_compile_flags())
  assert flags > {"-D_GLIBCXX_USE_CXX11_ABI=1", "-DEIGEN_MAX_ALIGN_BYTES=64", "--std=c++17"}


def test_a_whole_package_imports_and_was_not_told_to_end(package):
  assert _import_error(package, after="print(tfps.native.end_signal())")[0] == "-1"


def test_of_several_libraries_the_one_that_fits_is_loaded(package):
  for other in ("2.11", "2.99"):
    folder = package / "_ops" / other
    folder.mkdir()
    (folder / "_tfps_ops.so").write_text("not a library")
  assert _import_error(package)[0] == ""


def test_another_tensorflow_is_named_with_the_remedy(package):
  (package / "_ops" / MINOR).rename(package / "_ops" / "2.99")
  shutil.copytree(package / "_ops" / "2.99", package / "_ops" / "2.100")
  message, log = _import_error(package)
  assert message == (
    f"tfps's ops were built for TensorFlow 2.99, 2.100, but {tf.__version__} is running: "
    "install one of those, or in tfps's repository run `pip install --force-reinstall --no-deps .` "
    "(`-e .` if it is installed editable), which compiles them for it."
  )
  assert "undefined symbol" not in log


def test_a_library_that_was_never_built(package):
  shutil.rmtree(package / "_ops")
  message, _ = _import_error(package)
  assert message.startswith("tfps's ops have not been built: in tfps's repository run `pip ")
  assert "\n" not in message


def _tensorflow(version):
  """Says that TensorFlow is of this version."""
  return f"import tensorflow; tensorflow.__version__ = {version!r}"


def test_a_tensorflow_that_is_too_old(package):
  message, _ = _import_error(package, before=_tensorflow("2.15.1"))
  assert message.startswith("tfps needs TensorFlow 2.16 or newer, and 2.15.1 is ")


def test_a_python_that_is_too_new_for_its_keras_2(package):
  before = _tensorflow("2.18.1") + "; sys.version_info = (3, 12, 1, 'final', 0)"
  message, _ = _import_error(package, before=before)
  assert message == (
    "Keras 2 for TensorFlow 2.18.1 does not run on Python 3.12: "
    "run `pip install tensorflow==2.21.0 tf-keras==2.21.*`, or use Python 3.11."
  )


def test_missing_keras_2(package):
  message, _ = _import_error(package, before="sys.modules['tf_keras'] = None")
  assert message == (
    f"tfps needs Keras 2, and tf_keras is missing: run `pip install --no-deps tf-keras~={MINOR}.0`."
  )


def test_keras_2_of_another_version(package):
  before = "import importlib.metadata; importlib.metadata.version = lambda name: '2.15.1'"
  message, _ = _import_error(package, before=before)
  assert message == (
    f"tf-keras 2.15.1 does not go with TensorFlow {tf.__version__}: "
    f"run `pip install --no-deps tf-keras~={MINOR}.0`."
  )
