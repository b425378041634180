"""Which TensorFlow to build against, and what to require so that pip installs no second one.

pip builds in an isolated environment, where `import tensorflow` fails though this Python has it:
look for its folder.
"""

import importlib.metadata
import pathlib
import site
import sys
from typing import NamedTuple

PINNED = "tensorflow==2.16.2"
_PINNED_KERAS = "tf-keras==2.16.0"
_SERVING = "tensorflow-serving-api==2.16.1"
_TFRA = (
  'tensorflow-recommenders-addons==0.8.1; python_version < "3.12" and platform_machine == "x86_64"'
)
_TFRA_VERSIONS = ("2.16.1", "2.16.2")


class TensorFlow(NamedTuple):
  """An installed TensorFlow.

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


def find_for_build():
  """Returns this Python's TensorFlow, or else the one that pip fetched for the build; or exits."""
  found = find() or find(sys.path)
  if found is None:
    sys.exit(
      "error: tfps builds its ops against TensorFlow, and this Python has none: "
      f"pip install {PINNED}"
    )
  return found


def requirements():
  """Returns what goes with the installed TensorFlow, and the pinned pair where there is none."""
  found = find()
  if found is None:
    return [PINNED, _PINNED_KERAS, _SERVING, _TFRA]
  if found.distribution != "tensorflow":
    # tf-keras, TFRA and TensorFlow Serving's messages require `tensorflow` by that name: pip would
    # add it.
    return []
  minor = ".".join(found.version.split(".")[:2])
  tfra = [_TFRA] if found.version in _TFRA_VERSIONS else []
  return [
    f"tensorflow=={minor}.*",
    f"tf-keras=={minor}.*",
    f"tensorflow-serving-api=={minor}.*",
    *tfra,
  ]


if __name__ == "__main__":
  print(find_for_build().folder)
