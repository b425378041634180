"""Down-sampling of negatives, and what it does to predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class DownSampling:
  """Trains on all positives and on a share of the negatives.

  `Source.down_sample` leaves the others out. A model that is trained so predicts too much: where p
  is its prediction, q = p / (p + (1 - p) / rate) is that of all data (He et al. 2014, "Practical
  lessons from predicting clicks on ads at Facebook", section 6.3). Set `Model.down_sampling` to the
  same object before `compile`: then whatever the model predicts outside of training, for
  evaluations, exports and clients, is q, and the loss that it is trained with is that of p.

  Attributes:
    rate: which share of the negatives is kept, above 0 and up to 1.
    label: the label of which 0 is a negative: a key of y (dict) or a position (list); the first by
      default. The output that is corrected has this name, or position.
    seed: another one keeps other negatives.
    also: names of other outputs to be corrected, of what happens only where the label is 1, such as
      a click that is followed by a purchase. With the Z = 1 / (p + (1 - p) / rate) of the label, p'
      becomes p' Z. What is left out stays as it is, which is right for the probability of a
      purchase given a click.

  Raises:
    ValueError: a field is out of its range.

  Examples:
    >>> sampling = tfps.data.DownSampling(0.1)
    >>> [round(float(q), 4) for q in sampling.correct(tf.constant([0.5, 0.9]))]
    [0.0909, 0.4737]
    >>> corrected = DeepFM(table, slots=["user_id"], hidden=[8])
    >>> corrected.down_sampling = sampling
    >>> corrected.compile("adam", "binary_crossentropy")
    >>> history = corrected.fit(source.down_sample(sampling), verbose=0)
    >>> q = corrected.predict(source, verbose=0)
  """

  rate: float
  label: str | int | None = None
  seed: int = 0
  also: Sequence[str] = ()

  def __post_init__(self) -> None:
    if not isinstance(self.rate, (int, float)) or not 0 < self.rate <= 1:
      raise ValueError(f"rate is {self.rate!r}; it must be a number above 0, and 1 at most.")
    if not isinstance(self.seed, (int, np.integer)) or not 0 <= self.seed < 2**63:
      raise ValueError(f"seed is {self.seed!r}; it must be a whole number from 0 to 2^63 - 1.")
    if isinstance(self.also, str):
      raise ValueError(f"also is {self.also!r}; it must be a list of outputs' names.")
    object.__setattr__(self, "also", tuple(self.also))

  def correct(self, outputs: Any) -> Any:
    """The predictions of all data, of those of sampled data.

    Args:
      outputs: what a model returns: a float tensor of probabilities, or a dict or list of these.

    Raises:
      ValueError: there is no output of the label's name, or none of a name in `also`.
    """
    key = self._key(outputs)
    p = outputs if key is None else outputs[key]
    if key is None and p.shape.rank == 2 and p.shape[1] not in (1, None):
      raise ValueError(
        f"the model's output has {p.shape[1]} columns, and negatives are down-sampled: return a "
        "dict or a list of one output for each label."
      )
    scale = self._scale(p)
    if key is None:
      return p * scale
    for name in self.also:
      if not isinstance(outputs, dict) or name not in outputs:
        raise ValueError(f"also names '{name}', which is no output of the model.")
    corrected = [key, *self.also]
    if isinstance(outputs, dict):
      return {
        name: one * tf.cast(scale, one.dtype) if name in corrected else one
        for name, one in outputs.items()
      }
    return type(outputs)(one * scale if i == key else one for i, one in enumerate(outputs))

  def _scale(self, p: tf.Tensor) -> tf.Tensor:
    """Z: the probability that an example is in the sampled data."""
    return 1 / (p + (1 - p) / self.rate)

  def _key(self, outputs: Any) -> Any:
    if isinstance(outputs, dict):
      if self.label not in outputs:
        raise ValueError(
          f"label is {self.label!r}, and the model's outputs are {', '.join(outputs)}: name that "
          "by whose label negatives are down-sampled."
        )
      return self.label
    if isinstance(outputs, (list, tuple)):
      return int(self.label or 0)
    return None
