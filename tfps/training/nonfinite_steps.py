"""Counts the train steps of a run that were not finite, and ends the run at the limit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tfps.errors import NonfiniteError

MOST = 100  # by default
_MOST_NOTICES = 20


class NonfiniteSteps:
  """Counts the steps, tells of them on stderr, and ends the run at the limit.

  Args:
    most: with how many steps the run ends; 0 for no limit.
    count: how many there were before.

  Attributes:
    count: how many there were so far.
  """

  def __init__(self, most: int, count: int = 0) -> None:
    self.count = count
    self._most = most
    self._first: str | None = None
    self._notices = 0

  def add(self, count: int, place_of: Callable[..., str], *arguments: Any) -> None:
    """Counts some more steps.

    Args:
      count: how many.
      place_of: a function of the other arguments that says where the record is that spoilt the
        first of them.
      *arguments: of `place_of`.

    Raises:
      NonfiniteError: the limit is reached.
    """
    if not count:
      return
    self.count += count
    place = None
    if self._first is None or self._notices < _MOST_NOTICES:
      place = place_of(*arguments)
      self._first = self._first or place
    self._notice(count, place)
    if self._most and self.count >= self._most:
      raise NonfiniteError(
        f"the loss or a gradient of {self.count:,} steps was not finite, as many as "
        f"max_nonfinite_steps allows; the first was that with {self._first}: mend what makes it "
        "NaN or infinite, in the data or in the model."
      )

  def _notice(self, count: int, place: str | None) -> None:
    self._notices += 1
    if self._notices <= _MOST_NOTICES:
      steps = "a step was not finite and" if count == 1 else f"{count} steps were not finite and"
      text = f"tfps: {steps} changed no weight; the first was that with {place}."
      print(text, file=sys.stderr, flush=True)
    if self._notices == _MOST_NOTICES:
      text = "tfps: further steps that are not finite are only counted."
      print(text, file=sys.stderr, flush=True)


def check_most(most: Any) -> int:
  """Raises ValueError unless `most` is a limit."""
  if not isinstance(most, int) or isinstance(most, bool) or most < 0:
    raise ValueError(f"max_nonfinite_steps is {most!r}; it must be a whole number, 0 for no limit.")
  return most
