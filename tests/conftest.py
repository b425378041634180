"""Profiles of hypothesis: pytest --hypothesis-profile=thorough searches longer, and at random."""

import importlib.util
import sys

if importlib.util.find_spec("tfps") is None or importlib.util.find_spec("tfps._build_info") is None:
  sys.exit("tfps's ops have not been built for these tests: run `make test`, or `pip install -e .[test]` and pytest again.")

import hypothesis  # noqa: E402

_ALWAYS = dict(deadline=None, print_blob=True)

hypothesis.settings.register_profile(
  "quick", max_examples=10, stateful_step_count=12, derandomize=True, **_ALWAYS)
hypothesis.settings.register_profile(
  "thorough", max_examples=300, stateful_step_count=40, **_ALWAYS)
hypothesis.settings.load_profile("quick")
