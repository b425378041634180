"""How a task uses its machine: threads, and memory that it keeps."""

import os
import subprocess
import sys

import pytest

from tfps.cluster import resources

INTRA, INTER = "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"


@pytest.fixture(name="machine")
def _machine(monkeypatch):
  """machine(cores, **variables): what this process sees of its machine."""

  def machine(cores, **variables):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    for name in (INTRA, INTER):
      monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
      monkeypatch.setenv(name, value)

  return machine


@pytest.mark.parametrize(
  "cores, tasks, intra, inter",
  [(1, 1, 1, 2), (2, 2, 1, 2), (8, 1, 8, 8), (8, 3, 2, 2), (96, 8, 12, 12), (4, 100, 1, 2)],
)
def test_tasks_share_the_cores(machine, cores, tasks, intra, inter):
  machine(cores)
  assert resources.share_of_cores(tasks) == {INTRA: str(intra), INTER: str(inter)}


def test_variables_that_are_set_stay(machine):
  machine(8, **{INTRA: "7"})
  assert resources.share_of_cores(2) == {INTER: "4"}
  machine(8, **{INTER: "1"})
  assert resources.share_of_cores(2) == {INTRA: "4"}
  machine(8, **{INTRA: "7", INTER: "1"})
  assert resources.share_of_cores(2) == {}


@pytest.mark.parametrize(
  "cores, chosen, left",
  [(8, "1", "2"), (8, "2", "2"), (8, "5", "5"), (8, None, None), (8, "0", "0"), (8, "many", "many")]
  + [(1, None, "2"), (1, "0", "2"), (1, "", "2"), (1, "3", "3")],
)
def test_there_are_threads_to_answer(machine, cores, chosen, left):
  machine(cores, **({} if chosen is None else {INTER: chosen}))
  resources.allow_answers()
  assert os.environ.get(INTER) == left


def run(code):
  """The numbers that a process of its own prints."""
  environment = {n: value for n, value in os.environ.items() if n not in (INTRA, INTER)}
  result = subprocess.run(
    [sys.executable, "-c", code], env=environment, text=True, stdout=subprocess.PIPE, check=True
  )
  return [int(number) for number in result.stdout.split()]


def test_only_cores_that_the_process_may_use_count():
  one_core = f"""
import os
from tfps.cluster import resources
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
share = resources.share_of_cores(1)
resources.allow_answers()
print(share["{INTRA}"], share["{INTER}"], os.environ["{INTER}"])
"""
  assert run(one_core) == [1, 2, 2]


# MiB that stay with a process that has freed 20 of them.
FREED = """
import ctypes, resource, sys
from tfps.cluster import resources
{}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
before = resident()
block = ctypes.c_void_p(libc.malloc(20 << 20))
libc.memset(block, 1, 20 << 20)
libc.free(block)
print((resident() - before) >> 20)
"""


def test_freed_memory_is_kept():
  (given_back,) = run(FREED.format(""))
  (kept,) = run(FREED.format("resources.keep_memory()"))
  assert given_back < 5 and kept >= 18
