"""Checks a base: its files, and that it serves what the trainer predicts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TypedDict

from tfps.errors import ExportError
from tfps.export import artifact, extras
from tfps.export.manifests import BaseManifest
from tfps.storage import paths

TOLERANCE = 1e-6


class Verified(TypedDict):
  """What was found.

  Fields:
    examples: how many were replayed.
    difference: the largest difference of any prediction.
    manifest: the base's manifest.
  """

  examples: int
  difference: float
  manifest: BaseManifest


def verify(
  path: str | os.PathLike[str],
  examples: str | None = None,
  tolerance: float = TOLERANCE,
  load_only: bool = False,
) -> Verified:
  """Loads a base in a process that knows stock ops only, and replays examples there.

  Args:
    path: the base, `<folder>/base/<version>`.
    examples: a file of examples with the trainer's predictions; the one in the base by default.
    tolerance: the largest difference that is allowed.
    load_only: whether it is enough that a base without examples, such as a folded one, loads.

  Raises:
    ExportError: a file is missing or damaged, the base cannot be loaded, a prediction differs, or
      there was nothing to compare.
  """
  path = str(path).rstrip("/")
  manifest = artifact.read_as(path, BaseManifest)
  artifact.check_files(path, manifest)
  if not examples and extras.EXAMPLES in manifest.files:
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
  if not result["examples"] and not load_only:
    raise ExportError(
      f"{path} loads, but it has no examples with the trainer's predictions, so nothing was "
      "compared: give RawInputs a sample, or exports their examples; or name a file with "
      "--examples; or check only that it loads, with --load-only."
    )
  if not result["difference"] <= tolerance:
    raise ExportError(
      f"{path} does not serve what the trainer predicts: a prediction of {result['examples']} "
      f"examples differs by {result['difference']:.3g}, and {tolerance:.3g} is allowed."
    )
  return Verified(examples=result["examples"], difference=result["difference"], manifest=manifest)
