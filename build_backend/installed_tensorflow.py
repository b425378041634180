"""Which TensorFlow to build against, and what to require so that pip installs no second one.

pip builds in an isolated environment, where `import tensorflow` fails though this Python has it:
look for its folder.
"""

import importlib.metadata
import os
import pathlib
import site
import sys
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from tfps import versions

# Names folders of unpacked TensorFlows, separated by ":". The library is built for each of them,
# and for no installed one.
UNPACKED = "TFPS_UNPACKED_TENSORFLOWS"

# What follows TensorFlow's version number, its own name first.
_FAMILY = ("tensorflow", "tf-keras", "tensorflow-serving-api")
_SERVING_OF_PINNED = "2.16.1"
_TFRA = (
  'tensorflow-recommenders-addons==0.8.1; python_version < "3.12" and platform_machine == "x86_64"'
)
_TFRA_VERSIONS = ("2.16.1", "2.16.2")


class TensorFlow(NamedTuple):
  """A TensorFlow to build against.

  Attributes:
    folder: The package's folder, with `include` and `libtensorflow_framework.so.2`.
    version: Such as "2.16.2".
    distribution: What pip calls it: "tensorflow", "tensorflow-cpu", ...
  """

  folder: pathlib.Path
  version: str
  distribution: str


def find(folders=None):
  """Returns the `TensorFlow` in the first of the site folders that has one, or None.

  Args:
    folders: Where to look; by default this Python's own site-packages, also in pip's isolation.
  """
  if folders is None:
    folders = site.getsitepackages()
    if sys.prefix == sys.base_prefix:  # A virtual environment does not read the user's.
      folders = [site.getusersitepackages(), *folders]
  for folder in dict.fromkeys(folders):
    package = pathlib.Path(folder, "tensorflow")
    if not (package / "include" / "tensorflow").is_dir():
      continue
    for distribution in importlib.metadata.distributions(path=[folder]):
      name = (distribution.metadata["Name"] or "").lower().replace("_", "-")
      if name.startswith(("tensorflow", "tf-nightly")) and any(
        str(file) == "tensorflow/__init__.py" for file in distribution.files or ()
      ):
        return TensorFlow(package, distribution.version, name)
  return None


def unpacked():
  """Returns the TensorFlows that UNPACKED names; their folders end in VERSION/tensorflow."""
  folders = [pathlib.Path(folder) for folder in os.environ.get(UNPACKED, "").split(":") if folder]
  return [TensorFlow(folder, folder.parent.name, "tensorflow") for folder in folders]


def find_for_build():
  """Returns the TensorFlows to build for, or exits: unpacked, this Python's, or fetched by pip."""
  if unpacked():
    return unpacked()
  found = find() or find(sys.path)
  if found is None:
    sys.exit(
      "error: tfps builds its ops against TensorFlow, and this Python has none: "
      f"pip install tensorflow=={versions.pinned()}"
    )
  refusal = versions.refusal(found.version)
  if refusal:
    sys.exit(f"error: {refusal}")
  return [found]


def build_requirements():
  """Returns what the build itself needs beside setuptools."""
  return [] if find() or unpacked() else [f"tensorflow=={versions.pinned()}"]


def requirements():
  """Returns what goes with the TensorFlows that are built for; where there is none, the pinned."""
  if unpacked():
    releases = [tensorflow.version for tensorflow in unpacked()]
    return [line for name in _FAMILY for line in _ranges(name, releases)]
  found = find()
  version = found.version if found else versions.pinned()
  if found and found.distribution != "tensorflow":
    # tf-keras, TFRA and TensorFlow Serving's messages require `tensorflow` by that name: pip would
    # add it.
    return []
  tfra = [_TFRA] if version in _TFRA_VERSIONS else []
  if found is None and version == versions.RELEASES[0]:
    exact = (version, f"{versions.minor(version)}.0", _SERVING_OF_PINNED)
    return [*map("==".join, zip(_FAMILY, exact, strict=True)), *tfra]
  return [*(f"{name}=={versions.minor(version)}.*" for name in _FAMILY), *tfra]


def _ranges(name, releases):
  """Returns what a wheel for some releases requires of a package, on old Pythons and on new."""
  strict = ".".join(map(str, versions.STRICT_PYTHON))
  lines = []
  for comparison, python in (("<", (3, 11)), (">=", versions.STRICT_PYTHON)):
    fitting = sorted(
      versions.numbers(release) for release in releases if release in versions.supported(python)
    )
    if fitting:
      lines.append(f'{name}{_range(fitting)}; python_version {comparison} "{strict}"')
  return lines


def _range(fitting):
  (major, first), (_, last) = fitting[0], fitting[-1]
  absent = (n for n in range(first, last) if (major, n) not in fitting)
  gaps = [f"!={major}.{number}.*" for number in absent]
  return ",".join([f">={major}.{first}", *gaps, f"<{major}.{last + 1}"])


if __name__ == "__main__":
  print(find_for_build()[0].folder)
