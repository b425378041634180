"""Checks an artifact: its files, and that it serves what the trainer predicts."""

import json
import os
import subprocess
import sys

from tfps.errors import ExportError
from tfps.export import artifact, extras
from tfps.storage import paths

TOLERANCE = 1e-6


def verify(path, examples=None, tolerance=TOLERANCE):
  """Loads an artifact in a process that knows stock ops only, and replays examples there.

  Args:
    path: the artifact, `<folder>/base/<version>`.
    examples: file of examples with the trainer's predictions; that in the artifact by default. A
      folded base has none: it is loaded, and nothing compared.
    tolerance: the largest difference that is none.

  Returns:
    {"examples": number, "difference": the largest of any prediction, "manifest": dict}.

  Raises:
    ExportError: a file is missing or damaged, it cannot be loaded, or a prediction differs.
  """
  path = str(path).rstrip("/")
  content = artifact.read(path)
  artifact.check_files(path, content)
  if not examples and extras.EXAMPLES in content["files"]:
    examples = paths.join(path, extras.EXAMPLES)
  root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
  python_path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
  done = subprocess.run(
    [sys.executable, "-m", "tfps.export.checking.replay", path, *filter(None, [examples])],
    env={**os.environ, "PYTHONPATH": python_path, "TF_CPP_MIN_LOG_LEVEL": "3"},
    capture_output=True, text=True, check=False,
  )  # fmt: skip
  try:
    result = json.loads(done.stdout.splitlines()[-1])
  except (IndexError, ValueError):
    last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
    raise ExportError(f"{path} ended the process that loaded it: {last}") from None
  if "error" in result:
    raise ExportError(f"{path} cannot be served: {result['error']}")
  if not result["difference"] <= tolerance:
    raise ExportError(
      f"{path} does not serve what the trainer predicts: a prediction of {result['examples']} "
      f"examples differs by {result['difference']:.3g}, and {tolerance:.3g} is allowed."
    )
  return {**result, "manifest": content}
