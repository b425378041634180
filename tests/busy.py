"""Runs the suite on a machine that is busy with something else: no verdict may depend on its speed.

  python -m tests.busy --runs=3 --load=6 -- -n 3 --dist loadfile

What follows -- goes to pytest. Says of each run what passed and failed, and how many seconds of
processors it took; exits with 1 if anything failed.
"""

import argparse
import contextlib
import resource
import subprocess
import sys


@contextlib.contextmanager
def load(processes):
  """That many processes that compute for nothing, at the priority of the suite."""
  burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
  try:
    yield
  finally:
    for burner in burners:
      burner.kill()
      burner.wait()


def run(arguments):
  """(exit code, pytest's last line, seconds of processors) of one run of the suite."""
  before = _seconds()
  last = ""
  command = [sys.executable, "-m", "pytest", *arguments]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as suite:
    for line in suite.stdout:
      print(line, end="", flush=True)
      last = line.strip("=\n ") or last
  return suite.returncode, last, _seconds() - before


def _seconds():
  """What all processes that were waited for, and theirs, have taken."""
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  return used.ru_utime + used.ru_stime


def main(argv=None):
  parser = argparse.ArgumentParser(
    prog="python -m tests.busy", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--runs", type=int, default=3, help="how often (default 3)")
  parser.add_argument("--load", type=int, default=6, help="other processes (default 6)")
  parser.add_argument("pytest", nargs="*", help="arguments for pytest")
  flags = parser.parse_args(argv)
  results = []
  for _ in range(flags.runs):
    with load(flags.load):
      results.append(run(flags.pytest))
  for number, (code, last, seconds) in enumerate(results, 1):
    print(f"Run {number} of {flags.runs}, beside {flags.load} busy processes: {last}; "
          f"{seconds:,.0f} s of processors, exit code {code}")  # fmt: skip
  return int(any(code for code, _, _ in results))


if __name__ == "__main__":
  sys.exit(main())
