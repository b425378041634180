"""Profiles of hypothesis: pytest --hypothesis-profile=thorough searches longer, and at random."""

import hypothesis

_ALWAYS = dict(deadline=None, print_blob=True)

hypothesis.settings.register_profile(
  "quick", max_examples=10, stateful_step_count=12, derandomize=True, **_ALWAYS)
hypothesis.settings.register_profile(
  "thorough", max_examples=300, stateful_step_count=40, **_ALWAYS)
hypothesis.settings.load_profile("quick")
