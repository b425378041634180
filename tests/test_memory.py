"""A process says that its memory runs out, once, before it does."""

import os

import pytest

from tests.test_fit import make_model, small_stream
from tfps.cluster import memory

GIB = 2**30
REMEDY = "Give its tables max_bytes or max_rows, raise delete_threshold, or add parameter servers."


@pytest.fixture(name="watch")
def _watch(monkeypatch):
  monkeypatch.setattr(memory, "POLL_SECONDS", 0.0)
  found = []
  told = []
  watch = memory.MemoryWatch("The ps 0", found.pop, told.append)

  def look(held, left):
    found.append((held, left))
    sentence = watch.poll()
    assert told.pop() == held / (held + left) and not told
    return sentence

  return look


def test_it_is_said_once_until_there_is_room_again(watch):
  assert watch(8 * GIB, 2 * GIB) is None
  told = watch(9 * GIB, GIB)
  assert told == (
    "The ps 0 is running out of memory: it holds 9.00 GiB, and 1.00 GiB are left. " + REMEDY
  )
  assert watch(9.5 * GIB, 0.5 * GIB) is None and watch(8.5 * GIB, 1.5 * GIB) is None
  assert watch(9.5 * GIB, 0.5 * GIB) is None
  assert watch(7 * GIB, 3 * GIB) is None
  assert watch(9.5 * GIB, 0) is not None


def test_it_looks_only_now_and_then():
  looks = []
  watch = memory.MemoryWatch(read=lambda: looks.append(1))
  assert [watch.poll(), watch.poll()] == [None, None] and len(looks) == 1


def _write(folder, files):
  for name, text in files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


V1, V2 = ["limit_in_bytes", "usage_in_bytes"], ["max", "current"]


def _container(names, limit, usage, stat, folder=""):
  files = zip([*names, "stat"], [limit, usage, stat])
  return {f"{folder}memory.{name}": str(text) for name, text in files}


@pytest.mark.parametrize(
  "files, left",
  [
    ({}, 4096),
    (_container(V2, "max", 9, "inactive_file 1"), 4096),
    (_container(V2, 900, 700, "anon 1\ninactive_file 50"), 250),
    (_container(V2, 90, 99, "inactive_file 0"), 0),
    (_container(V1, 900, 700, "total_inactive_file 7", "memory/"), 207),
    (_container(V1, 2**63 - 4096, 700, "total_inactive_file 7", "memory/"), 4096),
  ],
)
def test_what_is_left_is_the_machines_or_the_containers(tmp_path, files, left):
  machine = {"self/statm": "9 3 1", "meminfo": "MemTotal: 9 kB\nMemAvailable: 4 kB\n"}
  _write(tmp_path / "proc", machine)
  _write(tmp_path / "cgroup", files)
  found = memory.held_and_left(tmp_path / "proc", tmp_path / "cgroup")
  assert found == (3 * os.sysconf("SC_PAGE_SIZE"), left)


def test_this_process_has_memory_and_more_is_left():
  held, left = memory.held_and_left()
  assert held > 10 * 2**20 and left > 2**20


def test_training_says_it(monkeypatch, capfd):
  monkeypatch.setattr(memory, "MOST", 0.0)
  _, model = make_model()
  model.fit(small_stream(days=1), verbose=0)
  told = [line for line in capfd.readouterr().err.splitlines() if "running out of memory" in line]
  assert len(told) == 1 and told[0].startswith("tfps: warning: This process is running out")
