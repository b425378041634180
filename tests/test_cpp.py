"""Runs every C++ test program: with the library's objects, under ASan with UBSan, under TSan.

ThreadSanitizer has nothing to find in a program without threads, and the core starts none itself.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

from tests.patience import PATIENCE

ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCES = {source.stem: source for source in sorted(ROOT.glob("ops/tests/*_test.cc"))}
THREADED = [name for name, source in SOURCES.items() if "std::thread" in source.read_text()]
BUILDS = {"plain": list(SOURCES), "asan": list(SOURCES), "tsan": THREADED}
PROGRAMS = [(build, name) for build, names in BUILDS.items() for name in names]
OBJECTS = f"build/ops/{tf.__version__}"


def _make(*arguments):
  return subprocess.run(
    ["make", "-s", "-f", "ops/ops.mk", f"PYTHON={sys.executable}", f"OUT={OBJECTS}", *arguments],
    cwd=ROOT,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )


@pytest.fixture(scope="module")
def built():
  """Compiles all that compiles, on all cores; each test then reports its own program."""
  _make("-k", f"-j{os.cpu_count()}", *(f"build/cpp/{build}/{name}" for build, name in PROGRAMS))


@pytest.mark.parametrize("build, program", PROGRAMS)
def test_program(built, build, program):
  path = f"build/cpp/{build}/{program}"
  compiled = _make(path)
  assert compiled.returncode == 0, compiled.stdout
  # Old ThreadSanitizers do not bear the address randomisation of new kernels.
  setarch = build == "tsan" and shutil.which("setarch")
  without_randomisation = [setarch, "-R"] if setarch else []
  ran = subprocess.run(
    [*without_randomisation, path],
    cwd=ROOT,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    timeout=PATIENCE,
  )
  assert ran.returncode == 0, ran.stdout


def test_there_are_programs():
  assert "hash_test" in SOURCES and "table_threads_test" in THREADED
  core = [path.read_text() for path in ROOT.glob("ops/core/*")]
  assert len(core) > 50 and not any("std::thread" in text for text in core)
