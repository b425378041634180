"""The fuzzer, for as long as a test can afford; `python -m tests.fuzz` runs longer."""

import pytest

from tests.fuzz import __main__ as command
from tests.patience import PATIENCE

# Some two seconds of each.
INPUTS = dict(
  tf_config=4000, config=60, records=40, streams=4, manifests=250, checkpoints=200, exports=200,
  ops=200,
)  # fmt: skip


@pytest.mark.parametrize("target", command.TARGETS)
def test_nothing_ends_a_process(tmp_path, target):
  inputs = INPUTS[target]
  assert command.fuzz(target, PATIENCE, seed=1, folder=tmp_path, inputs=inputs) == (inputs, [])


def test_what_ends_a_process_is_counted(tmp_path, monkeypatch):
  """And what raises what is no sentence; the target goes on behind both."""
  target = tmp_path / "bad.py"
  target.write_text(
    "import os\n"
    "EXPECTED = ValueError\n"
    "def make(folder, note):\n"
    "  def one(rng):\n"
    "    note('the input')\n"
    "    at = rng.randrange(40)\n"
    "    if at == 0: os.abort()\n"
    "    if at == 1: raise KeyError('no sentence')\n"
    "    raise ValueError\n"
    "  return one\n"
  )
  monkeypatch.setenv("TFPS_FUZZ_TARGETS", str(tmp_path))
  tried, crashes = command.fuzz("bad", PATIENCE, seed=1, folder=tmp_path / "kept", inputs=400)
  assert tried > 0
  assert any("ended with -6" in crash for crash in crashes)
  kept = next((tmp_path / "kept").glob("crash-bad-*"))
  assert kept.read_text().endswith("the input\n")
