"""The quality of click predictions, counted as they come, in constant memory."""

from __future__ import annotations

from typing import Any

import numpy as np

_BUCKETS = 1 << 16
_LEAST_PROBABILITY = 1e-7


class ClickScores:
  """AUC, log loss and calibration of predicted click probabilities.

  Predictions are counted in 65,536 buckets of equal width. The AUC is exact, except that a click
  and a non-click in the same bucket count as one half.
  """

  def __init__(self) -> None:
    self._clicks = np.zeros(_BUCKETS)
    self._others = np.zeros(_BUCKETS)
    self._log_loss = 0.0
    self._predicted = 0.0

  def update(self, label: Any, prediction: Any, weight: Any = None) -> None:
    """Counts predictions.

    Args:
      label: array of any shape, 1 for a click and 0 for none, or between.
      prediction: array of the same number of elements, probabilities in [0, 1].
      weight: array of the same number of elements; 1 for each where None.

    Raises:
      ValueError: if the numbers of elements differ, or a prediction is no probability.
    """
    label, prediction = (np.asarray(part, np.float64).reshape(-1) for part in (label, prediction))
    weight = np.ones_like(label) if weight is None else np.asarray(weight, np.float64).reshape(-1)
    if not label.size == prediction.size == weight.size:
      raise ValueError(
        f"there are {label.size} labels, {prediction.size} predictions and {weight.size} weights: "
        "a click model has one of each per example."
      )
    if not np.all((prediction >= 0) & (prediction <= 1)):
      raise ValueError("a prediction is NaN or not in [0, 1]: the model must end in a probability.")
    bucket = np.minimum((prediction * _BUCKETS).astype(np.int64), _BUCKETS - 1)
    self._clicks += np.bincount(bucket, weight * label, _BUCKETS)
    self._others += np.bincount(bucket, weight * (1 - label), _BUCKETS)
    clipped = np.clip(prediction, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    self._log_loss -= np.sum(weight * (label * np.log(clipped) + (1 - label) * np.log1p(-clipped)))
    self._predicted += np.sum(weight * prediction)

  def merge(self, other: ClickScores) -> None:
    """Adds the counts of `other`."""
    self._clicks += other._clicks
    self._others += other._others
    self._log_loss += other._log_loss
    self._predicted += other._predicted

  @property
  def auc(self) -> float:
    """Probability that a random click is predicted above a random non-click; NaN without both."""
    pairs = self._clicks.sum() * self._others.sum()
    below = np.cumsum(self._others) - self._others
    return (
      float(np.sum(self._clicks * (below + self._others / 2)) / pairs) if pairs else float("nan")
    )

  @property
  def log_loss(self) -> float:
    """Mean cross entropy in nats; NaN without predictions."""
    total = self._clicks.sum() + self._others.sum()
    return float(self._log_loss / total) if total else float("nan")

  @property
  def calibration(self) -> float:
    """Mean prediction over mean label; NaN without clicks."""
    clicks = self._clicks.sum()
    return float(self._predicted / clicks) if clicks else float("nan")

  def __str__(self) -> str:
    return f"AUC {self.auc:.4f}   log loss {self.log_loss:.4f}   calibration {self.calibration:.3f}"

  def as_dict(self) -> dict[str, float]:
    """The same as JSON values."""
    return {"auc": self.auc, "log_loss": self.log_loss, "calibration": self.calibration}


def grouped_auc(label: Any, prediction: Any, group: Any) -> float:
  """GAUC: the mean of the AUC within each group (user), weighted by its examples.

  Groups without both a click and a non-click do not count (Zhu et al. 2017).

  Args:
    label, prediction, group: arrays [n].

  Returns:
    NaN if no group counts.
  """
  # Ranks within each group give its AUC by the Mann-Whitney statistic; ties share the mean rank.
  order = np.lexsort((prediction, group))
  label, prediction, group = (np.asarray(part)[order] for part in (label, prediction, group))
  starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
  sizes = np.diff(np.r_[starts, len(group)])
  rank = np.arange(len(group)) - np.repeat(starts, sizes) + 1.0
  ties = np.flatnonzero(
    np.r_[True, (prediction[1:] != prediction[:-1]) | (group[1:] != group[:-1])]
  )
  tied = np.diff(np.r_[ties, len(group)])
  rank = np.repeat(np.add.reduceat(rank, ties) / tied, tied)
  clicks = np.add.reduceat(label, starts)
  pairs = clicks * (sizes - clicks)
  above = np.add.reduceat(rank * label, starts) - clicks * (clicks + 1) / 2
  counts = pairs > 0
  return (
    float(np.average(above[counts] / pairs[counts], weights=sizes[counts]))
    if counts.any()
    else float("nan")
  )
