"""One target in a process of its own.

python -m tests.fuzz.target TARGET SEED SECONDS INPUTS JOURNAL
"""

import importlib
import json
import os
import pathlib
import random
import resource
import sys
import tempfile
import time
import traceback

_MOST_BYTES = 12 << 30  # of memory: who asks for more is told that there is none


def main():
  name, seed, seconds, inputs, journal = sys.argv[1:]
  journal = pathlib.Path(journal).absolute()
  report = journal.with_suffix(".json")
  tried, crashes = 0, []

  def tell():
    report.write_text(json.dumps({"tried": tried, "crashes": crashes}))

  tell()
  # Targets elsewhere are those that the fuzzer itself is tested with.
  sys.path[:0] = filter(None, [elsewhere := os.environ.get("TFPS_FUZZ_TARGETS")])
  target = importlib.import_module(name if elsewhere else f"tests.fuzz.{name}")
  # Not of addresses: a table reserves many more than it uses.
  resource.setrlimit(resource.RLIMIT_DATA, (_MOST_BYTES, _MOST_BYTES))
  with tempfile.TemporaryDirectory() as folder, journal.open("w") as written:
    os.chdir(folder)  # where files with any name go

    def note(text):
      """Writes down what is tried next."""
      written.seek(0)
      written.truncate()
      written.write(f"{name} seed {seed} input {tried}\n{text}\n")
      written.flush()

    one = target.make(pathlib.Path(folder), note)
    until = time.monotonic() + float(seconds)
    while tried < int(inputs) and time.monotonic() < until:
      rng = random.Random(f"{seed} {tried}")
      try:
        one(rng)
      except target.EXPECTED:
        pass
      except Exception:  # Whatever else it is was to be a sentence.
        last = traceback.format_exc().strip().splitlines()
        crashes.append(f"{name}, seed {seed}, input {tried}: {last[-1][:300]} ({last[-3].strip()})")
        if len(crashes) >= 20:
          until = 0
      tried += 1
      if tried % 50 == 0:
        tell()
  tell()


if __name__ == "__main__":
  main()
