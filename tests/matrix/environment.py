"""One environment of the matrix: a TensorFlow on a Python, with tfps as its users install it."""

import os
import pathlib
import shutil
import subprocess
import sys
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("tests", "configs", "models", "examples", "benchmarks", "docs", "deploy")


class Failed(Exception):
  """A step failed; its text says where the log is."""


class Missing(Exception):
  """There is no such Python here."""


class Combination(NamedTuple):
  """A TensorFlow and a Python."""

  tensorflow: str  # Such as "2.16.2".
  python: str  # Such as "3.11".

  def __str__(self) -> str:
    return f"{self.tensorflow}@{self.python}"


class Environment:
  """A virtual environment with the wheel, and a checkout without `tfps/` in which to use it.

  Nothing but the environment's own programs is found there: no compiler and no make.
  """

  def __init__(self, combination: Combination, folder: pathlib.Path):
    """Names an environment; `install` makes it.

    Args:
      combination: What is installed.
      folder: Holds the environment, the checkout and logs.
    """
    self.combination = combination
    self.folder = folder / f"{combination.tensorflow}-python{combination.python}"
    self.checkout = self.folder / "checkout"
    self._python = self.folder / "environment" / "bin" / "python"

  def install(self, wheel: pathlib.Path) -> None:
    """Makes the environment, if it is not there, and installs this wheel into it."""
    self.folder.mkdir(parents=True, exist_ok=True)
    if not self._python.exists():
      self._log(
        "venv", [_interpreter(self.combination.python), "-m", "venv", self._python.parents[1]]
      )
    self.run("uninstall", "-m", "pip", "uninstall", "--yes", "tfps")
    tensorflow = f"tensorflow=={self.combination.tensorflow}"
    self.run("install", "-m", "pip", "install", tensorflow, f"tfps[test,kafka] @ {wheel.as_uri()}")
    self.run("check", "-m", "pip", "check")
    found = self.version("tensorflow")
    if found != self.combination.tensorflow:
      raise Failed(f"installing tfps replaced TensorFlow by {found}")
    shutil.rmtree(self.checkout, ignore_errors=True)
    for name in FOLDERS:
      ignored = shutil.ignore_patterns("__pycache__")
      shutil.copytree(ROOT / name, self.checkout / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md"):
      shutil.copy2(ROOT / name, self.checkout / name)

  def version(self, package: str) -> str:
    """Returns the version of an installed package."""
    program = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
    return self.run("version", "-c", program).strip()

  def run(self, step: str, *arguments: object) -> str:
    """Runs this environment's Python in the checkout; returns all that it printed.

    Raises:
      Failed: It ended with an error.
    """
    return self._log(step, [self._python, *arguments])

  def tfps(self, step: str, *arguments: object) -> str:
    """Runs the command `tfps`, as `run` runs Python."""
    return self._log(step, [self._python.with_name("tfps"), *arguments])

  def _log(self, step: str, command: list[object]) -> str:
    log = self.folder / f"{step}.log"
    inherited = {
      name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))
    }
    ran = subprocess.run(
      list(map(str, command)),
      cwd=self.checkout if self.checkout.exists() else self.folder,
      env={
        **inherited,
        "PATH": str(self._python.parent),
        "HOME": str(self.folder),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
      },
      text=True,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      errors="replace",
    )
    log.write_text(ran.stdout)
    if ran.returncode:
      print(ran.stdout[-_MOST_SHOWN:], file=sys.stderr, flush=True)
      raise Failed(f"ended with {ran.returncode}; see {log}")
    return ran.stdout


_MOST_SHOWN = 10_000  # Characters of what a step that failed has printed.
_WHICH_PYTHON = "import sys; print('.'.join(map(str, sys.version_info[:2])), sys.executable)"


def _interpreter(version: str) -> str:
  """Returns the Python of a version: PYTHON310=..., or one on PATH, or pyenv's."""
  named = os.environ.get("PYTHON" + version.replace(".", ""))
  pyenv = pathlib.Path(os.environ.get("PYENV_ROOT") or pathlib.Path.home() / ".pyenv")
  candidates = [
    named,
    shutil.which(f"python{version}"),
    *pyenv.glob(f"versions/{version}.*/bin/python"),
  ]
  for candidate in filter(None, candidates):
    asked = [str(candidate), "-c", _WHICH_PYTHON]
    try:
      answer = subprocess.run(asked, capture_output=True, text=True)
    except OSError:
      continue
    found, _, executable = answer.stdout.strip().partition(" ")
    if found == version:
      return executable  # Not the candidate: it may be a name or a script that needs this PATH.
  raise Missing(f"no Python {version} (PYTHON{version.replace('.', '')}=... names one)")
