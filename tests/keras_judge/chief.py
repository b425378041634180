"""Runs programs on a cluster, whose chief this is: `tfps launch ... -- chief.py FOLDER [NAME ...]`.

What is seen of each is pickled into the folder.
"""

import pathlib
import pickle
import sys
import time

import tfps
from tests.keras_judge import ways
from tests.keras_judge.table import PROGRAMS


def main() -> None:
  """Runs the named programs, or all."""
  folder, *names = sys.argv[1:]
  strategy = tfps.strategy()
  for name in names or PROGRAMS:
    begin = time.monotonic()
    found = ways.run(PROGRAMS[name], ways.Cluster, strategy.scope)
    (pathlib.Path(folder) / f"{name}.pickle").write_bytes(pickle.dumps(tuple(found)))
    print(f"{time.monotonic() - begin:.1f} s: {name} {found.error[:200]}", flush=True)


if __name__ == "__main__":
  main()
