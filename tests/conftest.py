"""Profiles of hypothesis: pytest --hypothesis-profile=thorough searches longer, and at random."""

import os
import pathlib
import sys

os.environ.setdefault(
  "TF_USE_LEGACY_KERAS", "1"
)  # As the command tfps does, for programs that tests start.
if not pathlib.Path(__file__).parents[1].joinpath("tfps", "_tfps_ops.so").exists():
  sys.exit(
    "tfps's ops have not been built here: "
    "run `make test`, or `pip install -e .[test]` and then pytest again."
  )

import hypothesis
import pytest

_ALWAYS = dict(deadline=None, print_blob=True)

hypothesis.settings.register_profile(
  "quick", max_examples=10, stateful_step_count=12, derandomize=True, **_ALWAYS
)
hypothesis.settings.register_profile(
  "thorough", max_examples=100, stateful_step_count=30, **_ALWAYS
)
hypothesis.settings.load_profile("quick")


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
