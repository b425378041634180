"""Writes requirements-deploy.lock: what tfps runs with, and the hash of each package's file.

Run it in .venv after a change of requirements.lock; it asks PyPI for the files of this platform and
Python:

  .venv/bin/python deploy/lock.py
"""

import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys

from packaging import requirements, utils

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
DEPLOY_LOCK = ROOT / "requirements-deploy.lock"
EXTRAS = ("kafka",)  # which holds what the join needs
BUILD = ("setuptools", "wheel")  # The image builds tfps without an environment of its own for it.


def main():
  pinned = pins(LOCK)
  chosen = [line for name, line in pinned.items() if name in needed()]
  hashes = file_hashes(chosen)
  lines = [
    "# What a deployment installs with `pip install --require-hashes -r`, of requirements.lock;",
    "# deploy/lock.py writes it (Python 3.11, Linux x86-64).",
  ]
  for line in chosen:
    lines.append(f"{line} --hash=sha256:{hashes[name_of(line)]}")
  DEPLOY_LOCK.write_text("\n".join(lines) + "\n")


def pins(path):
  """{normalized name: name==version} of the lines of a lock file."""
  lines = (line.split(" --hash=")[0].strip() for line in path.read_text().splitlines())
  return {name_of(line): line for line in lines if line and not line.startswith("#")}


def name_of(line):
  return utils.canonicalize_name(requirements.Requirement(line).name)


def needed():
  """The names of all packages that the installed tfps needs, with EXTRAS and its build's."""
  found, open_ = set(), [("tfps", extra) for extra in ("", *EXTRAS)]
  open_ += [(name, "") for name in BUILD]
  while open_:
    name, extra = open_.pop()
    if (name, extra) in found:
      continue
    found.add((name, extra))
    for text in importlib.metadata.requires(name) or ():
      requirement = requirements.Requirement(text)
      if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
        name = utils.canonicalize_name(requirement.name)
        open_ += [(name, extra) for extra in ("", *requirement.extras)]
  return {name for name, _ in found} - {"tfps"}


def file_hashes(lines):
  """{normalized name: SHA-256 of the file that pip would install, as PyPI says it}."""
  # Without this machine's own indexes and folders of wheels, whose files may differ.
  environment = os.environ | {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
  command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
  command += ["--no-deps", "--only-binary=:all:", "--report=-", *lines]
  report = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
  return {
    utils.canonicalize_name(package["metadata"]["name"]): package["download_info"]["archive_info"][
      "hashes"
    ]["sha256"]
    for package in json.loads(report.stdout)["install"]
  }


if __name__ == "__main__":
  main()
