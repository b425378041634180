"""Running tfps as a user does, in this process or in one of its own."""

import json
import subprocess
import sys

from tests.patience import PATIENCE
from tfps.cli import main


def run(capsys, *arguments):
  """(exit code, what was written to stdout, to stderr) of `tfps ARGUMENTS`, run in this process."""
  capsys.readouterr()
  try:
    code = main.main([str(argument) for argument in arguments])
  except SystemExit as leaving:
    code = leaving.code
  written = capsys.readouterr()
  return code, written.out, written.err


def run_json(capsys, *arguments):
  """What `tfps ARGUMENTS --json` writes."""
  code, out, err = run(capsys, *arguments, "--json")
  assert code == 0, err
  return json.loads(out)


def fails(capsys, *arguments, code=1):
  """The sentence with which `tfps ARGUMENTS` fails, having written nothing else."""
  found, out, err = run(capsys, *arguments)
  assert (found, out) == (code, ""), (out, err)
  if code == 1:
    assert err.startswith("tfps: error: ") and err.count("\n") == 1 and "Traceback" not in err
  return err


def run_process(*arguments):
  """The same in a process of its own, as (exit code, stdout, stderr)."""
  command = [sys.executable, "-m", "tfps", *map(str, arguments)]
  done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
  return done.returncode, done.stdout, done.stderr
