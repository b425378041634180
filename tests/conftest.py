"""Profiles of hypothesis: pytest --hypothesis-profile=thorough searches longer, and at random."""

import importlib.util
import os
import pathlib
import sys

os.environ.setdefault(
  "TF_USE_LEGACY_KERAS", "1"
)  # As the command tfps does, for programs that tests start.

import hypothesis
import pytest

_ALWAYS = dict(
  deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)

hypothesis.settings.register_profile(
  "quick", max_examples=10, stateful_step_count=12, derandomize=True, **_ALWAYS
)
hypothesis.settings.register_profile(
  "thorough", max_examples=100, stateful_step_count=30, **_ALWAYS
)
hypothesis.settings.load_profile("quick")

# Files that take long as a whole begin first, so that no worker of pytest-xdist ends long after the
# others: with --dist loadfile --no-loadscope-reorder.
_LONG = (
  "test_keras_judge.py",
  "test_cpp.py",
  "test_benchmarks.py",
  "test_worker.py",
  "soak/test_faults.py",
  "test_bad_records.py",
  "test_conformance.py",
  "test_restarts.py",
  "soak/test_stream.py",
  "soak/test_crashes.py",
  "soak/test_pushes.py",
  "soak/test_load.py",
  "test_stream_runs.py",
  "test_cluster_training.py",
  "test_launch.py",
  "test_delivery.py",
  "test_evaluation_runs.py",
  "test_export_runs.py",
  "test_resume.py",
  "test_fit.py",
)


@pytest.fixture(name="keras_unconverted", scope="module")
def _keras_unconverted():
  """While a file's tests run, AutoGraph leaves Keras's code as it is, also on arrays.

  It is for files that fit on arrays, and whose models have no Python conditions on tensors where
  Keras calls them. Converting Keras's code would cost ten seconds for the first model.
  """
  from tfps.graph import compat

  with compat.unconverted("tf_keras"):
    yield


def pytest_configure(config):
  """Ends the run where the ops of tfps, the checkout's or an installed wheel's, are missing."""
  package = pathlib.Path(importlib.util.find_spec("tfps").origin).parent
  if not list(package.glob("_ops/*/_tfps_ops.so")):
    raise pytest.UsageError(
      "tfps's ops have not been built here: "
      "run `make test`, or `pip install -e .[test]` and then pytest again."
    )
  if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
    # tf_keras imports pandas and SciPy where they are installed, for data frames and images as
    # input, which is a third of what a process costs to start. Those that tests start do without.
    folders = [
      str(pathlib.Path(__file__).with_name("without")),
      os.environ.get("PYTHONPATH"),
    ]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, folders))


def pytest_collection_modifyitems(items):
  """Puts long files first, marks those of tests/quick.txt, and skips what needs a missing TFRA."""
  folder = pathlib.Path(__file__).parent
  places = {folder / name: place for place, name in enumerate(_LONG)}
  items.sort(key=lambda item: places.get(item.path, len(places)))
  quick = set(pathlib.Path(__file__).with_name("quick.txt").read_text().split())
  tfra = importlib.util.find_spec("tensorflow_recommenders_addons")
  without = pytest.mark.skip(reason="TFRA is not installed: it has no release for every TensorFlow")
  for item in items:
    if item.path.name in quick:
      item.add_marker("quick")
    if tfra is None and "tfra" in item.nodeid.lower():
      item.add_marker(without)


_servers = []  # that served the exports of this run, also in pytest-xdist's workers


def pytest_sessionfinish(session):
  module = sys.modules.get("tests.model_server")
  _servers.extend(module.STARTED if module else ())
  if hasattr(session.config, "workeroutput"):
    session.config.workeroutput["servers"] = list(_servers)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
  """Called by pytest-xdist when a worker ends."""
  _servers.extend(getattr(node, "workeroutput", {}).get("servers", ()))


def pytest_terminal_summary(terminalreporter):
  """Says which servers served the exports of this run."""
  for program in dict.fromkeys(_servers):
    terminalreporter.write_line(f"Exports were served by {program}.")
