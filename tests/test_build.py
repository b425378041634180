"""`pip install .`: against the TensorFlow that is there, no second one, nothing beside `tfps`."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest
import tensorflow as tf

from tests.patience import PATIENCE

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "build_backend"))
import installed_tensorflow  # noqa: E402
import make_wheel  # noqa: E402

from tfps import versions  # noqa: E402

LIBRARY = f"tfps/_ops/{versions.minor(tf.__version__)}/_tfps_ops.so"


def _run(*command, cwd=None):
  environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
  environment.pop("PYTHONPATH", None)
  ran = subprocess.run(
    list(map(str, command)),
    cwd=cwd,
    env=environment,
    capture_output=True,
    text=True,
    timeout=PATIENCE,
  )
  assert ran.returncode == 0, ran.stdout + ran.stderr
  return ran.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
  """The Python of a fresh environment with all that this one has (by links), except tfps."""
  environment = tmp_path_factory.mktemp("environment")
  _run(sys.executable, "-m", "venv", "--without-pip", environment)
  site_packages = next(environment.glob("lib/python*/site-packages"))
  for entry in pathlib.Path(sysconfig.get_path("platlib")).iterdir():
    if "tfps" not in entry.name:
      (site_packages / entry.name).symlink_to(entry)
  return environment / "bin" / "python"


@pytest.fixture(scope="module")
def wheel(python, tmp_path_factory):
  """The wheel that pip, isolated as by default, makes of a clean copy with the compiled objects."""
  copy = tmp_path_factory.mktemp("copy") / "tfps"
  shutil.copytree(
    ROOT,
    copy,
    symlinks=True,
    ignore=shutil.ignore_patterns(
      ".*",
      "build",
      "dist",
      "runs",
      "bazel-*",
      "*.egg-info",
      "__pycache__",
      "_ops",
    ),
  )
  shutil.copytree(ROOT / "build" / "ops", copy / "build" / "ops")
  log = copy / "build" / "log"
  _run(
    python,
    "-m",
    "pip",
    "wheel",
    "--no-deps",
    "--wheel-dir",
    copy / "dist",
    "-v",
    "--log",
    log,
    copy,
  )
  assert "Collecting setuptools" in log.read_text()  # What the build required was fetched,
  assert "Collecting tensorflow" not in log.read_text()  # and TensorFlow was not.
  return next(copy.glob("dist/*.whl"))


def test_wheel_has_the_library_and_no_other_top_level_package(wheel):
  names = zipfile.ZipFile(wheel).namelist()
  information = "-".join(wheel.name.split("-")[:2]) + ".dist-info"
  assert {name.split("/")[0] for name in names} == {"tfps", information}
  assert set(names) > {
    LIBRARY,
    "tfps/table/feasign_table.py",
    "tfps/cli/main.py",
    "tfps/models/__init__.py",
    "tfps/models/din.py",
  }
  assert wheel.name.endswith(f"-py3-none-{sysconfig.get_platform().replace('-', '_')}.whl")


def test_installs_no_second_tensorflow_and_loads(python, wheel, tmp_path):
  plan = _run(
    python, "-m", "pip", "install", "-q", "--dry-run", "--no-index", "--report", "-", wheel
  )
  assert [item["metadata"]["name"] for item in json.loads(plan)["install"]] == ["tfps"]

  _run(python, "-m", "pip", "install", "--no-index", "--no-deps", wheel)
  program = (
    "import tfps; from tfps import native; native.ops.tfps_pull; tfps.models.DIN; "
    "print(native.__file__)"
  )
  module = pathlib.Path(_run(python, "-c", program, cwd=tmp_path).strip())
  site_packages = module.parent.parent
  assert site_packages == next((python.parent.parent / "lib").glob("python*/site-packages"))
  # By its own path, also where no TensorFlow is loaded yet.
  library = site_packages / LIBRARY
  framework = f"{library.parent}/../../../tensorflow/libtensorflow_framework.so.2"
  assert framework in _run("ldd", library)


@pytest.fixture
def site_packages(tmp_path, monkeypatch):
  """Stands for this Python's site-packages: call it with what pip says is installed there."""
  site = installed_tensorflow.site
  monkeypatch.setattr(site, "getsitepackages", lambda: [str(tmp_path)])
  monkeypatch.setattr(site, "getusersitepackages", lambda: str(tmp_path / "user"))

  def install(name, version):
    (tmp_path / "tensorflow" / "include" / "tensorflow").mkdir(parents=True)
    information = tmp_path / f"{name}-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
      f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    )
    (information / "RECORD").write_text("tensorflow/__init__.py,,\n")

  return install


def _names(requirements):
  return [requirement.split(";")[0] for requirement in requirements]


def test_without_tensorflow_the_pinned_family_is_required(site_packages):
  assert installed_tensorflow.find() is None
  assert _names(installed_tensorflow.requirements()) == [
    "tensorflow==2.16.2",
    "tf-keras==2.16.0",
    "tensorflow-serving-api==2.16.1",
    "tensorflow-recommenders-addons==0.8.1",
  ]


@pytest.mark.parametrize(
  "version, required",
  [
    (
      "2.16.1",
      [
        "tensorflow==2.16.*",
        "tf-keras==2.16.*",
        "tensorflow-serving-api==2.16.*",
        "tensorflow-recommenders-addons==0.8.1",
      ],
    ),
    ("2.17.0", ["tensorflow==2.17.*", "tf-keras==2.17.*", "tensorflow-serving-api==2.17.*"]),
  ],
)
def test_the_installed_tensorflow_meets_the_requirement(site_packages, tmp_path, version, required):
  site_packages("tensorflow", version)
  assert installed_tensorflow.find() == (tmp_path / "tensorflow", version, "tensorflow")
  assert _names(installed_tensorflow.requirements()) == required


def test_tensorflow_cpu_gets_no_tensorflow_beside_it(site_packages):
  site_packages("tensorflow_cpu", "2.16.2")
  assert installed_tensorflow.find().distribution == "tensorflow-cpu"
  assert installed_tensorflow.requirements() == []


def test_build_environment_gets_a_tensorflow_only_where_there_is_none(site_packages, monkeypatch):
  monkeypatch.chdir(ROOT)
  import backend

  assert "tensorflow==2.16.2" in backend.get_requires_for_build_wheel()
  site_packages("tensorflow", "2.16.2")
  for hook in (backend.get_requires_for_build_wheel, backend.get_requires_for_build_editable):
    assert not any("tensorflow" in requirement for requirement in hook())


def test_a_tensorflow_that_cannot_run_tfps_is_not_built_for(site_packages):
  site_packages("tensorflow", "2.15.1")
  with pytest.raises(SystemExit, match="^error: tfps needs TensorFlow 2.16 or newer"):
    installed_tensorflow.find_for_build()


def test_a_tensorflow_that_is_newer_than_those_tried_is_built_for(site_packages):
  site_packages("tensorflow", "2.99.0")
  assert [found.version for found in installed_tensorflow.find_for_build()] == ["2.99.0"]


def test_python_3_12_needs_tf_keras_2_19():
  assert versions.refusal("2.18.1", (3, 11)) is None
  assert versions.refusal("2.18.1", (3, 12)) == (
    "Keras 2 for TensorFlow 2.18.1 does not run on Python 3.12: "
    "run `pip install tensorflow==2.21.0 tf-keras==2.21.*`, or use Python 3.11."
  )
  assert versions.refusal("2.19.0", (3, 12)) is None
  assert versions.pinned((3, 11)) == "2.16.2"
  assert versions.pinned((3, 12)) == versions.RELEASES[-1]


@pytest.fixture
def unpacked(monkeypatch):
  """Call it with the releases that `make wheel` has unpacked."""

  def unpack(*releases):
    folders = [f"/somewhere/{release}/tensorflow" for release in releases]
    monkeypatch.setenv(installed_tensorflow.UNPACKED, ":".join(folders))

  return unpack


def test_a_wheel_for_several_versions_requires_one_of_them(unpacked):
  unpacked(*versions.RELEASES)
  found = installed_tensorflow.find_for_build()
  assert [tensorflow.version for tensorflow in found] == list(versions.RELEASES)
  assert installed_tensorflow.build_requirements() == []
  required = installed_tensorflow.requirements()
  for name in ("tensorflow", "tf-keras", "tensorflow-serving-api"):
    assert f'{name}>=2.16,<2.22; python_version < "3.12"' in required
    assert f'{name}>=2.19,<2.22; python_version >= "3.12"' in required


def test_a_wheel_without_some_versions_does_not_require_them(unpacked):
  unpacked("2.16.2", "2.18.1", "2.21.0")
  required = installed_tensorflow.requirements()
  assert 'tensorflow>=2.16,!=2.17.*,!=2.19.*,!=2.20.*,<2.22; python_version < "3.12"' in required
  assert 'tensorflow>=2.21,<2.22; python_version >= "3.12"' in required


def test_make_wheel_knows_the_versions_that_it_can_be_asked_for():
  assert make_wheel.chosen([]) == list(versions.RELEASES)
  assert make_wheel.chosen(["2.21"]) == ["2.21.0"]
  with pytest.raises(SystemExit, match="^error: tfps is not built for TensorFlow 2.15"):
    make_wheel.chosen(["2.15"])
