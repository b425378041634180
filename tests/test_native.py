"""The op library loads into the TensorFlow it was built for; else one sentence says why not."""

import pathlib
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

from tfps import _build_info, native

PACKAGE = pathlib.Path(native.__file__).parent


@pytest.fixture
def package(tmp_path):
  """A tfps package of only what `native` needs, for the test to spoil."""
  copy = tmp_path / "tfps"
  copy.mkdir()
  (copy / "__init__.py").touch()
  for name in ("native.py", "_build_info.py", "_tfps_ops.so"):
    shutil.copy2(PACKAGE / name, copy / name)
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
    timeout=120,
  )
  assert ran.returncode == 0, ran.stderr
  return ran.stdout.strip(), ran.stderr


def test_was_built_for_the_running_tensorflow():
  assert tf.__version__ == _build_info.TENSORFLOW_VERSION


def test_a_whole_package_imports_and_was_not_told_to_end(package):
  assert _import_error(package, after="print(tfps.native.end_signal())")[0] == "-1"


def test_another_tensorflow_is_named_with_the_remedy(package):
  (package / "_build_info.py").write_text('TENSORFLOW_VERSION = "2.11.1"\n')
  # Were it loaded before it is checked, TensorFlow's own error would come instead.
  (package / "_tfps_ops.so").write_text("not a library")
  message, log = _import_error(package)
  assert message == (
    f"tfps's ops were built for TensorFlow 2.11.1, but TensorFlow {tf.__version__} is running: "
    "in tfps's repository run `pip install --force-reinstall --no-deps .` "
    "(`-e .` if it is installed editable)."
  )
  assert "undefined symbol" not in log


def test_another_patch_of_the_same_minor_fits(package):
  minor = ".".join(tf.__version__.split(".")[:2])
  (package / "_build_info.py").write_text(f'TENSORFLOW_VERSION = "{minor}.99"\n')
  assert _import_error(package)[0] == ""


def test_a_library_that_was_never_built(package):
  (package / "_tfps_ops.so").unlink()
  message, _ = _import_error(package)
  assert message.startswith("tfps's ops have not been built: in tfps's repository run `pip ")
  assert "\n" not in message


def test_missing_keras_2(package):
  message, _ = _import_error(package, before="sys.modules['tf_keras'] = None")
  assert message.startswith("tfps needs Keras 2, and tf_keras is missing: run `pip install ")
