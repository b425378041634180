"""The samples that `tfps join` writes, as what a model trains on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
  from tfps.data.parsing import Parse
  from tfps.data.raw_inputs import RawInputs

SHOW, CLICK = "counts/show", "counts/click"  # Where an example brings its own counts, in x.


def parse_samples(raw: RawInputs, labels: Sequence[str] = ("click",)) -> Parse:
  """Makes the parse function of a source or stream of samples as `tfps join` writes them.

  See docs/join.md.

  x is what `raw` makes of the features, so that training and serving cannot differ, and the show
  and click that each sample adds to its feasigns, which `tfps.Model` counts in the place of its
  weight and label.

  Args:
    raw: the `tfps.data.RawInputs` of the slots.
    labels: names of labels of the join.

  Returns:
    A function of serialized tf.Examples [n] to (x, y, weight): y is float32 [n, 1] and weight
    float32 [n] where there is one label, else {label: ...} of both, for a model whose outputs have
    the labels' names. The weight is that of the example times that of the label, which is 0 where a
    sample says nothing about it.

  Examples:
    >>> raw = tfps.data.RawInputs(
    ...   {"user_id": tf.TensorSpec([None], tf.string)},
    ...   lambda raw: {"user_id": tfps.feasign("user_id", raw["user_id"])},
    ... )
    >>> samples = tfps.data.stream("samples", tfps.data.parse_samples(raw))
    >>> samples.raw_inputs = raw
  """
  labels = tuple(labels)
  if not labels:
    raise ValueError("labels is empty; name at least one label of the join.")

  def parse(records: tf.Tensor) -> tuple:
    number = tf.io.FixedLenFeature([], tf.float32)
    names = ["show", "click", "weight"]
    names += [f"{kind}/{label}" for label in labels for kind in ("label", "weight")]
    parsed = tf.io.parse_example(records, dict.fromkeys(names, number))
    x = {
      **raw.features(raw.parse_examples(records)),
      SHOW: parsed["show"],
      CLICK: parsed["click"],
    }
    y = {label: parsed[f"label/{label}"][:, tf.newaxis] for label in labels}
    weight = {label: parsed["weight"] * parsed[f"weight/{label}"] for label in labels}
    if len(labels) == 1:
      return x, y[labels[0]], weight[labels[0]]
    return x, y, weight

  return parse
