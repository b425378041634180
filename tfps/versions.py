"""Which TensorFlows, Pythons and Keras 2s go together; the build, the wheel and the import ask."""

import sys

# The last release of each minor version that tfps runs on. A library built for one fits all of its
# minor version.
RELEASES = ("2.16.2", "2.17.1", "2.18.1", "2.19.1", "2.20.0", "2.21.0")

# tf-keras before 2.19 calls `random.randint(1, 1e9)`, which Python 3.12 refuses.
STRICT_PYTHON = (3, 12)
_FIRST_FOR_STRICT_PYTHON = (2, 19)


def minor(version: str) -> str:
  """Returns "2.16" of "2.16.2"."""
  return ".".join(version.split(".")[:2])


def numbers(version: str) -> tuple[int, ...]:
  """Returns (2, 16) of "2.16.2", which compares as versions do."""
  return tuple(map(int, minor(version).split(".")))


def supported(python: tuple[int, ...] = sys.version_info[:2]) -> tuple[str, ...]:
  """Returns the RELEASES that run on a Python."""
  if python < STRICT_PYTHON:
    return RELEASES
  return tuple(release for release in RELEASES if numbers(release) >= _FIRST_FOR_STRICT_PYTHON)


def pinned(python: tuple[int, ...] = sys.version_info[:2]) -> str:
  """Returns the release to install where there is none: that of requirements.lock, if it runs."""
  fitting = supported(python)
  return fitting[0] if fitting == RELEASES else fitting[-1]


def refusal(version: str, python: tuple[int, ...] = sys.version_info[:2]) -> str | None:
  """Returns one sentence that says why tfps does not run on a TensorFlow, or None if it may.

  A TensorFlow newer than all RELEASES may.
  """
  newest = supported(python)[-1]
  remedy = f"run `pip install tensorflow=={newest} tf-keras=={minor(newest)}.*`"
  if numbers(version) < numbers(RELEASES[0]):
    return (
      f"tfps needs TensorFlow {minor(RELEASES[0])} or newer, and {version} is installed: {remedy}."
    )
  if python >= STRICT_PYTHON and numbers(version) < _FIRST_FOR_STRICT_PYTHON:
    return (
      f"Keras 2 for TensorFlow {version} does not run on Python {python[0]}.{python[1]}: {remedy}, "
      "or use Python 3.11."
    )
  return None
