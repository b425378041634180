"""Replays an artifact's examples in TensorFlow's C++ session loader.

Run as `python -m tfps.export.checking.replay`, in a process of its own, which knows stock ops only.
It prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np

from tfps.export import extras
from tfps.export.checking.session import SavedModelSession


def replay(path: str, examples: str | None) -> dict[str, Any]:
  """Serves examples, and compares the predictions with the trainer's.

  Args:
    path: the SavedModel.
    examples: a file of `extras.write_examples`; None to load the model only.

  Returns:
    {"examples": how many, "difference": the largest difference of any prediction}.
  """
  session = SavedModelSession(path)
  if examples is None:
    session.close()
    return {"examples": 0, "difference": 0.0}
  inputs, expected = extras.read_examples(examples)
  try:
    served = session.run(inputs)
  finally:
    session.close()
  if set(served) != set(expected):
    raise ValueError(
      f"the model returns {', '.join(sorted(served))}, but the trainer predicted "
      f"{', '.join(sorted(expected))}."
    )
  differences = [
    float(np.max(np.abs(served[name].astype(float) - expected[name]), initial=0))
    for name in expected
  ]
  return {"examples": len(next(iter(inputs.values()))), "difference": max(differences)}


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("path")
  parser.add_argument("examples", nargs="?")
  args = parser.parse_args()
  try:
    result = replay(args.path, args.examples)
  except ValueError as error:
    result = {"error": " ".join(str(error).split())}
  if "tfps.native" in sys.modules:
    result = {"error": "tfps's ops were loaded into the process that checks the export."}
  print(json.dumps(result), flush=True)


if __name__ == "__main__":
  main()
