"""How long tests wait for what must happen, however busy the machine is.

A test waits for an event, and its verdict does not depend on how soon that comes. `PATIENCE` only
ends a test whose event never comes.
"""

import time

PATIENCE = 1200.0  # seconds


def wait_until(condition, alive=lambda: True, said=lambda: ""):
  """Waits until `condition()` is true; returns what it returned.

  Args:
    condition: is called again and again.
    alive: whether that which is waited for can still happen.
    said: is called for the text that a failure shows.

  Raises:
    AssertionError: `alive()` became false, or `PATIENCE` was over.
  """
  deadline = time.monotonic() + PATIENCE
  while not (found := condition()):
    # What it did last before it ended counts.
    if not alive() and not (found := condition()):
      raise AssertionError(f"It ended before this happened. {said()}")
    if found:
      break
    assert time.monotonic() < deadline, f"This did not happen within {PATIENCE:.0f} s. {said()}"
    time.sleep(0.02)
  return found


class Clock:
  """Stands for the module `time` where a test decides how time passes: only by `sleep`."""

  def __init__(self):
    self._now = 1000.0

  def monotonic(self):
    return self._now

  def sleep(self, seconds):
    self._now += seconds
