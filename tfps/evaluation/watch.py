"""Whether training goes on: the chief's port, and the mark that the chief leaves at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfps.checkpoint import ended

if TYPE_CHECKING:
  from tfps.cluster.liveness import ChiefWatch

ENDED = "ended"
_GONE_SECONDS = 3.0


class TrainingWatch:
  """Tells an evaluator when no checkpoint will come any more.

  Training has ended when its mark is there and its chief is gone: the chief takes an older run's
  mark away when it begins. A chief that is gone without a mark may be started again.

  Args:
    folder: the folder of the checkpoints.
    chief: a `tfps.cluster.liveness.ChiefWatch`.
  """

  def __init__(self, folder: str, chief: ChiefWatch) -> None:
    self._folder = folder
    self._chief = chief

  def poll(self) -> str | None:
    """Returns None while training goes on, then `ENDED` or a sentence that the chief is lost."""
    lost = self._chief.poll()
    patience = _GONE_SECONDS if self._chief.seen else self._chief.lost_seconds
    if self._chief.silent_seconds >= patience and ended.is_marked(self._folder):
      return ENDED
    return lost
