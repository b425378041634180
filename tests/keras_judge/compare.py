"""Whether two ways saw the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tests.keras_judge.feature import Feature
from tests.keras_judge.ways import Seen

# Sums of float32 in another order; Adam divides by roots of such sums.
ROUNDING = 2e-4, 2e-6  # relative, absolute


def differences(expected: Seen, found: Seen, only: str = "", rounding: float = 0.0) -> list[str]:
  """What differs, one sentence each; of the values whose names match the regex `only`.

  They may differ by a share or an amount of `rounding`, and by what float32 makes of sums.
  """
  if expected.error:
    return [f"on arrays it ends in {expected.error}\n{expected.values.get('traceback', '')}"]
  if found.error:
    return [f"it ends in {found.error}\n{found.values.get('traceback', '')}"]
  names = [name for name in expected.values if re.search(only, name)]
  others = [name for name in found.values if re.search(only, name)]
  if not names:
    return [f"nothing that is seen matches {only!r}: {', '.join(expected.values)}"]
  told = [f"{name} is missing" for name in names if name not in others]
  told += [f"{name} is there" for name in others if name not in names]
  for name in names:
    if name in others:
      told += _different(name, expected.values[name], found.values[name], rounding)
  return told


def refusal(found: Seen, sentence: str) -> list[str]:
  """What is wrong with how a program was refused."""
  if not found.error:
    return ["it is not refused"]
  if not re.search(sentence, found.error):
    return [f"it is refused with {found.error!r}\n{found.values.get('traceback', '')}"]
  if "\n" in found.error:
    return [f"the refusal is not one sentence: {found.error!r}"]
  return []


def _different(name: str, one: Any, other: Any, rounding: float) -> list[str]:
  rtol, atol = (max(rounding, least) for least in ROUNDING)
  try:
    tf.nest.assert_same_structure(one, other)
  except (TypeError, ValueError):
    return [f"{name} is {other!r} where {one!r} is right"]
  for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other)):
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
      return [f"{name} has shape {b.shape} where {a.shape} is right"]
    same = np.array_equal(a, b)
    if a.dtype.kind in "fc" and b.dtype.kind in "fciu":
      same = np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True)
    if not same:
      return [f"{name} is\n{b}\nwhere\n{a}\nis right"]
  return []


def in_one_process(feature: Feature, found: Seen, expected: Callable[[], Seen]) -> list[str]:
  """What is wrong with a feature, where its program did this in one process.

  Args:
    feature: the `Feature`.
    found: what its program did.
    expected: returns what it did on arrays; not called where it is to be refused.
  """
  if feature.refused:
    return refusal(found, feature.refused)
  return differences(expected(), found, feature.only, feature.rounding)


def on_a_cluster(feature: Feature, found: Seen, expected: Callable[[], Seen]) -> list[str]:
  """The same on a cluster."""
  refused = feature.refused_on_cluster or feature.refused
  if refused:
    return refusal(found, refused)
  only = feature.only_on_cluster or feature.only
  return differences(expected(), found, only, feature.rounding)
