"""One cluster that runs programs, one after the other."""

from __future__ import annotations

import pathlib
import pickle
import subprocess
import sys
from collections.abc import Iterable

from tests.keras_judge.ways import Seen
from tests.patience import PATIENCE
from tests.soak import jobs

CHIEF = pathlib.Path(__file__).with_name("chief.py")


def run(names: Iterable[str], folder: pathlib.Path, show: bool = False) -> dict[str, Seen]:
  """Runs the named programs on a chief, a worker and two parameter servers.

  Returns:
    {name: what was seen}.
  """
  names = list(names)
  command = [sys.executable, "-m", "tfps", "launch", "--workers=1", "--ps=2"]
  command += [f"--log-dir={folder / 'logs'}", "--", str(CHIEF), str(folder), *names]
  done = subprocess.run(
    command,
    env=jobs.environment(TF_CPP_MIN_LOG_LEVEL="3"),
    stdout=None if show else subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    timeout=3 * PATIENCE,
    check=False,
  )
  assert done.returncode == 0, (done.stdout or "")[-4000:]
  return {name: Seen(*pickle.loads((folder / f"{name}.pickle").read_bytes())) for name in names}
