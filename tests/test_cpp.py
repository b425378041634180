"""Runs every C++ test program: with the library's objects, under ASan with UBSan, under TSan."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAMS = sorted(source.stem for source in ROOT.glob("ops/tests/*_test.cc"))
BUILDS = ["plain", "asan", "tsan"]
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
  _make("-k", f"-j{os.cpu_count()}", *BUILDS)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("build", BUILDS)
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
    timeout=600,
  )
  assert ran.returncode == 0, ran.stdout


def test_there_are_programs():
  assert "hash_test" in PROGRAMS
